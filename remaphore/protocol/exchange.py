"""One request and its replies: the checks of the requesting side.

A reply is accepted only if it has the form of a reply, comes from a peer that the request addressed, is the first for
that peer's destination, is within the time window, has a valid signature, and names the request: its uuid is the first
12 bytes of the request's digest. A peer that runs the Go implementation sends random uuids; its replies are accepted
and marked as not bound. A destination with several keys is one node, so only one reply of it is accepted.

Receipts, with which responders confirm that they have started the request, are checked by `receipt.Receipts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from remaphore.errors import DecodeError
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import skew_error
from remaphore.protocol.message import REPLY_VERB, Message, Reply, reply_uuid
from remaphore.protocol.peers import Peer, by_key, names
from remaphore.protocol.receipt import Receipt, Receipts
from remaphore.protocol.subject import for_receipts


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The result of a request: destinations, in natural order (1, 2, 10).

    expected: those that the pattern addresses. answered: those that replied; `failed`, `rejected`, `without_code`
    and `ok` are parts of it. failed: those whose exit code is not 0. rejected: those that rejected the message.
    without_code: those whose reply has no exit code (`NO_DATA`), which is neither success nor failure. missing:
    those that were asked and did not reply. running: those of `missing` that confirmed that they have started the
    request. not_asked: those that were never asked, in a request sent in batches. dropped: the number of replies
    and receipts that were dropped.
    """

    expected: tuple[str, ...]
    answered: tuple[str, ...]
    failed: tuple[str, ...]
    rejected: tuple[str, ...]
    missing: tuple[str, ...]
    dropped: int
    without_code: tuple[str, ...] = ()
    not_asked: tuple[str, ...] = ()
    running: tuple[str, ...] = ()

    @property
    def ok(self) -> tuple[str, ...]:
        """The destinations that replied with exit code 0."""
        others = {*self.failed, *self.rejected, *self.without_code}
        return tuple(name for name in self.answered if name not in others)

    @property
    def silent(self) -> tuple[str, ...]:
        """The destinations that were asked, and neither replied nor confirmed that they have started."""
        started = frozenset(self.running)
        return tuple(name for name in self.missing if name not in started)


class Exchange:
    """Collects the replies of *responders* to one request, one for each destination, and their receipts."""

    def __init__(self, request: Message, responders: Iterable[Peer], *, allow_skew_ns: int, subject: str = "") -> None:
        """Prepare for the replies to *request*, as it was sent, with its digest; *subject*: where its replies arrive.

        `expected`: the destinations that were asked, each once, in the order of *responders*.
        """
        self.request = request
        self.replies: dict[str, Reply] = {}
        self.dropped = 0
        self._responders = by_key(responders)
        self.expected = names(self._responders.values())
        self._uuid = reply_uuid(request.digest)
        self._allow_skew_ns = allow_skew_ns
        self._subject = subject
        self._receipts = Receipts(
            request.digest,
            self._responders,
            replied=self.replies.keys(),
            allow_skew_ns=allow_skew_ns,
            subject=subject and for_receipts(subject),
        )

    @property
    def complete(self) -> bool:
        """Whether all destinations have replied. It is read for every reply, so it compares two lengths only."""
        return len(self.replies) >= len(self.expected)

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that have not replied yet."""
        return tuple(name for name in self.expected if name not in self.replies)

    @property
    def running(self) -> tuple[str, ...]:
        """The destinations that confirmed that they have started, and have not replied yet."""
        return tuple(name for name in self.missing if name in self._receipts.confirmed)

    def summary(self) -> Summary:
        """Return the result so far."""
        answers = [(name, self.replies[name]) for name in self.expected if name in self.replies]
        return Summary(
            expected=self.expected,
            answered=tuple(name for name, _ in answers),
            failed=tuple(name for name, reply in answers if reply.exit_code and not reply.rejected),
            rejected=tuple(name for name, reply in answers if reply.rejected),
            missing=self.missing,
            dropped=self.dropped,
            without_code=tuple(name for name, reply in answers if reply.exit_code is None),
            running=self.running,
        )

    def admit(self, raw: bytes, now: int) -> Reply | Drop:
        """Return the reply in *raw*, which arrived at *now* (Unix nanoseconds), or why it is dropped."""
        try:
            frame = wire.decode(raw)
        except DecodeError as error:
            return self._drop(DropReason.MALFORMED, str(error), raw)
        failure = self._precheck(frame, now)
        if failure is not None:
            return self._drop(*failure, raw)
        if not wire.verify(frame):
            return self._drop(DropReason.BAD_SIGNATURE, "", raw)
        destination = self._responders[frame.sender].destination
        bound = frame.uuid == self._uuid
        reply = Reply.parse(frame.payload, peer=destination, sender=frame.sender, time_ns=frame.time_ns, bound=bound)
        self.replies[destination] = reply
        return reply

    def admit_receipt(self, raw: bytes, now: int) -> Receipt | Drop | None:
        """Return the receipt in *raw*, which arrived at *now*, or why it is dropped; None if it changes nothing."""
        verdict = self._receipts.admit(raw, now)
        if isinstance(verdict, Drop):
            self.dropped += 1
        return verdict

    def _precheck(self, frame: wire.Frame, now: int) -> tuple[DropReason, str] | None:
        if frame.destination or frame.verb != REPLY_VERB or frame.wants_reply:
            return DropReason.NOT_A_REPLY, "a request or a receipt, by its destination, verb or flag"
        peer = self._responders.get(frame.sender)
        if peer is None:
            return DropReason.NOT_ASKED, "no peer that the request addressed has this key"
        if peer.destination in self.replies:
            return DropReason.ANSWERED_ALREADY, "this destination has already replied"
        late = skew_error(frame.time_ns, now, self._allow_skew_ns)
        if late is not None:
            return DropReason.OUTSIDE_WINDOW, late
        if frame.uuid != self._uuid and not peer.legacy:
            # A peer that runs the Go implementation needs `compatibility = "legacy"` in its table.
            return DropReason.NOT_BOUND, "its uuid does not name this request"
        return None

    def _drop(self, reason: DropReason, detail: str, raw: bytes) -> Drop:
        self.dropped += 1
        return Drop(reason, detail, len(raw), self._subject)
