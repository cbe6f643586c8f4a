"""`remaphore request`, `remaphore -r`: send a message and print the replies as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from remaphore.cli import output, requests
from remaphore.errors import NoReceiversError, UsageError

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.protocol.drop import DropReason
    from remaphore.protocol.exchange import Summary
    from remaphore.protocol.quorum import ReplyQuorum, Requirement
    from remaphore.requesting.rollout import BatchPlan

PLUGINS = ("log", "reply-collector")
DEFAULT_SECONDS = 30.0
EXIT_MISSING, EXIT_FAILED, EXIT_REJECTED = 4, 5, 6

SUMMARY = "send a message and print the replies"
EXAMPLE = """\
remaphore request --verb deploy --batch 10% --stop-on-failure 1 --save F v42
remaphore request --verb deploy --retry F --save F v42"""
EXIT_CODES = {
    0: "all, or as many as --require, succeeded; with --no-check: a reply came",
    1: "no reply before the timeout; with --no-check: or only rejections",
    EXIT_MISSING: "at least one reply is missing",
    EXIT_FAILED: "at least one peer failed, or replied without an exit code",
    EXIT_REJECTED: "at least one peer rejected the message",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(requests.OutgoingMessage):
    """Options of request. timeout: seconds for everything, or with *batch* for each batch.

    verbose: log each reply and receipt, and why one was dropped. failed: print failures only. check: whether the exit
    code reports missing, failed and rejecting peers, see `exit_code`: by default in `request`, never in `-r`. batch:
    number of destinations that are asked together, 0 for all; with *percent*, their share. pause: seconds between two
    batches. stop_after: failed destinations that end it. require: successful destinations that end it, None: all must
    have replied; with *fail_fast*, it ends too once there cannot be so many. save: file for the JSON document, empty
    for none. dry_run: only print which peers would be asked. report: write progress and summary to stderr; it does not
    change the request, so it does not count when options are compared.
    """

    verbose: bool = False
    format: Literal["lines", "json", "jsonl", "fold"] = "lines"
    failed: bool = False
    check: bool = False
    batch: int = 0
    percent: bool = False
    pause: float = 0.0
    stop_after: int | None = None
    require: Requirement | None = None
    fail_fast: bool = False
    save: str = ""
    dry_run: bool = False
    report: bool = field(default=False, compare=False)

    @classmethod
    def from_arguments(
        cls,
        *,
        to: tuple[str, ...],
        files: tuple[str, ...],
        excluded: tuple[str, ...],
        retry: str,
        verb: str | None,
        payload: tuple[str, ...],
        batch: Batch | None,
        pause: float | None,
        check: bool,
        stop_after: int | None,
        require: Requirement | None,
        fail_fast: bool,
        **given: Any,
    ) -> Request:
        """Return the options of what the parser has read. Raise UsageError."""
        if batch is None and (pause is not None or stop_after is not None):
            raise UsageError("--pause and --stop-on-failure need batches", hint="add --batch N or --batch N%")
        if stop_after is not None and not check:
            hint = "omit --no-check: a deployment that was stopped is no success"
            raise UsageError("--no-check and --stop-on-failure are mutually exclusive", hint=hint)
        if require is not None and not check:
            hint = "omit --no-check: the exit code states whether the requirement is met"
            raise UsageError("--no-check and --require are mutually exclusive", hint=hint)
        if fail_fast and require is None:
            raise UsageError("--fail-fast needs a requirement", hint="add --require all, N or N%")
        size, percent = batch or Batch(0, percent=False)
        message = requests.message_options(
            to=to, files=files, verb=verb, payload=payload, excluded=excluded, retry=retry
        )
        return cls(
            **given,
            **message,
            batch=size,
            percent=percent,
            pause=pause or 0.0,
            stop_after=stop_after,
            require=require,
            fail_fast=fail_fast,
            check=check,
            report=True,
        )

    def batch_plan(self) -> BatchPlan | None:
        """Return how the destinations are asked in batches; None if all are asked at once."""
        from remaphore.requesting.rollout import BatchPlan

        if not self.batch:
            return None
        return BatchPlan(size=self.batch, percent=self.percent, pause=self.pause, stop_after=self.stop_after)

    def destinations(self, config: Config, *, may_be_unknown: bool = False) -> tuple[str, ...]:
        """Return the destinations to ask; none, with a notice, if --retry finds nothing to do. Raise NoReceiversError.

        may_be_unknown: the agent says whether it has no such peer, or whether its rules do not permit it to us.
        """
        from remaphore.protocol.peers import names
        from remaphore.requesting.requester import expect

        if self.selection is None:
            try:
                return names(expect(config, self.to))
            except NoReceiversError:
                if may_be_unknown:
                    return (self.to,)
                raise
        found = self.selection.destinations(config, verb=self.verb)
        if not found:
            what = "failed, rejected the message, is missing, or was not asked"
            but = "; those of --except do not count" if self.selection.excluded else ""
            output.notice(f"nothing to retry: no destination in {self.selection.retried} {what}{but}")
        return found


class Batch(NamedTuple):
    """The value of --batch: a number of destinations, or a percentage of all."""

    size: int
    percent: bool


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    import argparse

    from remaphore.cli.arguments import requirement, seconds
    from remaphore.cli.selection import EXPLAINED, add_exceptions

    parser.usage = "remaphore request [OPTION...] [PAYLOAD...]"
    parser.description = f"Send a message and print the replies. {EXPLAINED}"
    requests.add_message(parser)
    add_exceptions(parser)
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        default=DEFAULT_SECONDS,
        help=f"give up after TIME, for each batch (default: {DEFAULT_SECONDS:.0f}s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print which peers would be asked, without connecting")
    formats = parser.add_mutually_exclusive_group()
    for name, text in {
        "json": "print one JSON document at the end",
        "jsonl": "print one JSON object per line, as events occur",
        "fold": "print identical replies once, with all responders",
    }.items():
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="lines", help=text)
    parser.add_argument("--save", metavar="FILE", default="", help="also write the document of --json to FILE")
    parser.add_argument("--failed", action="store_true", help="print only replies that report a failure")
    parser.add_argument("--check", action="store_true", default=True, help=argparse.SUPPRESS)  # the default
    parser.add_argument(
        "--no-check", dest="check", action="store_false", help="exit with 0 if any reply arrived, as remaphore -r does"
    )
    parser.add_argument(
        "--require",
        type=requirement,
        metavar="N|N%|all",
        help="succeed, and stop, once so many peers succeeded",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop once --require cannot be met any more")
    parser.add_argument("--verbose", action="store_true", help="log each reply and receipt, and why one was dropped")
    _add_rollout(parser)
    parser.set_defaults(options=Request.from_arguments)


def _add_rollout(parser: Parser) -> None:
    from remaphore.cli.arguments import positive_integer, seconds

    rollout = parser.add_argument_group("rollout in batches")
    rollout.add_argument("--batch", type=_batch, metavar="N|N%", help="ask N destinations at a time, or N percent")
    rollout.add_argument("--pause", type=seconds, metavar="TIME", help="wait between two batches (default: no pause)")
    rollout.add_argument(
        "--stop-on-failure",
        dest="stop_after",
        type=positive_integer,
        metavar="N",
        help="stop once N destinations did not succeed",
    )


def _batch(text: str) -> Batch:
    import argparse
    import re

    found = re.fullmatch(r"([1-9][0-9]{0,8})(%?)", text)
    if found is None or (found[2] and int(found[1]) > 100):
        hint = "write a number such as 5, or 1% to 100%"
        raise argparse.ArgumentTypeError(f"{text!r} is not a batch size") from UsageError(hint=hint)
    return Batch(int(found[1]), bool(found[2]))


def run(options: Request) -> int:
    """Send and print; return `exit_code`."""
    from remaphore import tasks
    from remaphore.cli.collecting import Reporter, collect
    from remaphore.cli.document import saver_of
    from remaphore.cli.dry_run import dry_run
    from remaphore.cli.route import choose
    from remaphore.cli.writer import Writer
    from remaphore.hooks.manager import configure, load
    from remaphore.protocol.quorum import ReplyQuorum

    requests.check_names(key=options.key, subject_name=options.subject)
    route = choose(options.config, agent=options.agent, direct=options.direct)
    config = route.config
    requests.check_words(options, config)
    requests.warn_of_default_verb(options)
    plan = options.batch_plan()
    if options.dry_run:
        return dry_run(options, config, plan)
    config.sender(options.verb, options.key)
    destinations = options.destinations(config, may_be_unknown=bool(route.agent))
    if not destinations:
        return 0
    quorum = ReplyQuorum.of(options.require, len(destinations), fail_fast=options.fail_fast)
    payload = requests.read_payload(options)
    saver = saver_of(options.save)
    dropped: set[DropReason] = set()
    writer = Writer(gathers=True)
    with writer.streams():
        plugins = load(PLUGINS)
        shown = collector_options(options, destinations, saver, quorum)
        configure(plugins, config, options={"reply-collector": shown})
        output.configure_logs(level="DEBUG" if options.verbose else "WARNING")
        try:
            reporter = Reporter(plugins, writer)
            summary = tasks.run(
                collect(options, route, reporter, destinations, quorum, payload=payload, dropped=dropped)
            )
        except BaseException:  # Ctrl-C or an error, which decides the exit code
            if saver and saver.error:
                output.notice(f"error: {saver.error}")
                output.notice(f"hint: {saver.error.hint}")
            raise
    if saver and saver.error:
        raise saver.error
    if not options.verbose:
        notice_dropped(summary.dropped, receipts=options.report)  # remaphore -r asks for no receipts
    if options.report:
        notice_repeats(dropped)
    return exit_code(summary, check=options.check, quorum=quorum)


def notice_dropped(number: int, *, receipts: bool) -> None:
    """Write on stderr that so many replies, or *receipts*, were dropped, if any was."""
    one, more = ("reply or receipt", "replies or receipts") if receipts else ("reply", "replies")
    if number:
        output.notice(f"{f'1 {one} was' if number == 1 else f'{number} {more} were'} dropped; --verbose shows why")


def notice_repeats(reasons: Set[DropReason]) -> None:
    """Write on stderr that a peer replied again, if that is among the *reasons* of dropped replies."""
    from remaphore.protocol.drop import DropReason

    if DropReason.ANSWERED_ALREADY in reasons:
        output.notice("hint: a peer replied again; remaphore doctor reports whether several machines have its key")


def exit_code(summary: Summary, *, check: bool, quorum: ReplyQuorum | None = None) -> int:
    """Return the first of these that applies, which without *check* are the Go implementation's 0 and 1.

    0: *quorum* is met; 1: no reply at all; 4: some are missing; 5: some failed, or have no exit code; 6: some rejected;
    0: all succeeded. If *quorum* ended the request, those that still had time are not missing.
    Without *check*: 0 if a reply other than a rejection arrived, else 1.
    """
    if not check:
        return 0 if set(summary.answered) - set(summary.rejected) else 1
    if quorum is not None and quorum.met:
        return 0
    if not summary.answered:
        return 1
    if quorum.timed_out if quorum is not None and quorum.decided else summary.missing:
        return EXIT_MISSING
    if summary.failed or summary.without_code:
        return EXIT_FAILED
    return EXIT_REJECTED if summary.rejected else 0


def collector_options(
    options: Request,
    destinations: Sequence[str],
    save: Callable[[bytes], None] | None,
    quorum: ReplyQuorum | None,
) -> dict[str, object]:
    """Return the options of the plugin reply-collector: how to print the replies of *destinations*.

    save: called with the JSON document at the end. quorum: how many of them must succeed, if not all.
    """
    return {
        "format": options.format,
        "failed": options.failed,
        "expected": destinations,
        "required": quorum and quorum.required,
        "save": save,
        "summary": options.report,
        "progress": options.report and not options.verbose,  # with --verbose the log shows the progress
    }
