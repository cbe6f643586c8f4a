"""The word `send`, and what `request` shares with it."""

from __future__ import annotations

import argparse
from typing import Any

from remaphore.cli.options import DEFAULT_VERB
from remaphore.cli.options.sending import Send
from remaphore.cli.words.parsing import Command, common, seconds
from remaphore.errors import UsageError


def build_sending(parser: argparse.ArgumentParser) -> None:
    """Add what every message has: for whom, which verb, an id, a payload, who signs."""
    common(parser)
    parser.add_argument("--to", metavar="PATTERN", default="**", help="destinations to reach, such as 'com.crypto.**'")
    parser.add_argument(
        "--verb", metavar="VERB", default=DEFAULT_VERB, help=f"kind of message (default: {DEFAULT_VERB})"
    )
    parser.add_argument("--id", metavar="TEXT", default="", help="name that receivers wait for")
    parser.add_argument("--from", dest="key", metavar="KEY", default="", help="public key of the identity that signs")
    parser.add_argument(
        "payload",
        metavar="PAYLOAD",
        nargs="*",
        help="text to carry, words are joined by spaces; @FILE; - for stdin",
    )


def read_sending(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options of *given*, with the payload, or where it is to be read from.

    Only a payload of one word names a source: `-` or `@-`, or `@FILE`. A text that begins with `@` is written `@@`.
    """
    words = given.payload
    text = " ".join(words)
    if len(words) == 1 and text.startswith("@@"):
        return {**vars(given), "payload": text[1:]}
    if text == "@":
        raise UsageError("@ names no file; write @FILE, or @@ for the text @")
    if len(words) == 1 and (text == "-" or text.startswith("@")):
        return {**vars(given), "payload": "", "source": text.removeprefix("@")}
    return {**vars(given), "payload": text}


def _build_send(parser: argparse.ArgumentParser) -> None:
    parser.description = "Send a message and forget it. Exit 0 once the broker has it."
    parser.epilog = "example: remaphore send --id upload_done"
    build_sending(parser)
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="limit to connect, such as 5s (at most 10s)")


def _read_send(given: argparse.Namespace) -> Send:
    return Send(**read_sending(given))


COMMANDS = {
    "send": Command(_build_send, _read_send),
}
