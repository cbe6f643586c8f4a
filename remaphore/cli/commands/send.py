"""`remaphore send`, `remaphore -s`: send a message. No plugin is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from remaphore.cli import output, requests
from remaphore.errors import RemaphoreError, UsageError

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.cli.route import Route
    from remaphore.config.settings import Config

_AT_ONCE = 100  # messages that wait for the broker's confirmation together; each is one signature and two copies

SUMMARY = "send a message"
EXAMPLE = """\
remaphore send --id upload_done
remaphore send --to 'com.example.**' --verb deploy v42"""
EXIT_CODES = {0: "the broker has the message"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(requests.OutgoingMessage):
    """Options of send. report: write the id to a terminal; it does not count when options are compared."""

    report: bool = field(default=False, compare=False)

    @classmethod
    def from_arguments(
        cls,
        *,
        to: tuple[str, ...],
        files: tuple[str, ...],
        excluded: tuple[str, ...],
        verb: str | None,
        payload: tuple[str, ...],
        **given: Any,
    ) -> Send:
        """Return the options of what the parser has read. Raise UsageError."""
        if excluded:
            what = "send cannot leave destinations out: receivers that are not in the configuration would be lost"
            raise UsageError(what, hint="name the destinations with --to, or use request --except for known ones")
        message = requests.message_options(to=to, files=files, verb=verb, payload=payload)
        _check_patterns([message["to"]] if "to" in message else [])
        return cls(**given, **message, report=True)


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    import argparse

    from remaphore.cli.arguments import seconds
    from remaphore.cli.selection import EXPLAINED

    parser.description = (
        "Send a message and do not wait for replies. The command ends once the broker has the message. Each"
        f" of several destinations gets a message of its own. {EXPLAINED}"
    )
    requests.add_message(parser)
    parser.add_argument("--except", dest="excluded", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument(
        "--timeout", type=seconds, metavar="TIME", help="give up connecting after TIME (default, and at most: 10s)"
    )
    parser.set_defaults(options=Send.from_arguments)


def run(options: Send) -> int:
    """Send; return 0 once the broker has the message."""
    from remaphore import tasks
    from remaphore.cli.route import choose
    from remaphore.protocol.message import random_id, show_id, uuid_from_text

    requests.check_names(key=options.key, subject_name=options.subject)
    route = choose(options.config, agent=options.agent, direct=options.direct)
    config = route.config
    config.sender(options.verb, options.key)  # raises before the connection if no identity may send the verb
    requests.check_words(options, config)
    patterns = _patterns(options, config)
    payload = requests.read_payload(options)
    if options.report:
        options = replace(options, id=options.id or random_id())  # one for all patterns
    tasks.run(send(options, route, payload, patterns))  # not asyncio.run: a lookup may outlast the timeout
    if options.report and sys.stderr.isatty():  # elsewhere, such as in cron's mail, success is silent
        output.notice(f"sent (id {show_id(uuid_from_text(options.id))})")
    return 0


def _patterns(options: Send, config: Config) -> tuple[str, ...]:
    """Return the patterns to send to."""
    if options.selection is None:
        return (options.to,)
    from remaphore.cli.selection import known_destinations

    patterns = options.selection.patterns(known_destinations(config))
    _check_patterns(patterns)
    return patterns


def _check_patterns(patterns: Sequence[str]) -> None:
    """Raise UsageError for a pattern that no destination can match: its message would be lost without an error."""
    from remaphore.requesting.suggestion import LEVELS, pattern_problem

    for pattern in patterns:
        if problem := pattern_problem(pattern):
            raise UsageError(f"no destination can match {pattern!r}: {problem}", hint=LEVELS)


async def send(options: Send, route: Route, payload: str | bytes, patterns: Sequence[str]) -> None:
    """Connect and send a message to each of *patterns*, within the timeout of *options*.

    Raise what the first failed message raises; with several messages, it says how many the broker has.
    """
    import asyncio
    from functools import partial

    from remaphore.node import CONNECT_SECONDS
    from remaphore.tasks import spawn

    loop = asyncio.get_running_loop()
    limit = min(options.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    deadline = loop.time() + limit
    async with route.connect(timeout=limit, on_notice=output.notice) as node:
        # If the connection is lost now, there is the rest of the time to reconnect, then a limited time to confirm.
        for start in range(0, len(patterns), _AT_ONCE):
            compose = partial(
                node.send,
                options.verb,
                payload=payload,
                id=options.id,
                key=options.key,
                subject_name=options.subject,
                timeout=max(0.0, deadline - loop.time()),
            )
            part = patterns[start : start + _AT_ONCE]
            sending = [spawn(compose(to=pattern), name=f"send to {pattern}") for pattern in part]
            results = await asyncio.gather(*sending, return_exceptions=True)
            errors = [result for result in results if isinstance(result, BaseException)]
            if errors:
                sent = start + len(results) - len(errors)
                raise _with_number(errors[0], sent, len(patterns))


def _with_number(error: BaseException, sent: int, number: int) -> BaseException:
    """Return *error* of one of *number* messages, with how many were *sent*."""
    if number == 1 or not isinstance(error, RemaphoreError):
        return error
    return type(error)(f"{error} (the broker has {sent} of {number} messages)", hint=error.hint)
