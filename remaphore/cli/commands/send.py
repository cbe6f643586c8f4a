"""`remaphore send`, `remaphore -s`: send a message. No plugin is loaded."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remaphore.cli import output, requests

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.protocol.message import Message

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
    def from_arguments(cls, *, payload: tuple[str, ...], **given: Any) -> Send:
        """Return the options of what the parser has read. Raises UsageError."""
        return cls(**given, **requests.payload_options(payload), report=True)


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import seconds

    parser.description = "Send a message and do not wait for replies. The command ends once the broker has the message."
    requests.add_message(parser)
    parser.add_argument(
        "--timeout", type=seconds, metavar="TIME", help="give up connecting after TIME (default, and at most: 10s)"
    )
    parser.set_defaults(options=Send.from_arguments)


def run(options: Send) -> int:
    """Send; return 0 once the broker has the message."""
    from remaphore import tasks
    from remaphore.cli.configuration import load_config

    requests.check_names(key=options.key, subject_name=options.subject)
    config = load_config(options.config)
    config.sender(options.verb, options.key)  # raises before the connection if no identity may send the verb
    payload = requests.read_payload(options)
    # Not asyncio.run: a lookup of a host name may outlast the timeout.
    message = tasks.run(send(options, config, payload))
    if options.report and sys.stderr.isatty():  # elsewhere, such as in cron's mail, success is silent
        output.notice(f"sent (id {message.id})")
    return 0


async def send(options: Send, config: Config, payload: str | bytes) -> Message:
    """Connect and send, within the timeout of *options*; return what was sent."""
    import asyncio

    from remaphore.node import CONNECT_SECONDS, connect
    from remaphore.protocol.message import random_id

    loop = asyncio.get_running_loop()
    limit = min(options.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    deadline = loop.time() + limit
    async with connect(config, timeout=limit, on_notice=output.notice) as node:
        # If the connection is lost now, there is the rest of the time to reconnect, then a limited time to confirm.
        return await node.send(
            options.verb,
            to=options.to,
            payload=payload,
            id=options.id or (random_id() if options.report else ""),
            key=options.key,
            subject_name=options.subject,
            timeout=max(0.0, deadline - loop.time()),
        )
