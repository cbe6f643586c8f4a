"""The word `request`."""

from __future__ import annotations

import argparse
import re
from typing import NamedTuple

from remaphore.cli.options.requesting import Request
from remaphore.cli.words.parsing import Command, seconds
from remaphore.cli.words.sending import build_sending, read_sending
from remaphore.errors import UsageError

REQUEST_SECONDS = 30.0


class Batch(NamedTuple):
    """How many are asked together, or which share of all."""

    size: int
    percent: bool


def _build_request(parser: argparse.ArgumentParser) -> None:
    parser.usage = "remaphore request [OPTION...] [PAYLOAD...]"
    parser.description = "Send a message and show the replies of all peers that it addresses, then who did not answer."
    parser.epilog = "example: remaphore request --to 'com.crypto.**' --verb deploy --batch 10% --stop-on-failure 1 v42"
    build_sending(parser)
    parser.add_argument(
        "--timeout", type=seconds, metavar="TIME", default=REQUEST_SECONDS, help="limit of it all, or of a batch (30s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say who would be asked; connect to nothing")
    shown = parser.add_argument_group("what is shown")
    _formats(shown.add_mutually_exclusive_group())
    shown.add_argument("--failed", action="store_true", help="only replies that are no success")
    shown.add_argument("--check", action="store_true", help="exit 4: some missing, 5: some failed, 6: some rejected")
    shown.add_argument("--verbose", action="store_true", help="log each reply, and why one was not taken")
    rolling = parser.add_argument_group("one part after the other")
    rolling.add_argument("--batch", type=_batch, metavar="N|N%", help="ask N destinations, or this share, at a time")
    rolling.add_argument("--pause", type=seconds, metavar="TIME", help="wait between two batches, such as 30s")
    rolling.add_argument(
        "--stop-on-failure",
        dest="stop_after",
        type=_count,
        metavar="N",
        help="end when N did not succeed; implies --check",
    )


def _formats(group: argparse._MutuallyExclusiveGroup) -> None:
    for name, text in {
        "json": "one JSON document at the end",
        "jsonl": "a JSON object a line, as things happen",
        "fold": "equal replies once, with the names of all who gave them",
    }.items():
        group.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="lines", help=text)


def _batch(text: str) -> Batch:
    found = re.fullmatch(r"([1-9][0-9]{0,8})(%?)", text)
    if found is None or (found[2] and int(found[1]) > 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no size of a batch; write a number such as 5, or 1% to 100%")
    return Batch(int(found[1]), bool(found[2]))


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _read_request(given: argparse.Namespace) -> Request:
    options = read_sending(given)
    batch = options.pop("batch")
    if batch is None and (given.pause is not None or given.stop_after is not None):
        raise UsageError("--pause and --stop-on-failure are about batches; add --batch N or --batch N%")
    size, percent = batch or (0, False)
    options |= {"batch": size, "percent": percent, "pause": given.pause or 0.0}
    return Request(**{**options, "check": given.check or given.stop_after is not None}, report=True)


COMMANDS = {
    "request": Command(_build_request, _read_request),
}
