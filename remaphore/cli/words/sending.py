"""The words `send` and `request`."""

from __future__ import annotations

import argparse
from typing import Any

from remaphore.cli.options import DEFAULT_VERB
from remaphore.cli.options.sending import Request, Send
from remaphore.cli.words.parsing import Command, common, seconds

REQUEST_SECONDS = 30.0


def _build_sending(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("--to", metavar="PATTERN", default="**", help="destinations to reach, such as 'com.crypto.**'")
    parser.add_argument("--verb", default=DEFAULT_VERB, help=f"kind of message (default: {DEFAULT_VERB})")
    parser.add_argument("--id", metavar="TEXT", default="", help="name that receivers wait for")
    parser.add_argument("--from", dest="key", metavar="KEY", default="", help="public key of the identity that signs")
    parser.add_argument("payload", nargs="*", help="text to carry; words are joined by spaces")


def _build_send(parser: argparse.ArgumentParser) -> None:
    parser.description = "Send a message and forget it. Exit 0 once the broker has it."
    parser.epilog = "example: remaphore send --id upload_done"
    _build_sending(parser)
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="limit to connect, such as 5s (at most 10s)")


def _build_request(parser: argparse.ArgumentParser) -> None:
    parser.description = "Send a message and print the replies of all peers that it addresses, as they arrive."
    parser.epilog = "example: remaphore request --to 'com.crypto.**' --verb deploy v42"
    _build_sending(parser)
    parser.add_argument(
        "--timeout", type=seconds, metavar="TIME", default=REQUEST_SECONDS, help="limit of it all (30s)"
    )
    parser.add_argument("--verbose", action="store_true", help="log each reply, and why one was not taken")


def _read_send(given: argparse.Namespace) -> Send:
    return Send(**_sending(given))


def _read_request(given: argparse.Namespace) -> Request:
    return Request(**_sending(given))


def _sending(given: argparse.Namespace) -> dict[str, Any]:
    return {**vars(given), "payload": " ".join(given.payload)}


COMMANDS = {
    "send": Command(_build_send, _read_send),
    "request": Command(_build_request, _read_request),
}
