"""`remaphore explain`: why a message is accepted or dropped, check by check, and what would run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remaphore.cli import output, requests, sources
from remaphore.errors import EncodeError, KeyFormatError, UsageError
from remaphore.protocol.match import ALL

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.diagnostics.explain import Explainer, Explanation

SUMMARY = "explain check by check why a message is accepted or dropped"
EXAMPLE = """\
remaphore explain --from com.example.one --verb deploy
remaphore explain message.bin"""
EXIT_CODES = {0: "all messages are accepted", 1: "at least one message is dropped"}

FIRST_NANOSECONDS = 10**15  # in nanoseconds a day in 1970, in seconds thirty million years from now
_MAX_SHOWN = 100  # characters of a field


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Options of explain. files: of messages, none for stdin. at: time of arrival in Unix nanoseconds, None for now.

    sender: a public key or a destination; if it is given, there is no message, and the question is whether one of it
    with *verb* to each of *to* would be accepted. pattern, any_destination, id, verbs, key: filters of a receiver.
    """

    config: str | None = None
    hooks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    base64: bool = False
    at: int | None = None
    sender: str = ""
    verb: str = requests.DEFAULT_VERB
    to: tuple[str, ...] = (ALL,)
    pattern: str = ""
    any_destination: bool = False
    id: str = ""
    verbs: tuple[str, ...] = ()
    key: str = ""
    json: bool = False

    @classmethod
    def from_arguments(cls, *, verb: str | None, to: tuple[str, ...], **given: Any) -> Explain:
        """Return the options of what the parser has read. Raise UsageError."""
        if given["sender"] and (given["files"] or given["base64"]):
            raise UsageError("--from cannot be combined with a message", hint="give only one of the two")
        if not given["sender"] and (verb is not None or to):
            raise UsageError(
                "--verb and --to need --from", hint="add --from KEY|DESTINATION; the filters are -v and -D"
            )
        verb = requests.DEFAULT_VERB if verb is None else verb
        return cls(**given, verb=verb, to=to or (ALL,))


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_daemon, add_json, add_verbs

    parser.usage = "remaphore explain [OPTION...] [FILE...]"
    parser.description = (
        "Explain check by check why a message is accepted or dropped, which setting decides that, and what would run."
    )
    add_daemon(parser)
    parser.add_argument("files", metavar="FILE", nargs="*", help="file with one message (default: -, for stdin)")
    parser.add_argument("--base64", action="store_true", help="read one message in base64 per line of FILE")
    parser.add_argument(
        "--at",
        type=_instant,
        metavar="TIME",
        help="time of arrival in Unix seconds, such as 1700000000.5; from 10^15 on, in nanoseconds (default: now)",
    )
    add_json(parser)
    question = parser.add_argument_group("question without a message")
    question.add_argument(
        "--from", dest="sender", metavar="KEY|DESTINATION", default="", help="peer that sends and signs the message"
    )
    question.add_argument("--verb", metavar="VERB", help=f"kind of message (default: {requests.DEFAULT_VERB})")
    question.add_argument(
        "--to", metavar="NODES", action="append", default=[], help="destinations; repeatable (default: ** for all)"
    )
    receiver = parser.add_argument_group("filters of the receiver (the daemon has none)")
    where = receiver.add_mutually_exclusive_group()
    where.add_argument(
        "-D", dest="pattern", metavar="PATTERN", default="", help="accept only messages sent to exactly this pattern"
    )
    where.add_argument("-d", dest="any_destination", action="store_true", help="accept messages to other nodes too")
    receiver.add_argument("-u", dest="id", metavar="TEXT", default="", help="accept only this id")
    add_verbs(receiver, "-v", text="accept only these verbs; repeatable")
    receiver.add_argument(
        "-p", dest="key", metavar="KEY", default="", help="accept only messages signed by this public key"
    )
    parser.set_defaults(options=Explain.from_arguments)


def _instant(text: str) -> int:
    """Return Unix nanoseconds."""
    import argparse
    import re

    found = re.fullmatch(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?", text)
    if found is None:
        hint = "write 1700000000, 1700000000.5 or nanoseconds"
        raise argparse.ArgumentTypeError(f"{text!r} is not a Unix time") from UsageError(hint=hint)
    whole, fraction = int(found[1]), found[2]
    if fraction is None and whole >= FIRST_NANOSECONDS:
        return whole
    return whole * 10**9 + int((fraction or "").ljust(9, "0"))


def run(options: Explain) -> int:
    """Explain; return 0 if all messages are accepted, 1 if one is dropped."""
    import time
    from functools import partial

    from remaphore.cli.commands.hooks import load_handlers
    from remaphore.cli.selection import expand, known_destinations
    from remaphore.diagnostics.explain import Explainer, ask_plan, silent_plugins

    requests.check_names(key=options.key)
    config, plugins = load_handlers(options.config, options.hooks)
    options = replace(options, to=expand("--to", options.to, known_destinations(config)))
    filters = requests.make_filters(
        pattern=options.pattern,
        any_destination=options.any_destination,
        id=options.id,
        verbs=options.verbs,
        key=options.key,
    )
    silent = silent_plugins(plugins)
    explainer = Explainer(config, filters=filters, plan=partial(ask_plan, plugins))
    now = time.time_ns() if options.at is None else options.at
    explanations = answer(explainer, options, now) if options.sender else judge(explainer, options, now)
    dropped = False
    for source, explanation in explanations:
        if options.json:
            output.write_json(to_row(source, explanation))
        else:
            output.write(format_explanation(source, explanation, silent))
        dropped = dropped or explanation.reason is not None
    return 1 if dropped else 0


def answer(explainer: Explainer, options: Explain, now: int) -> Iterator[tuple[str, Explanation]]:
    """Yield what would happen to a message of each key of the sender to each of the destinations."""
    import itertools

    from remaphore.config.peer_line import secret_problem
    from remaphore.protocol import keys

    senders: Sequence[str] = explainer.senders(options.sender)
    if not senders:
        try:
            keys.decode_public(options.sender)
        except KeyFormatError:
            secret = secret_problem(options.sender)
            if secret is not None:
                raise UsageError(f"--from: {secret.what}", hint=secret.hint) from None
            raise UsageError(
                f"--from: {options.sender!r} is neither the destination of a peer nor a public key",
                hint="remaphore peer list shows destinations and keys",
            ) from None
        senders = [options.sender]
    for key, to in itertools.product(senders, options.to):
        try:
            explanation = explainer.explain_question(sender=key, verb=options.verb, to=to, now=now)
        except EncodeError as error:
            raise UsageError(f"no such message is possible: {error}", hint=error.hint) from None
        yield f"{options.verb} from {options.sender} to {to}", explanation


def judge(explainer: Explainer, options: Explain, now: int) -> Iterator[tuple[str, Explanation]]:
    """Yield what happens to each message of the files."""
    import base64
    import binascii

    for name in options.files or (sources.STDIN,):
        source, raw = sources.title(name), sources.read(name, what="message")
        if not options.base64:
            yield source, explainer.explain(raw, now=now)
            continue
        lines = raw.splitlines()
        if not lines:
            raise UsageError(f"{source}: empty", hint="write one message in base64 per line")
        for number, line in enumerate(lines, 1):
            try:
                message = base64.b64decode(line.strip(), validate=True)
            except binascii.Error as error:
                hint = "write one message in base64 per line"
                raise UsageError(f"{source}:{number}: not base64: {error}", hint=hint) from None
            yield f"{source}:{number}", explainer.explain(message, now=now)


def _fields(explanation: Explanation) -> dict[str, object] | None:
    from remaphore.diagnostics.explain import Contents
    from remaphore.protocol.message import show_id

    frame = explanation.frame
    if frame is None:
        return None
    fields: dict[str, object] = {
        "sender": frame.sender,
        "peer": explanation.peer and explanation.peer.destination,
        "destination": frame.destination,
        "verb": frame.verb,
        "time_ns": frame.time_ns,
    }
    if explanation.contents is not Contents.HYPOTHETICAL:
        fields |= {"id": show_id(frame.uuid), "id_hex": frame.uuid.hex()}
        fields |= {"wants_reply": frame.wants_reply, "payload_bytes": len(frame.payload)}
    return fields


def to_row(source: str, explanation: Explanation) -> dict[str, object]:
    """Return *explanation* as the object that --json prints."""
    from dataclasses import asdict

    return {
        "source": source,
        "size": explanation.size,
        "verdict": explanation.verdict,
        "reason": explanation.reason,
        "exact": explanation.exact,
        "checks": [asdict(check) for check in explanation.checks],
        "contents": explanation.contents,
        "fields": _fields(explanation),
        "steps": [asdict(step) for step in explanation.steps],
    }


def format_explanation(source: str, explanation: Explanation, silent: Sequence[str]) -> str:
    """Return *explanation* as lines for people. silent: as of `format_steps`."""
    from remaphore.cli.commands.hooks import format_steps
    from remaphore.diagnostics.explain import Contents

    headings = {
        Contents.VERIFIED: "verified",
        Contents.CLAIMED: "claimed by the sender and not verified",
        Contents.HYPOTHETICAL: "hypothetical, signed by the sender at the time of arrival",
    }
    size = f", {explanation.size} bytes" if explanation.contents is not Contents.HYPOTHETICAL else ""
    why = f", {explanation.reason}" if explanation.reason else ""
    text = output.wrap(output.printable(f"{source}{size}: {explanation.verdict}{why}"), indent=2)
    frame = explanation.frame  # an accepted message has one
    width = max(len(check.decided_by) for check in explanation.checks)
    for check in explanation.checks:
        line = f"  {check.check:<13} {check.state:<13} {check.decided_by:<{width}}  {check.detail}"
        text += output.wrap(output.printable(line).rstrip(), indent=30)
    fields = _fields(explanation)
    if fields is not None:
        text += f"fields, {headings[explanation.contents]}:\n"
        for name, value in fields.items():
            # In ASCII, so that look-alike letters and characters that reverse a line are visible.
            shown = ascii(value)
            rest = f"... ({len(shown)} characters)" if len(shown) > _MAX_SHOWN else ""
            text += output.wrap(f"  {name:<13} {shown[:_MAX_SHOWN]}{rest}", indent=16)
    if explanation.reason is None and frame is not None:
        text += f"would run:\n{format_steps(explanation.steps, frame.verb, silent)}"
    return text
