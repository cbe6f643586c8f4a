"""Messages and filters: what send, request, receive and explain share, whichever syntax they were typed in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remaphore.cli import output
from remaphore.errors import UsageError
from remaphore.protocol.match import ALL

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.cli.selection import Selection
    from remaphore.config.settings import Config
    from remaphore.protocol.gate import Filters

DEFAULT_VERB = "ping"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """Options of send and request.

    config, agent, direct: see `remaphore.cli.route`. subject: last part of the NATS subject. to: pattern of
    destinations; it is not used with *selection*, which selects several. words: the words of the payload if the command
    line *typed* has neither --to nor --verb, see `check_words`. id: text that receivers wait for. key: public key of
    the identity that signs. source: file with the payload, `-` for stdin; if empty, *payload* is it. timeout: seconds,
    None for no limit.
    """

    config: str | None = None
    agent: str | None = None
    direct: bool = False
    subject: str = ""
    to: str = ALL
    selection: Selection | None = None
    words: tuple[str, ...] = field(default=(), compare=False)
    typed: tuple[str, ...] = field(default=(), compare=False)
    verb: str = DEFAULT_VERB
    id: str = ""
    key: str = ""
    payload: str = ""
    source: str = ""
    timeout: float | None = None


def add_subject(parser: Parser) -> None:
    """Add the last part of the subject."""
    parser.add_argument(
        "-S", "--subject", metavar="NAME", default="", help="use the subject ROOT.NAME (default: ROOT.all)"
    )


def add_message(parser: Parser) -> None:
    """Add the arguments that describe a message."""
    from remaphore.cli.route import add_route
    from remaphore.cli.selection import add_destinations

    add_route(parser)
    add_subject(parser)
    add_destinations(parser)
    parser.add_argument("--verb", metavar="VERB", help=f"kind of message (default: {DEFAULT_VERB})")
    parser.add_argument("--id", metavar="TEXT", default="", help="text that receivers can wait for")
    parser.add_argument(
        "--from",
        dest="key",
        metavar="KEY",
        default="",
        help="sign with the identity of this public key",
    )
    parser.add_argument(
        "payload",
        metavar="PAYLOAD",
        nargs="*",
        help="words to send; @FILE sends a file, - sends stdin",
    )
    parser.set_defaults(typed=())


def message_options(
    *,
    to: tuple[str, ...],
    files: tuple[str, ...],
    verb: str | None,
    payload: tuple[str, ...],
    excluded: tuple[str, ...] = (),
    retry: str = "",
) -> dict[str, Any]:
    """Return the fields of `OutgoingMessage` that depend on several options. Raise UsageError."""
    from remaphore.cli.selection import Selection

    chosen = Selection.of(to=to, files=files, excluded=excluded, retry=retry)
    fields = payload_options(payload)
    if isinstance(chosen, Selection):
        chosen.check_stdin(fields.get("source", ""))
        fields["selection"] = chosen
    else:
        fields["to"] = chosen
    named = bool(to or retry or verb is not None)
    return {**fields, "verb": DEFAULT_VERB if verb is None else verb, "words": () if named else payload}


def check_words(options: OutgoingMessage, config: Config) -> None:
    """Raise UsageError if the first word of the payload is a destination: `remaphore request com.web.1 deploy v1`.

    Only a command line with neither --to nor --verb is checked. Without this, all peers would be sent a `ping` with
    these words as its payload.
    """
    import shlex

    from remaphore import nodeset
    from remaphore.cli.selection import known_destinations
    from remaphore.protocol.match import matches
    from remaphore.requesting.suggestion import similar

    if not options.words:
        return
    first, *rest = options.words
    known = known_destinations(config)  # our own too: a message to it from here is a mistake as well
    try:
        patterns = nodeset.expand(first, known)
    except UsageError:
        return
    meant = first
    if not any(matches(name, pattern) for pattern in patterns for name in known):
        meant = next(iter(similar(first, known)), "") if "." in first and nodeset.is_plain(first) else ""
    if meant:
        what = f"{first!r} is a destination, and would be sent as text to all peers"
        if meant != first:
            what = f"{first!r} looks like the destination {meant!r}, and would be sent as text to all peers"
        line = shlex.join(["remaphore", *_corrected(options, meant, rest)])
        raise UsageError(what, hint=f"write {line}; to send this text, add --verb {options.verb}")


def warn_of_default_verb(options: OutgoingMessage) -> None:
    """Warn a user at a terminal of a payload without --verb.

    `remaphore request --to com.web.1 deploy v1` is a ping, which every daemon answers with success.
    """
    from remaphore.cli.arguments import hide_keys

    typed = any(word.partition("=")[0] == "--verb" for word in options.typed)
    if options.typed and options.payload and not typed and sys.stderr.isatty():
        first = hide_keys((options.payload.split() or [options.payload])[0])
        output.notice(f"warning: the verb is {DEFAULT_VERB}, and the payload begins with {first!r}")
        output.notice(f"hint: if that is the verb, write --verb {first}; --verb {DEFAULT_VERB} omits this warning")


def _corrected(options: OutgoingMessage, destination: str, rest: Sequence[str]) -> list[str]:
    """Return the line of *options* with *destination*, then the verb and the payload of *rest*, in their places."""
    from contextlib import suppress

    from remaphore.cli.arguments import make_parser

    command, *others = options.typed
    number = len(options.words)
    for start in range(len(others) - number + 1):
        before, after = others[:start], others[start + number :]
        if tuple(others[start : start + number]) == options.words:
            with suppress(UsageError):  # these words are the value of an option
                make_parser(command).parse_args([*before, *after])
                others = [*before, *rest[1:], *after]
                break
    return [command, "--to", destination, *(["--verb", rest[0]] if rest else []), *others]


def payload_options(words: Sequence[str]) -> dict[str, Any]:
    """Return `payload` of the *words* given, or `source`. Raise UsageError.

    Only a single word can name a source: `-`, `@-` or `@FILE`. A text that begins with `@` is written `@@`.
    """
    text = " ".join(words)
    if len(words) != 1 or (text != "-" and not text.startswith("@")):
        return {"payload": text}
    if text.startswith("@@"):
        return {"payload": text[1:]}
    if text == "@":
        raise UsageError("no file name after @", hint="write @FILE, or @@ for the text @")
    return {"source": text.removeprefix("@")}


def read_payload(options: OutgoingMessage) -> str | bytes:
    """Return the payload. Raise UsageError.

    At most the size of a message is read, so that an endless stream is an error and does not fill the memory.
    """
    if not options.source:
        return options.payload
    from pathlib import Path

    from remaphore.protocol.wire import MAX_MESSAGE_BYTES

    name = "stdin" if options.source == "-" else options.source
    try:
        if options.source == "-":
            data = _read_stdin(MAX_MESSAGE_BYTES + 1)
        else:
            with Path(options.source).open("rb") as file:
                data = file.read(MAX_MESSAGE_BYTES + 1)
    except OSError as error:
        hint = "check the name after @, or write @@ for a text that begins with @"
        raise UsageError(f"cannot read the payload from {name}: {error.strerror}", hint=hint) from None
    if len(data) > MAX_MESSAGE_BYTES:
        raise UsageError(
            f"the payload in {name} is larger than {MAX_MESSAGE_BYTES} bytes, the limit for a message",
            hint="send where to fetch the data instead",
        )
    return data


def _read_stdin(size: int) -> bytes:
    if sys.stdin is None:
        raise UsageError("cannot read the payload: stdin is closed", hint="write @FILE to send a file")
    output.announce_stdin("the payload")
    return sys.stdin.buffer.read(size)


def check_names(*, key: str, subject_name: str = "") -> None:
    """Raise UsageError for a malformed public key, or for a subject that is not a single plain one."""
    from remaphore.errors import KeyFormatError
    from remaphore.protocol import keys, subject

    subject.checked_name(subject_name)
    if key:
        try:
            keys.decode_public(key)
        except KeyFormatError as error:
            from remaphore.config.peer_line import secret_problem

            secret = secret_problem(key)
            if secret is not None:
                raise UsageError(secret.what, hint=secret.hint) from None
            raise UsageError(f"the given public key does not parse: {error}", hint=error.hint) from None


def make_filters(*, pattern: str, any_destination: bool, id: str, verbs: Sequence[str], key: str) -> Filters:  # noqa: A002 - as the option is called
    """Return which messages a receiver with these options waits for."""
    from remaphore.protocol.gate import Filters
    from remaphore.protocol.message import uuid_from_text

    return Filters(
        pattern=pattern or None,
        any_destination=any_destination,
        uuid=uuid_from_text(id) if id else None,
        verbs=frozenset(verbs) or None,
        sender=key or None,
    )
