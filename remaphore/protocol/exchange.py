"""One request and its replies: what the requesting side believes.

A reply is taken only if it is in reply shape, comes from a peer whom the request addressed, is the first for that
peer's destination, lies within the window, carries a good signature, and names the request: its uuid is the first 12
bytes of the request's hash. A peer that runs the original sends random uuids; its replies are taken and marked as not
bound. A destination with several keys is one node, so it has one slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from remaphore.errors import DecodeError
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import skew_error
from remaphore.protocol.message import REPLY_VERB, Message, Reply, reply_uuid
from remaphore.protocol.peers import Peer, by_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a request ended: destinations, in the order of the configuration, and the number of replies not taken.

    expected: whom the pattern addresses. answered holds failed, whose exit code was not 0, rejected, who would not act,
    and without_code, whose reply has no exit code (`NO_DATA`): an answer, no failure, and no success either. missing:
    asked, and silent. not_asked: those whose turn never came, in a request that goes out in batches.
    """

    expected: tuple[str, ...]
    answered: tuple[str, ...]
    failed: tuple[str, ...]
    rejected: tuple[str, ...]
    missing: tuple[str, ...]
    dropped: int
    without_code: tuple[str, ...] = ()
    not_asked: tuple[str, ...] = ()

    @property
    def ok(self) -> tuple[str, ...]:
        """Those who answered with the exit code 0."""
        others = {*self.failed, *self.rejected, *self.without_code}
        return tuple(name for name in self.answered if name not in others)


class Exchange:
    """Collects the replies to one request, from *responders*, each destination once."""

    def __init__(self, request: Message, responders: Iterable[Peer], *, allow_skew_ns: int, subject: str = "") -> None:
        """*request* as it was sent, with its digest; *subject* is where its replies arrive.

        `expected`: the destinations that were asked, each once, in the order of the configuration.
        """
        self.request = request
        self.replies: dict[str, Reply] = {}
        self.dropped = 0
        self._responders = by_key(responders)
        self.expected = tuple(dict.fromkeys(peer.destination for peer in self._responders.values()))
        self._uuid = reply_uuid(request.digest)
        self._allow_skew_ns = allow_skew_ns
        self._subject = subject

    @property
    def complete(self) -> bool:
        """Whether all have answered. Asked for every reply, so it does not look for who is missing."""
        return len(self.replies) >= len(self.expected)

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that have not answered yet."""
        return tuple(name for name in self.expected if name not in self.replies)

    def summary(self) -> Summary:
        """Return how things stand."""
        answers = [(name, self.replies[name]) for name in self.expected if name in self.replies]
        return Summary(
            expected=self.expected,
            answered=tuple(name for name, _ in answers),
            failed=tuple(name for name, reply in answers if reply.exit_code and not reply.rejected),
            rejected=tuple(name for name, reply in answers if reply.rejected),
            missing=self.missing,
            dropped=self.dropped,
            without_code=tuple(name for name, reply in answers if reply.exit_code is None),
        )

    def admit(self, raw: bytes, now: int) -> Reply | Drop:
        """Judge *raw*, which arrived on the reply subject at *now* (Unix nanoseconds)."""
        try:
            frame = wire.decode(raw)
        except DecodeError as error:
            return self._drop(DropReason.MALFORMED, str(error), raw)
        failure = self._screen(frame, now)
        if failure is not None:
            return self._drop(*failure, raw)
        if not wire.verify(frame):
            return self._drop(DropReason.BAD_SIGNATURE, "", raw)
        return self._take(frame, self._responders[frame.sender])

    def _screen(self, frame: wire.Frame, now: int) -> tuple[DropReason, str] | None:
        if frame.destination or frame.verb != REPLY_VERB or frame.wants_reply:
            return DropReason.NOT_A_REPLY, "a request, by its destination, verb or flag"
        peer = self._responders.get(frame.sender)
        if peer is None:
            return DropReason.NOT_ASKED, "no peer that the request addressed has this key"
        if peer.destination in self.replies:
            return DropReason.ANSWERED_ALREADY, "this destination has answered"
        late = skew_error(frame.time_ns, now, self._allow_skew_ns)
        if late is not None:
            return DropReason.OUTSIDE_WINDOW, late
        if frame.uuid != self._uuid and not peer.legacy:
            # A peer that runs the original needs `compatibility = "legacy"` on its table.
            return DropReason.NOT_BOUND, "its uuid does not name this request"
        return None

    def _take(self, frame: wire.Frame, peer: Peer) -> Reply:
        reply = Reply.parse(
            frame.payload,
            peer=peer.destination,
            sender=frame.sender,
            time_ns=frame.time_ns,
            bound=frame.uuid == self._uuid,
        )
        self.replies[peer.destination] = reply
        return reply

    def _drop(self, reason: DropReason, detail: str, raw: bytes) -> Drop:
        self.dropped += 1
        return Drop(reason, detail, len(raw), self._subject)
