"""`remaphore wait`: wait until enough nodes have sent a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output, requests
from remaphore.cli.commands.request import EXIT_MISSING
from remaphore.protocol.match import ALL

if TYPE_CHECKING:
    import pluggy

    from remaphore.cli.arguments import Parser
    from remaphore.cli.writer import Writer
    from remaphore.config.settings import Config
    from remaphore.node import Node
    from remaphore.protocol.message import Message
    from remaphore.protocol.quorum import Requirement
    from remaphore.receiving.wait import Wait as Waiting

SUMMARY = "wait until several nodes have sent a message"
EXAMPLE = """\
remaphore wait --count all --from 'com.example.db.*' --id dumped && ./migrate
remaphore wait --count 2 --from 'com.example.web.*' --verb ready --timeout 2h"""
EXIT_CODES = {
    0: "enough nodes were heard",
    1: "none was heard before the timeout",
    EXIT_MISSING: "some were heard before the timeout, but not enough",
}

# For the replies to those that requested one, once everything else is done.
REPLY_SECONDS = 5.0
_MANY = 8  # names; up to here a plain list is as easy to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Options of wait. count: how many of the peers that match *pattern* are enough. timeout: seconds, None: none."""

    config: str | None = None
    subject: str = ""
    count: Requirement
    pattern: str = ALL
    verbs: tuple[str, ...] = ()
    id: str = ""
    timeout: float | None = None
    json: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json, add_verbs, requirement, seconds

    parser.description = (
        "Wait until enough nodes have sent a message to this one. Each node counts once, however many messages it "
        "sends and keys it has. A line DESTINATION,PAYLOAD is printed for each, as it is heard."
    )
    add_config(parser)
    requests.add_subject(parser)
    parser.add_argument(
        "--count",
        type=requirement,
        metavar="N|N%|all",
        default="1",
        help="how many nodes are enough: a number, a percentage, rounded up, or all (default: 1)",
    )
    parser.add_argument(
        "--from",
        dest="pattern",
        metavar="PATTERN",
        default=ALL,
        help="wait for the peers that match it, and may send the verb to this node (default: ** for all)",
    )
    add_verbs(parser, "--verb", text="accept only these verbs; repeatable (default: all)")
    parser.add_argument("--id", metavar="TEXT", default="", help="accept only this id")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        help="give up after TIME, such as 10m, and name the missing nodes (default: no limit)",
    )
    add_json(parser, "print one JSON object at the end")
    parser.set_defaults(options=Wait)


def run(options: Wait) -> int:
    """Wait; return 0 if enough nodes were heard, 1 if none was, 4 if some were. Raise UsageError if there are fewer."""
    from remaphore import tasks
    from remaphore.cli.configuration import load_config
    from remaphore.cli.writer import Writer
    from remaphore.hooks.manager import configure, load
    from remaphore.protocol.peers import names
    from remaphore.requesting.selection import expect_senders

    requests.check_names(key="", subject_name=options.subject)
    config = load_config(options.config)
    options.count.of(len(names(expect_senders(config, options.pattern, options.verbs or None))))
    config.identity().load()  # a node that cannot sign its replies fails here and not at the first message
    output.configure_logs()
    plugins = load(("log",))
    configure(plugins, config)
    writer = Writer()
    with writer.streams():
        waiting = tasks.run(wait(options, config, plugins, writer))
    if waiting.met:
        return 0
    return EXIT_MISSING if waiting.heard else 1


async def wait(options: Wait, config: Config, plugins: pluggy.PluginManager, writer: Writer) -> Waiting:
    """Wait until the end, and print what is heard; return the wait. Raise TransportError if it could not begin."""
    import structlog

    from remaphore.hooks.dispatch import emit_plain
    from remaphore.node import connect
    from remaphore.receiving.throttle import DropThrottle
    from remaphore.tasks import deadline_after, seconds_until

    deadline = deadline_after(options.timeout)
    rows: list[dict[str, object]] = []
    drops = DropThrottle(lambda drop: emit_plain(plugins.hook.remaphore_dropped, drop=drop))
    async with (
        connect(config, timeout=options.timeout, on_notice=output.notice) as node,
        node.wait(
            str(options.count),
            sender_pattern=options.pattern,
            verbs=options.verbs or None,
            id=options.id or None,
            subject_name=options.subject,
            timeout=seconds_until(deadline),
            on_drop=drops.add,
        ) as waiting,
    ):
        if output.at_terminal():
            output.notice(describe(options, config, waiting))
        structlog.get_logger().info("Ready")
        try:
            await _hear(options, node, waiting, rows)
        finally:
            drops.close()
            _write_result(options, waiting, rows)
            await writer.drained()
    return waiting


async def _hear(options: Wait, node: Node, waiting: Waiting, rows: list[dict[str, object]]) -> None:
    """Print messages, or with --json add them to *rows*, and answer them, until the end of *waiting*."""
    import asyncio

    from remaphore.tasks import spawn

    replies: set[asyncio.Task[None]] = set()
    async for message, first in waiting.events():
        if first and options.json:
            rows.append(_to_row(message))
        elif first:
            output.write(to_line(message))
        if first and not waiting.met and output.at_terminal():
            output.notice(f"{len(waiting.heard)} of {waiting.required} heard, waiting for {_listed(waiting.missing)}")
        if message.wants_reply:  # also to one that does not count: its sender may not know that we have heard it
            reply = spawn(_reply(node, message), name="reply")
            replies.add(reply)
            reply.add_done_callback(replies.discard)
    if replies:
        await asyncio.wait(replies, timeout=REPLY_SECONDS)


async def _reply(node: Node, message: Message) -> None:
    from remaphore.errors import RemaphoreError, with_hint

    try:
        await node.reply(message, 0)
    except RemaphoreError as error:
        output.notice(with_hint(f"warning: no reply to {message.sender_name}: {error}", error.hint))


def describe(options: Wait, config: Config, waiting: Waiting) -> str:
    """Return for which messages of which nodes the command waits, and how to end it."""
    from remaphore.protocol import subject

    number = "all" if waiting.required == len(waiting.expected) else f"{waiting.required} of"
    parts = [f"waiting for {number} {_listed(waiting.expected)}"]
    parts += [f"with the id {options.id!r}"] if options.id else []
    parts += [f"with the verb {' or '.join(options.verbs)}"] if options.verbs else []
    parts += [f"to {config.destination} on the subject {subject.for_messages(config.subject, options.subject)}"]
    return f"{', '.join(parts)}; Ctrl-C ends it"


def to_line(message: Message) -> str:
    """Return the sender and the payload of *message* as one printable line, on a terminal wrapped."""
    payload = message.payload.decode(errors="backslashreplace")
    return output.wrap(output.printable(f"{message.sender_name},{payload}"), indent=4)


def _write_result(options: Wait, waiting: Waiting, rows: list[dict[str, object]]) -> None:
    if options.json:
        output.write_json(to_document(waiting, rows))
    missing = "" if waiting.met else f"; missing: {_listed(waiting.missing)}"
    output.notice(f"{len(waiting.heard)} of {waiting.required} heard{missing}")


def to_document(waiting: Waiting, rows: list[dict[str, object]]) -> dict[str, object]:
    """Return the state of *waiting*, and *rows* for its messages, as --json prints them (docs/wait.schema.json)."""
    return {
        "required": waiting.required,
        "met": waiting.met,
        "expected": list(waiting.expected),
        "heard": list(waiting.heard),
        "missing": list(waiting.missing),
        "messages": rows,
    }


def _to_row(message: Message) -> dict[str, object]:
    import base64

    row: dict[str, object] = {
        "peer": message.sender_name,
        "verb": message.verb,
        "id": message.id,
        "id_hex": message.uuid.hex(),
        "time_ns": message.time_ns,
        "payload": message.payload.decode(errors="replace"),
    }
    try:
        message.payload.decode()
    except UnicodeDecodeError:
        row["payload_base64"] = base64.b64encode(message.payload).decode()
    return row


def _listed(names: Sequence[str]) -> str:
    from remaphore import nodeset

    return nodeset.fold(names) if len(names) > _MANY else ", ".join(names)
