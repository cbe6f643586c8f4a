"""The gate: bytes and a time in, a trusted `Message` or a `Drop` out.

It is where every promise about who may do what is kept, so it does no I/O, and the order of its checks is written down
once, in `CHECKS`: cheap ones first, the signature after them, the replay check last. Nothing that a message claims is
used for anything but these checks until its signature holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from remaphore.errors import DecodeError
from remaphore.protocol import duration, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.match import matches
from remaphore.protocol.message import Message
from remaphore.protocol.peers import Peer
from remaphore.protocol.replay import ReplayWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a receiver wants beyond being addressed. None means: any.

    pattern: take only messages whose pattern is exactly this text, whether or not it reaches us. any_destination: do
    not look at the destination at all. uuid, verbs, sender: take only these.
    """

    pattern: str | None = None
    any_destination: bool = False
    uuid: bytes | None = None
    verbs: frozenset[str] | None = None
    sender: str | None = None

    def mismatch(self, frame: wire.Frame) -> str | None:
        """Return why *frame* is not wanted, or None."""
        if self.uuid is not None and frame.uuid != self.uuid:
            return "another uuid"
        if self.verbs is not None and frame.verb not in self.verbs:
            return "another verb"
        if self.sender is not None and frame.sender != self.sender:
            return "another sender"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the gate judges by: who we are, whom we know (by key text), how far a time may be off, what is wanted."""

    destination: str
    peers: Mapping[str, Peer]
    allow_skew_ns: int
    filters: Filters
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: a name for people, and the reason it drops for, which is no other check's."""

    name: str
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Precheck(Check):
    """A check that needs no signature and leaves no trace: *test* returns why it failed, or None."""

    test: Callable[[Gate, wire.Frame, int], str | None]


class Gate:
    """Admits messages. The checks, in order:

    1. shape: eight fields, each as an encoder writes it, within the limits of `wire`
    2. request: it has a destination, and is not dressed as a reply
    3. sender: its key, as text, is one of our peers'
    4. verb: that peer may send this verb to us
    5. time: within the allowed skew of our clock, at arrival
    6. destination: the pattern reaches us (or is the one that was asked for)
    7. filters: uuid, verb and sender that this receiver waits for
    8. duplicate: these very bytes were not taken before
    9. signature: made by that key over the bytes that arrived
    10. replay: what was signed was not taken before

    `admit` does all. A receiver that verifies elsewhere (signatures take 50 microseconds, all the rest 5) calls
    `decode` and `precheck`, then `wire.verify`, then `commit`, in the order of arrival: `commit` is check and insert in
    one step.
    """

    def __init__(self, policy: Policy, window: ReplayWindow | None = None) -> None:
        """*window* is made new, and empty, unless one is given."""
        self.policy = policy
        self.window = window or ReplayWindow(allow_skew_ns=policy.allow_skew_ns)

    def admit(self, raw: bytes, now: int) -> Message | Drop:
        """Judge *raw*, which arrived at *now* (Unix nanoseconds)."""
        frame = self.decode(raw)
        if isinstance(frame, Drop):
            return frame
        return self.precheck(frame, now) or self.commit(frame, now, verified=wire.verify(frame))

    def decode(self, raw: bytes) -> wire.Frame | Drop:
        """Return the fields of *raw*, none of which is verified, or why it has no shape."""
        try:
            return wire.decode(raw)
        except DecodeError as error:
            return self._drop(SHAPE, str(error), raw)

    def precheck(self, frame: wire.Frame, now: int) -> Drop | None:
        """Run every check that needs no signature and leaves no trace; return the first failure, or None."""
        for check in PRECHECKS:
            failure = check.test(self, frame, now)
            if failure is not None:
                return self._drop(check, failure, frame.raw)
        return None

    def commit(self, frame: wire.Frame, now: int, *, verified: bool) -> Message | Drop:
        """Take a screened *frame* whose signature was found good (*verified*), unless it was taken before."""
        if not verified:
            return self._drop(SIGNATURE, "", frame.raw)
        digest = wire.digest(frame.raw)
        if not self.window.accept(frame.sender, frame.signed, digest=digest, time_ns=frame.time_ns, now=now):
            return self._drop(REPLAY, "taken before, or signed before what was forgotten", frame.raw)
        return frame.message(
            digest,
            sender_name=self.policy.peers[frame.sender].destination,
            own_destination=self._own_destination(frame),
        )

    def _drop(self, check: Check, detail: str, raw: bytes) -> Drop:
        return Drop(check.reason, detail, len(raw), self.policy.subject)

    def _own_destination(self, frame: wire.Frame) -> str:
        own, filters = self.policy.destination, self.policy.filters
        if filters.any_destination:
            return ""
        # Without a pattern of its own, the receiver was addressed, or the frame would not have come so far.
        return own if filters.pattern is None or matches(own, frame.destination) else ""


def skew_error(time_ns: int, now: int, allow_skew_ns: int) -> str | None:
    """Return how far *time_ns* is off if that is more than is allowed, or None."""
    skew = now - time_ns
    if abs(skew) <= allow_skew_ns:
        return None
    off = f"{abs(skew) / duration.SECOND:.1f} s {'behind' if skew > 0 else 'ahead of'}"
    return f"signed {off} our clock, allowed are {allow_skew_ns / duration.SECOND:g} s"


def _not_a_request(_gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    # With a destination, the verb `reply` is a verb like any other: no encoder of replies writes one.
    return None if frame.destination else "no destination, as only replies have"


def _unknown(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return None if frame.sender in gate.policy.peers else "no peer has this key"


def _not_permitted(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return None if gate.policy.peers[frame.sender].may_send(frame.verb) else "not among the peer's verbs"


def _outside_window(gate: Gate, frame: wire.Frame, now: int) -> str | None:
    return skew_error(frame.time_ns, now, gate.policy.allow_skew_ns)


def _not_addressed(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    filters = gate.policy.filters
    if filters.any_destination:
        return None
    if filters.pattern is not None:
        return None if frame.destination == filters.pattern else "another pattern than the one asked for"
    return None if matches(gate.policy.destination, frame.destination) else "the pattern does not reach us"


def _filtered(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return gate.policy.filters.mismatch(frame)


def _duplicate(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return "these bytes were taken before" if gate.window.knows(wire.digest(frame.raw)) else None


SHAPE = Check("shape", DropReason.MALFORMED)
PRECHECKS = (
    Precheck("request", DropReason.NOT_A_REQUEST, _not_a_request),
    Precheck("sender", DropReason.UNKNOWN_SENDER, _unknown),
    Precheck("verb", DropReason.VERB_NOT_PERMITTED, _not_permitted),
    Precheck("time", DropReason.OUTSIDE_WINDOW, _outside_window),
    Precheck("destination", DropReason.NOT_ADDRESSED, _not_addressed),
    Precheck("filters", DropReason.FILTERED, _filtered),
    Precheck("duplicate", DropReason.DUPLICATE, _duplicate),
)
SIGNATURE = Check("signature", DropReason.BAD_SIGNATURE)
REPLAY = Check("replay", DropReason.REPLAYED)

# All there are, in order: a drop's reason is that of one of these, and all before it have passed.
CHECKS: tuple[Check, ...] = (SHAPE, *PRECHECKS, SIGNATURE, REPLAY)
