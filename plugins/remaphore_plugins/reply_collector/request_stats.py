"""The state of each destination while replies arrive, and the labels for people."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from remaphore import Reply, Summary
from remaphore_plugins.reply_collector.terminal import clip, to_one_line

Kind = Literal["ok", "without_code", "failed", "rejected", "missing", "running", "silent", "not_asked"]

# From what needs no attention to what needs most; the labels are those of the summary. Each missing destination is
# running or silent as well.
LABELS: dict[Kind, str] = {
    "ok": "ok",
    "without_code": "without exit code",
    "failed": "failed",
    "rejected": "rejected",
    "missing": "missing",
    "running": "still running",
    "silent": "silent",
    "not_asked": "not asked",
}
_REASON_COLUMNS = 120
_MAX_REJECTION = 4096  # bytes that are parsed; ours have a tenth of it, and the whole text is in the output


class Rejection(NamedTuple):
    """Why a responder rejected the request: a reason of a closed list, and details in its own words."""

    reason: str
    detail: str


class Verdict(NamedTuple):
    """What a reply means: its kind, and for people what distinguishes it from others of this kind."""

    kind: Kind
    detail: str = ""

    def __str__(self) -> str:
        return f"{LABELS[self.kind]} ({self.detail})" if self.detail else LABELS[self.kind]


def parse_rejection(reply: Reply) -> Rejection:
    """Return what the output of a rejection states: `remaphore: refused: reason: detail`, or without the detail."""
    _, _, text = to_one_line(reply.output[:_MAX_REJECTION]).partition("refused: ")
    reason, _, detail = text.partition(": ")
    return Rejection(reason, detail)


def classify(reply: Reply) -> Verdict:
    """Return what *reply* means. Only exit code 0 is a success."""
    if reply.rejected:
        reason, detail = parse_rejection(reply)
        return Verdict("rejected", clip(f"{reason}: {detail}" if detail else reason, _REASON_COLUMNS))
    if reply.exit_code is None:
        return Verdict("without_code")
    return Verdict("failed", f"exit code {reply.exit_code}") if reply.exit_code else Verdict("ok")


class RequestStats:
    """Which destinations are expected, which got a request, and what each replied."""

    def __init__(self, expected: Iterable[str] = (), *, required: int | None = None) -> None:
        self.required = required  # destinations that must succeed; None: all
        self.verdicts: dict[str, Verdict] = {}
        self.silent: dict[str, None] = {}  # asked, and neither replied nor confirmed that they have started
        self.running: list[str] = []  # confirmed that they have started, and have not replied yet; in natural order
        self.id = ""  # as the logs of all receivers have it
        self.dropped = 0
        self.interrupted = False
        self._expected = {name: number for number, name in enumerate(dict.fromkeys(expected))}  # in natural order
        self._asked: set[str] = set()
        self._counts: Counter[Kind] = Counter()

    @property
    def begun(self) -> bool:
        """Whether a request was sent."""
        return bool(self._asked)

    @property
    def expected(self) -> tuple[str, ...]:
        """All destinations that the request addresses, in natural order."""
        return tuple(self._expected)

    def requested(self, expected: Iterable[str], id: str = "") -> None:  # noqa: A002 - as the option is called
        """Count *expected*, to which a request with this *id* was sent: the same for all batches."""
        self.id = id
        names = dict.fromkeys(expected)
        for name in names:
            self._expected.setdefault(name, len(self._expected))
        self.silent |= names
        self._asked |= names.keys()

    def reply(self, reply: Reply) -> Verdict:
        """Count *reply*, and return what it means."""
        verdict = classify(reply)
        self.verdicts[reply.peer] = verdict
        self.silent.pop(reply.peer, None)
        if (place := self._running_place(reply.peer)) is not None:
            del self.running[place]
        self._counts[verdict.kind] += 1
        return verdict

    def receipt(self, peer: str) -> None:
        """Count *peer* as running, unless it has replied."""
        if peer in self.silent:
            del self.silent[peer]
            # Not sorted when it is shown: that is for each reply, and thousands may be running.
            insort(self.running, peer, key=self._expected.__getitem__)

    def _running_place(self, peer: str) -> int | None:
        if not self.running or peer not in self._expected:
            return None
        place = bisect_left(self.running, self._expected[peer], key=self._expected.__getitem__)
        return place if self.running[place : place + 1] == [peer] else None

    def finished(self, summary: Summary) -> None:
        """Count the replies that were dropped, and the receipts that arrived before the end but were not shown."""
        self.dropped += summary.dropped
        for peer in summary.running:
            self.receipt(peer)

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Return the destinations of this *kind*, in natural order."""
        if kind == "missing":
            missing = self.silent.keys() | self.running
            return tuple(name for name in self._expected if name in missing)
        if kind == "running":
            return tuple(self.running)
        if kind == "silent":
            return tuple(name for name in self._expected if name in self.silent)
        if kind == "not_asked":
            return tuple(name for name in self._expected if name not in self._asked)
        return tuple(name for name in self._expected if name in self.verdicts and self.verdicts[name].kind == kind)

    def count(self, kind: Kind) -> int:
        """Return how many destinations are of this *kind*. Called for every reply, so it does not search for them."""
        if kind == "missing":
            return len(self.silent) + len(self.running)
        if kind == "running":
            return len(self.running)
        if kind == "silent":
            return len(self.silent)
        if kind == "not_asked":
            return len(self._expected) - len(self._asked)
        return self._counts[kind]
