"""The formats for people: the lines of the Go implementation, and equal replies folded."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import TextIO

from remaphore import Message, Receipt, Reply, Summary, nodeset
from remaphore.text import columns_of, cut, encodable, escape, fitting, wrap
from remaphore_plugins.reply_collector.request_stats import LABELS, Kind, RequestStats, Verdict, classify
from remaphore_plugins.reply_collector.terminal import colorize, for_terminal

_NONCE_BYTES = 16
_MARGIN = b"  "  # before each line of an output, so that none can be mistaken for the head of a group


class Format:
    """A format that writes nothing. Each method returns the text for stdout; subclasses override some of them."""

    def requested(self, request: Message, expected: tuple[str, ...]) -> bytes:  # noqa: ARG002 - for subclasses
        """Return what to write once *request* was sent."""
        return b""

    def reply(self, request: Message, reply: Reply) -> bytes:  # noqa: ARG002 - the same
        """Return what to write when *reply* arrives."""
        return b""

    def receipt(self, request: Message, receipt: Receipt) -> bytes:  # noqa: ARG002 - the same
        """Return what to write when *receipt* arrives."""
        return b""

    def finished(self, request: Message, summary: Summary) -> bytes:  # noqa: ARG002 - the same
        """Return what to write when no more replies to *request* are accepted."""
        return b""

    def end(self, stats: RequestStats) -> bytes:  # noqa: ARG002 - the same
        """Return what to write when the command ends."""
        return b""


class Lines(Format):
    """`destination,exit-code,output`; several lines are framed by 32 hex characters that no responder can predict.

    So is on a *terminal* a line that is wider than its window: what continues in the first column could be taken for
    the reply of another destination. terminal: None for files and pipes.
    """

    def __init__(self, *, terminal: TextIO | None) -> None:
        self._terminal = terminal
        self._nonce = secrets.token_hex(_NONCE_BYTES).encode()

    def reply(self, request: Message, reply: Reply) -> bytes:  # noqa: ARG002 - a line does not name its request
        """Return the line, or the framed lines, of *reply*."""
        text = reply.peer.encode() + b"," + reply.text
        wide = False
        if self._terminal:
            text = for_terminal(text, self._terminal)
            wide = _is_wide(text.decode(self._terminal.encoding), self._terminal)
        return (b"--> %b\n%b\n--< %b\n" % (self._nonce, text, self._nonce)) if wide or b"\n" in text else text + b"\n"


def _is_wide(text: str, terminal: TextIO) -> bool:
    """Return whether a line with this *text* is wider than the *terminal*, or may be: a tab has up to 8 columns."""
    text = text.replace("\t", " " * 8)
    return fitting(text, columns_of(terminal) or 0) < len(text)


class Fold(Format):
    """Each exit code and output once, with all destinations that returned it; what needs attention comes last."""

    def __init__(self, *, terminal: TextIO | None, color: bool) -> None:
        self._terminal = terminal
        self._color = color
        self._groups: defaultdict[tuple[Verdict, bytes], list[str]] = defaultdict(list)

    def reply(self, request: Message, reply: Reply) -> bytes:  # noqa: ARG002 - they are folded over all requests
        """Keep *reply* for the end."""
        verdict = classify(reply)
        # The text of a rejection is in its head; of other replies it is what follows the exit code in `Lines`.
        output = b"" if reply.rejected else reply.text.partition(b",")[2] if reply.exit_code is not None else reply.text
        self._groups[verdict, output].append(reply.peer)
        return b""

    def end(self, stats: RequestStats) -> bytes:
        """Return all groups: from success to failure, the largest of a kind first."""
        rank = list(LABELS)
        groups = sorted(self._groups.items(), key=lambda group: (rank.index(group[0][0].kind), -len(group[1]), group))
        shown = []
        for (verdict, output), names in groups:
            shown.append(self._head(verdict, names) + self._body(output))
        without_reply: tuple[Kind, ...] = ("running", "silent", "not_asked")
        shown += [self._head(Verdict(kind), stats.names(kind)) for kind in without_reply if stats.count(kind)]
        return b"".join(shown)

    def _body(self, output: bytes) -> bytes:
        """Return the lines of *output* behind the margin; on a terminal cut at its width, so that none leaves it."""
        if self._terminal and output:
            room = (columns_of(self._terminal) or 0) - len(_MARGIN)
            text = for_terminal(output, self._terminal).decode(self._terminal.encoding).expandtabs()
            pieces = (piece for line in text.split("\n") for piece in cut(line, room))
            output = "\n".join(pieces).encode(self._terminal.encoding)
        return _MARGIN + output.replace(b"\n", b"\n" + _MARGIN) + b"\n" if output else b""

    def _head(self, verdict: Verdict, names: Sequence[str]) -> bytes:
        what = "exit code 0" if verdict.kind == "ok" else str(verdict)
        line = f"{nodeset.fold(names)} ({len(names)}): {what}"
        if self._terminal is None:
            return f"{line}\n".encode()
        lines = wrap(
            encodable(escape(line), self._terminal.encoding),
            columns_of(self._terminal) or 0,
            indent=2 * len(_MARGIN),
            whole_words=True,
        )
        if self._color and what in lines[0]:
            lines[0] = lines[0].replace(what, colorize(what, verdict.kind))
        return "".join(f"{each}\n" for each in lines).encode(self._terminal.encoding)
