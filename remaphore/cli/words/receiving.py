"""The word `receive`."""

from __future__ import annotations

import argparse

from remaphore.cli.options.receiving import Receive
from remaphore.cli.words.parsing import Command, common, log_format, seconds, split_verbs


def _build_receive(parser: argparse.ArgumentParser) -> None:
    parser.description = "Wait for messages, and run SCRIPT for each as: SCRIPT ARG... VERB PAYLOAD."
    parser.epilog = "example: remaphore receive --id upload_done && aws s3 cp s3://bucket/bigfile ."
    common(parser)
    parser.add_argument(
        "--verb", dest="verbs", metavar="VERB[,VERB...]", action="append", help="only these (repeatable)"
    )
    parser.add_argument("--id", metavar="TEXT", default="", help="only this id; implies --once")
    parser.add_argument("--from", dest="key", metavar="KEY", default="", help="only from this public key")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--to", metavar="PATTERN", default="", help="only messages sent to exactly this pattern")
    where.add_argument("--any-destination", action="store_true", help="do not look at the destination")
    parser.add_argument("--once", action="store_true", help="end after the first message")
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="end after this time, such as 10m")
    log_format(parser)
    parser.add_argument("script", nargs=argparse.REMAINDER, metavar="SCRIPT [ARG...]", help="command to run")


def _read_receive(given: argparse.Namespace) -> Receive:
    script = given.script[1:] if given.script[:1] == ["--"] else given.script
    return Receive(
        config=given.config,
        subject=given.subject,
        verbs=split_verbs(given.verbs),
        once=given.once or bool(given.id),
        id=given.id,
        timeout=given.timeout,
        any_destination=given.any_destination,
        pattern=given.to,
        key=given.key,
        script=tuple(script),
        log_format=given.log_format,
    )


COMMANDS = {
    "receive": Command(_build_receive, _read_receive),
}
