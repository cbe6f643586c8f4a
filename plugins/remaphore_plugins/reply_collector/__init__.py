"""The plugin `reply-collector`: shows the replies to a request on stdout, and how it goes on stderr.

`formats` and `machine` make the text of stdout: the original's lines, equal replies folded, JSON. `report` makes the
progress line and the summary, from a `tally`. `terminal` is what a terminal may be given, `folding` makes short names.
Files and pipes get the bytes of an output; a terminal gets no control sequences.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO, cast

from remaphore import Message, PluginError, Reply, Summary, hookimpl
from remaphore_plugins.reply_collector import report
from remaphore_plugins.reply_collector.folding import MISSING_EXTRA, available
from remaphore_plugins.reply_collector.formats import Fold, Format, Lines
from remaphore_plugins.reply_collector.tally import Tally
from remaphore_plugins.reply_collector.terminal import Above, Progress, for_terminal, obeys, takes_colour

__all__ = ["ReplyCollector", "for_terminal"]

INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for; without it, the lines of the Go implementation and nothing else.

    format: lines, fold, json or jsonl. failed: show only what did not succeed. expected: all destinations of the
    request. summary: report on stderr how it ended. progress: show on stderr how far it is, if that is a terminal.
    """

    format: str = "lines"
    failed: bool = False
    expected: tuple[str, ...] = ()
    summary: bool = False
    progress: bool = False


class ReplyCollector:
    """Writes replies to stdout, one at a time and whole."""

    def __init__(self) -> None:
        self._format: Format = Lines(terminal=sys.stdout.isatty())
        self._options = Options()
        self._tally = Tally()
        self._progress: Progress | None = None
        self._stderr = sys.stderr
        self._broken = False

    @hookimpl
    def remaphore_configure(self, options: Mapping[str, Any]) -> None:
        """Do as the command line asks: *options* are the fields of `Options`.

        Raise PluginError for `fold` without ClusterShell.
        """
        self._options = Options(**options)
        self._format = _format(self._options.format)
        self._tally = Tally(self._options.expected)
        if self._options.progress and obeys(sys.stderr):
            self._stderr = sys.stderr
            self._progress = Progress(self._stderr)
            sys.stderr = cast("TextIO", Above(self._stderr, self._progress))

    @hookimpl
    def remaphore_requested(self, request: Message, expected: tuple[str, ...]) -> None:
        """Note who is asked."""
        self._tally.requested(expected)
        self._write(self._format.requested(request, expected))

    @hookimpl
    def remaphore_reply(self, request: Message, reply: Reply) -> None:
        """Show *reply*, now or at the end, as the format has it."""
        verdict = self._tally.reply(reply)
        shown = not self._options.failed or verdict.kind != "ok"
        self._write(self._format.reply(request, reply) if shown else b"")

    @hookimpl
    def remaphore_finished(self, request: Message, summary: Summary) -> None:
        """Note who has not answered."""
        self._tally.finished(summary)
        self._write(self._format.finished(request, summary))

    @hookimpl
    def remaphore_shutdown(self, reason: str) -> None:
        """Show what was kept for the end, and the summary; neither to a reader that has gone."""
        self._end_progress()
        if not self._tally.begun or self._broken:
            return
        self._tally.interrupted = reason == INTERRUPTED
        self._write(self._format.end(self._tally))
        if self._options.summary:
            with contextlib.suppress(OSError):  # nobody is there to read it, and the result is on stdout
                self._stderr.write(report.summary(self._tally, colour=takes_colour(self._stderr)))
                self._stderr.flush()

    def _write(self, text: bytes) -> None:
        if text and not self._broken:
            if self._progress:
                self._progress.erase()
            self._broken = True  # until it is written
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
            self._broken = False
        if self._progress:
            self._progress.show(report.progress(self._tally))

    def _end_progress(self) -> None:
        if self._progress:
            self._progress.erase()
            self._progress = None
            sys.stderr = self._stderr


def _format(name: str) -> Format:
    if name == "lines":
        return Lines(terminal=sys.stdout.isatty())
    if name == "fold":
        if not available():
            raise PluginError(MISSING_EXTRA, hint="pip install 'remaphore[operator]', or use --jsonl")
        return Fold(terminal=sys.stdout.isatty(), colour=takes_colour(sys.stdout))
    from remaphore_plugins.reply_collector.machine import Json, JsonLines

    return Json() if name == "json" else JsonLines()
