"""The word `explain`."""

from __future__ import annotations

import argparse
import re

from remaphore.cli.options import DEFAULT_VERB
from remaphore.cli.options.daemon import Explain
from remaphore.cli.options.receiving import Receive
from remaphore.cli.words.parsing import Command, daemon, split_verbs
from remaphore.errors import UsageError
from remaphore.protocol import duration

FIRST_NANOSECONDS = 10**15  # as nanoseconds it is in 1970, as seconds thirty million years away


def _build_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = "Say check by check why a message would be taken or not, what decides it, and what would run."
    parser.epilog = (
        "example: remaphore explain --from com.example.one --verb deploy"
        "    (exit code: 0 all accepted; 1 one was dropped)"
    )
    daemon(parser)
    parser.add_argument("files", metavar="FILE", nargs="*", help="one message each, as it was sent (default, -: stdin)")
    parser.add_argument("--base64", action="store_true", help="each line of a FILE is one message in base64")
    parser.add_argument(
        "--at",
        type=_instant,
        metavar="TIME",
        help="arrival, in Unix seconds (1700000000, 1700000000.5), or from 10^15 on in nanoseconds (default: now)",
    )
    parser.add_argument("--json", action="store_true", help="one object a line")
    question = parser.add_argument_group("without a message: would this be taken?")
    question.add_argument("--from", dest="sender", metavar="KEY|DESTINATION", default="", help="the peer that signs")
    question.add_argument("--verb", metavar="VERB", help=f"kind of message (default: {DEFAULT_VERB})")
    question.add_argument("--to", metavar="PATTERN", help="destinations that it is for (default: **)")
    receiver = parser.add_argument_group("filters of the receiver (the daemon has none)")
    where = receiver.add_mutually_exclusive_group()
    where.add_argument("-D", dest="pattern", metavar="PATTERN", default="", help="only exactly this pattern")
    where.add_argument("-d", dest="any_destination", action="store_true", help="do not look at the destination")
    receiver.add_argument("-u", dest="id", metavar="TEXT", default="", help="only this id")
    receiver.add_argument("-v", dest="verbs", metavar="VERB[,VERB...]", action="append", help="only these")
    receiver.add_argument("-p", dest="key", metavar="KEY", default="", help="only from this public key")


def _read_explain(given: argparse.Namespace) -> Explain:
    if given.sender and (given.files or given.base64):
        raise UsageError("--from asks about a message that is not there; give either it or a message")
    if not given.sender and (given.verb is not None or given.to is not None):
        raise UsageError("--verb and --to belong to a question; add --from KEY|DESTINATION (filters are -v and -D)")
    return Explain(
        receiver=Receive(
            config=given.config,
            verbs=split_verbs(given.verbs),
            id=given.id,
            any_destination=given.any_destination,
            pattern=given.pattern,
            key=given.key,
        ),
        hooks=tuple(given.hooks or ()),
        files=tuple(given.files),
        base64=given.base64,
        at=given.at,
        sender=given.sender,
        verb=DEFAULT_VERB if given.verb is None else given.verb,
        to="**" if given.to is None else given.to,
        json=given.json,
    )


def _instant(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no Unix time; write 1700000000, 1700000000.5 or nanoseconds")
    whole, fraction = int(found[1]), found[2]
    if fraction is None and whole >= FIRST_NANOSECONDS:
        return whole
    return whole * duration.SECOND + int((fraction or "").ljust(9, "0"))


COMMANDS = {
    "explain": Command(_build_explain, _read_explain),
}
