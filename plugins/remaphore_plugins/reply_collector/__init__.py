"""The plugin `reply-collector`: writes the replies to a request to stdout, and its progress and result to stderr.

Only output belongs here; the logic of a request is in `remaphore.requesting`. `formats` and `json_formats` make the
text for stdout: the lines of the Go implementation, identical replies folded, JSON. `report` makes the progress line
and the summary from `request_stats`. `terminal` decides what may be written to a terminal. Files and pipes get the
bytes of an output unchanged; a terminal gets no control sequences, and no line that is wider than its window and could
look like two.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO, cast

from remaphore import Message, Receipt, Reply, Summary, hookimpl
from remaphore.text import columns_of
from remaphore_plugins.reply_collector import report
from remaphore_plugins.reply_collector.formats import Fold, Format, Lines
from remaphore_plugins.reply_collector.request_stats import RequestStats
from remaphore_plugins.reply_collector.terminal import (
    StatusLine,
    StatusLineStream,
    feeds_program,
    supports_ansi,
    supports_color,
)

INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line requests; without it, the lines of the Go implementation and nothing else.

    format: lines, fold, json or jsonl. failed: show only what did not succeed. expected: all destinations of the
    request. required: how many of them must succeed, None: all. summary: report the result on stderr. progress: show
    progress on stderr, if that is a terminal. save: gets the JSON document at the end, with all replies; it must not
    raise.
    """

    format: str = "lines"
    failed: bool = False
    expected: tuple[str, ...] = ()
    required: int | None = None
    summary: bool = False
    progress: bool = False
    save: Callable[[bytes], None] | None = None


class ReplyCollector:
    """Writes replies to stdout, one at a time and whole."""

    def __init__(self) -> None:
        self._format = _format("lines")
        self._saved = Format()
        self._options = Options()
        self._stats = RequestStats()
        self._status_line: StatusLine | None = None
        self._stderr = sys.stderr
        self._broken = False

    @hookimpl
    def remaphore_configure(self, options: Mapping[str, Any]) -> None:
        """Apply the command line: *options* are fields of `Options`."""
        self._options = Options(**options)
        self._format = _format(self._options.format)
        if self._options.save:
            self._saved = _format("json")
        self._stats = RequestStats(self._options.expected, required=self._options.required)
        if self._options.progress and supports_ansi(sys.stderr) and not feeds_program(sys.stdout):
            self._stderr = sys.stderr
            self._status_line = StatusLine(self._stderr)
            sys.stderr = cast("TextIO", StatusLineStream(self._stderr, self._status_line))

    @hookimpl
    def remaphore_requested(self, request: Message, expected: tuple[str, ...]) -> None:
        """Count the destinations that *request* addresses."""
        self._stats.requested(expected, request.id)
        self._saved.requested(request, expected)
        self._write(self._format.requested(request, expected))

    @hookimpl
    def remaphore_reply(self, request: Message, reply: Reply) -> None:
        """Show *reply*, at once or at the end, as the format does."""
        verdict = self._stats.reply(reply)
        self._saved.reply(request, reply)
        shown = not self._options.failed or verdict.kind != "ok"
        self._write(self._format.reply(request, reply) if shown else b"")

    @hookimpl
    def remaphore_receipt(self, request: Message, receipt: Receipt) -> None:
        """Count the destination as running, and show that, in the formats that have a place for it."""
        self._stats.receipt(receipt.peer)
        self._saved.receipt(request, receipt)
        self._write(self._format.receipt(request, receipt))

    @hookimpl
    def remaphore_finished(self, request: Message, summary: Summary) -> None:
        """Count the result of *request*, and show it if the format does so now."""
        self._stats.finished(summary)
        self._saved.finished(request, summary)
        self._write(self._format.finished(request, summary))

    @hookimpl
    def remaphore_shutdown(self, reason: str) -> None:
        """Show what was kept for the end, and the summary; neither if stdout was closed."""
        if self._status_line:
            self._status_line.erase()
            self._status_line = None
            sys.stderr = self._stderr
        self._stats.interrupted = reason == INTERRUPTED
        if self._options.save and self._stats.begun:
            self._options.save(self._saved.end(self._stats))
        if not self._stats.begun or self._broken:
            return
        self._write(self._format.end(self._stats))
        if self._options.summary:
            color, columns, encoding = supports_color(self._stderr), columns_of(self._stderr), self._stderr.encoding
            text = report.summary(self._stats, color=color, columns=columns, encoding=encoding)
            with contextlib.suppress(OSError):  # a closed stderr: the result is on stdout
                self._stderr.write(text)
                self._stderr.flush()

    def _write(self, text: bytes) -> None:
        if text and not self._broken:
            if self._status_line:
                self._status_line.erase()
            self._broken = True  # until it is written
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
            self._broken = False
        if self._status_line:
            self._status_line.show(report.progress(self._stats, self._status_line.columns))


def _format(name: str) -> Format:
    terminal = sys.stdout if sys.stdout.isatty() else None
    if name == "lines":
        return Lines(terminal=terminal)
    if name == "fold":
        return Fold(terminal=terminal, color=supports_color(sys.stdout))
    from remaphore_plugins.reply_collector.json_formats import Json, JsonLines

    return Json() if name == "json" else JsonLines()
