"""The formats for people: the original's lines, and equal replies folded. Each method returns what goes to stdout."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence

from remaphore import Message, Reply, Summary
from remaphore_plugins.reply_collector.folding import fold
from remaphore_plugins.reply_collector.tally import WORDS, Kind, Tally, Verdict, judge
from remaphore_plugins.reply_collector.terminal import for_terminal, paint

_NONCE_BYTES = 16
_MARGIN = b"  "  # before each line of an output, so that none can pass for the head of a group


class Format:
    """Says nothing; a format has its own answer to some of these events."""

    def requested(self, request: Message, expected: tuple[str, ...]) -> bytes:  # noqa: ARG002 - for those that do
        """Return what is to be written once *request* was sent."""
        return b""

    def reply(self, request: Message, reply: Reply) -> bytes:  # noqa: ARG002 - the same
        """Return what is to be written when *reply* comes."""
        return b""

    def finished(self, request: Message, summary: Summary) -> bytes:  # noqa: ARG002 - the same
        """Return what is to be written when nothing more will come for *request*."""
        return b""

    def end(self, tally: Tally) -> bytes:  # noqa: ARG002 - the same
        """Return what is to be written when all is over."""
        return b""


class Lines(Format):
    """`destination,exit-code,output`; one of several lines is framed by 32 hex characters that nobody can foresee."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._nonce = secrets.token_hex(_NONCE_BYTES).encode()

    def reply(self, request: Message, reply: Reply) -> bytes:  # noqa: ARG002 - every line stands for itself
        """Return the line, or the framed lines, of *reply*."""
        text = reply.peer.encode() + b"," + reply.text
        if b"\n" in text:
            text = b"--> %b\n%b\n--< %b" % (self._nonce, text, self._nonce)
        return (for_terminal(text) if self._terminal else text) + b"\n"


class Fold(Format):
    """Each exit code and output once, with the names of all that gave it; what needs attention comes last."""

    def __init__(self, *, terminal: bool, colour: bool) -> None:
        self._terminal = terminal
        self._colour = colour
        self._groups: defaultdict[tuple[Verdict, bytes], list[str]] = defaultdict(list)

    def reply(self, request: Message, reply: Reply) -> bytes:  # noqa: ARG002 - they are folded over all requests
        """Keep *reply* for the end."""
        verdict = judge(reply)
        # What a rejection says is its head; of the others the text is what the original prints after the exit code.
        output = b"" if reply.rejected else reply.text.partition(b",")[2] if reply.exit_code is not None else reply.text
        self._groups[verdict, output].append(reply.peer)
        return b""

    def end(self, tally: Tally) -> bytes:
        """Return all groups: by what they mean, the largest of a kind first."""
        rank = list(WORDS)
        groups = sorted(self._groups.items(), key=lambda group: (rank.index(group[0][0].kind), -len(group[1]), group))
        shown = [self._head(verdict, names) + self._body(output) for (verdict, output), names in groups]
        silent: tuple[Kind, ...] = ("missing", "not_asked")
        shown += [self._head(Verdict(kind), tally.names(kind)) for kind in silent if tally.count(kind)]
        return b"".join(shown)

    def _head(self, verdict: Verdict, names: Sequence[str]) -> bytes:
        what = "exit code 0" if verdict.kind == "ok" else str(verdict)
        return f"{fold(names)} ({len(names)}): {paint(what, verdict.kind) if self._colour else what}\n".encode()

    def _body(self, output: bytes) -> bytes:
        text = for_terminal(output) if self._terminal else output
        return _MARGIN + text.replace(b"\n", b"\n" + _MARGIN) + b"\n" if text else b""
