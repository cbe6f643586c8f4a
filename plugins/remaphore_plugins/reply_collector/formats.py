"""The formats for people: the lines of the Go implementation, and equal replies folded."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence

from remaphore import Message, Reply, Summary
from remaphore_plugins.reply_collector.folding import fold
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

    def finished(self, request: Message, summary: Summary) -> bytes:  # noqa: ARG002 - the same
        """Return what to write when no more replies to *request* are accepted."""
        return b""

    def end(self, stats: RequestStats) -> bytes:  # noqa: ARG002 - the same
        """Return what to write when the command ends."""
        return b""


class Lines(Format):
    """`destination,exit-code,output`; several lines are framed by 32 hex characters that no responder can predict."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._nonce = secrets.token_hex(_NONCE_BYTES).encode()

    def reply(self, request: Message, reply: Reply) -> bytes:  # noqa: ARG002 - a line does not name its request
        """Return the line, or the framed lines, of *reply*."""
        text = reply.peer.encode() + b"," + reply.text
        if b"\n" in text:
            text = b"--> %b\n%b\n--< %b" % (self._nonce, text, self._nonce)
        return (for_terminal(text) if self._terminal else text) + b"\n"


class Fold(Format):
    """Each exit code and output once, with all destinations that returned it; what needs attention comes last."""

    def __init__(self, *, terminal: bool, color: bool) -> None:
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
            text = for_terminal(output) if self._terminal else output
            body = _MARGIN + text.replace(b"\n", b"\n" + _MARGIN) + b"\n" if text else b""
            shown.append(self._head(verdict, names) + body)
        silent: tuple[Kind, ...] = ("missing", "not_asked")
        shown += [self._head(Verdict(kind), stats.names(kind)) for kind in silent if stats.count(kind)]
        return b"".join(shown)

    def _head(self, verdict: Verdict, names: Sequence[str]) -> bytes:
        what = "exit code 0" if verdict.kind == "ok" else str(verdict)
        return f"{fold(names)} ({len(names)}): {colorize(what, verdict.kind) if self._color else what}\n".encode()
