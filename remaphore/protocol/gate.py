"""The gate: bytes and a time go in, a trusted `Message` or a `Drop` comes out.

All promises about permissions are kept here, so the gate does no I/O, and the order of its checks is defined once,
in `CHECKS`: cheap ones first, then the signature, the replay check last. Until the signature is verified, the contents
of a message are used for these checks only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from remaphore.errors import DecodeError
from remaphore.protocol import duration, wire
from remaphore.protocol.drop import Drop, DropKind, DropReason
from remaphore.protocol.match import matches
from remaphore.protocol.message import Message
from remaphore.protocol.peers import Peer
from remaphore.protocol.replay import ReplayWindow
from remaphore.protocol.shortcut import REASONS, Judge, Shortcut


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The messages that a receiver accepts, of those addressed to it. None means any.

    pattern: accept only messages with exactly this pattern, whether or not it matches our destination. any_destination:
    ignore the destination. uuid, verbs, sender: accept only messages with these.
    """

    pattern: str | None = None
    any_destination: bool = False
    uuid: bytes | None = None
    verbs: frozenset[str] | None = None
    sender: str | None = None

    def mismatch(self, frame: wire.Frame) -> str | None:
        """Return why *frame* does not match, or None."""
        if self.uuid is not None and frame.uuid != self.uuid:
            return "the uuid does not match the filter"
        if self.verbs is not None and frame.verb not in self.verbs:
            return "the verb does not match the filter"
        if self.sender is not None and frame.sender != self.sender:
            return "the sender does not match the filter"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The gate's settings.

    destination: ours. own_keys: the public keys of all our identities. peers: by the text of their key.
    """

    destination: str
    own_keys: frozenset[str]
    peers: Mapping[str, Peer]
    allow_skew_ns: int
    filters: Filters
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: a name for people, and the reason that it drops for. No two checks have the same reason."""

    name: str
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Precheck(Check):
    """A check that needs no signature and changes nothing: *test* returns why a frame failed it, or None."""

    test: Callable[[Gate, wire.Frame, int], str | None]


class Gate:
    """Admits messages. The checks, in order:

    1. shape: eight fields, each as an encoder writes it, within the limits of `wire`
    2. request: it has a destination, which replies do not have
    3. destination: the pattern matches our destination (or is the filtered one)
    4. own-key: its key, as text, is not one of ours, unless a peer has it too
    5. sender: its key, as text, is that of a peer
    6. verb: that peer may send this verb to us
    7. time: within the allowed skew of our clock, at arrival
    8. filters: uuid, verb and sender that this receiver waits for
    9. duplicate: exactly these bytes were not accepted before
    10. signature: made with that key over the bytes that arrived
    11. payload: the payload rule of that peer for this verb, if there is one, permits it
    12. replay: the signed bytes were not accepted before

    The payload comes after the signature: a pattern is not run on bytes of outsiders.
    The destination comes before the sender: all nodes of a site share a subject, and what other nodes send to each
    other, with keys that we need not know, is no concern of ours.

    `admit` runs all of them. A receiver that verifies in other processes (a signature takes 50 microseconds, everything
    else 5) calls `decode` and `precheck`, then `wire.verify`, then `commit`, in the order of arrival: `commit` checks
    and inserts in one step, so that of two copies that were prechecked together only one is accepted.

    `judge` makes checks 1 to 9 of most messages in one step, from their bytes. It decides nothing that `decode` and
    `PRECHECKS` do not: a property test holds both equal. A gate with filters, or with a check that `judge` lacks,
    decides nothing by it.
    """

    def __init__(self, policy: Policy, window: ReplayWindow | None = None) -> None:
        """Use *window*, or a new and empty one if none is given."""
        self.policy = policy
        self.window = window or ReplayWindow(allow_skew_ns=policy.allow_skew_ns)
        self._shortcut = Shortcut(
            [[DropKind(*each, policy.subject, exact=exact) for each in _DROPPED] for exact in (False, True)],
            destination=policy.destination,
            peers=policy.peers,
            own_keys=policy.own_keys,
            allow_skew_ns=policy.allow_skew_ns,
            knows=self.window.knows,
        )
        self._judges = policy.filters == Filters() and tuple(check.reason for check in PRECHECKS) == REASONS

    def admit(self, raw: bytes, now: int) -> Message | Drop:
        """Return the message in *raw*, which arrived at *now* (Unix nanoseconds), or why it is dropped."""
        passed = self.check(raw, now)
        if isinstance(passed, Drop):
            return passed
        frame, digest = passed
        return self.commit(frame, now, digest=digest, verified=wire.verify(frame))

    def check(self, raw: bytes, now: int) -> tuple[wire.Frame, bytes] | Drop:
        """Return the fields and the digest of *raw* if it passes all checks before the signature, else its drop."""
        frame = self.decode(raw)
        if isinstance(frame, Drop):
            return frame
        passed = self.precheck(frame, now)
        return passed if isinstance(passed, Drop) else (frame, passed)

    @property
    def judge(self) -> Judge:
        """The function that makes the checks of most messages in one step, see `Shortcut.judge`."""
        return self._shortcut.judge if self._judges else lambda _raw, _now: None

    def decode(self, raw: bytes) -> wire.Frame | Drop:
        """Return the fields of *raw*, all unverified, or why it is malformed."""
        try:
            frame = wire.decode(raw)
        except DecodeError as error:
            return Drop(SHAPE.reason, str(error), len(raw), self.policy.subject)
        self._shortcut.learn(frame.destination)
        return frame

    def precheck(self, frame: wire.Frame, now: int) -> bytes | Drop:
        """Run every check that needs no signature and changes nothing.

        Return the digest of the message if it passes them all, else the first failure.
        """
        for check in PRECHECKS:
            failure = check.test(self, frame, now)
            if failure is not None:
                return self._drop(check, failure, frame)
        return wire.digest(frame.raw)

    def commit(self, frame: wire.Frame, now: int, *, digest: bytes, verified: bool) -> Message | Drop:
        """Accept a prechecked *frame*, unless it was accepted before.

        digest: what `precheck` returned. verified: whether its signature is valid.
        """
        if not verified:
            return self._drop(SIGNATURE, "", frame)
        peer = self.policy.peers[frame.sender]
        if peer.only and not peer.may_send_payload(frame.verb, frame.payload):
            return self._drop(PAYLOAD, "not among the payloads that the peer may send with this verb", frame)
        if not self.remember(frame, digest=digest, now=now):
            return self._drop(REPLAY, "accepted before, or not signed after the sender's low-water mark", frame)
        return frame.message(
            digest,
            sender_name=peer.destination,
            own_destination=self.own_destination(frame),
        )

    def remember(self, frame: wire.Frame, *, digest: bytes, now: int) -> bool:
        """Record in the replay window that *frame* is accepted or rejected; return False if it must not be.

        digest: of the whole message. The caller has verified its signature.
        """
        return self.window.accept(
            frame.sender,
            frame.signed,
            digest=digest,
            time_ns=frame.time_ns,
            now=now,
            verb=frame.verb,
            wants_reply=frame.wants_reply,
            uuid=frame.uuid,
        )

    def own_destination(self, frame: wire.Frame) -> str:
        """Return our destination if the pattern of *frame*, which passed `precheck`, matches it, else an empty text."""
        # Without a filter on the pattern, the pattern matched our destination: the frame passed that check.
        own, filters = self.policy.destination, self.policy.filters
        addressed = filters.pattern is None or matches(own, frame.destination)
        return own if addressed and not filters.any_destination else ""

    def is_exact(self, frame: wire.Frame) -> bool:
        """Return whether the pattern of *frame* is exactly our destination."""
        return frame.destination == self.policy.destination

    def _drop(self, check: Check, detail: str, frame: wire.Frame) -> Drop:
        return Drop(check.reason, detail, len(frame.raw), self.policy.subject, exact=self.is_exact(frame))


_ELSEWHERE = "the pattern does not match our destination"
_OURS = "our own key, which no peer has"
_NO_PEER = "no peer has this key"
_NO_VERB = "not among the peer's verbs"
# What the shortcut drops, in its order.
_DROPPED = (
    *((DropReason.NOT_ADDRESSED, _ELSEWHERE), (DropReason.OWN_MESSAGE, _OURS)),
    *((DropReason.UNKNOWN_SENDER, _NO_PEER), (DropReason.VERB_NOT_PERMITTED, _NO_VERB)),
)


def skew_error(time_ns: int, now: int, allow_skew_ns: int) -> str | None:
    """Return how far *time_ns* is off, in words, if that is more than *allow_skew_ns*, or None."""
    skew = now - time_ns
    if abs(skew) <= allow_skew_ns:
        return None
    off = f"{abs(skew) / duration.SECOND:.1f} s {'behind' if skew > 0 else 'ahead of'}"
    return f"signed {off} our clock (allowed: {allow_skew_ns / duration.SECOND:g} s)"


def _not_a_request(_gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    # A frame with a destination is a request, even with the verb `reply`: no encoder writes a destination in a reply.
    return None if frame.destination else "no destination: only replies and receipts have none"


def _not_addressed(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    policy, pattern = gate.policy, frame.destination
    filters = policy.filters
    if filters.any_destination:
        return None
    if filters.pattern is not None:
        return None if pattern == filters.pattern else "the pattern does not match the filter"
    return None if matches(policy.destination, pattern) else _ELSEWHERE


def _own_key(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    # The list of peers may contain this node, such as one that is the same on all nodes: then it is judged as a peer.
    policy, sender = gate.policy, frame.sender
    return _OURS if sender in policy.own_keys and sender not in policy.peers else None


def _unknown(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return None if frame.sender in gate.policy.peers else _NO_PEER


def _not_permitted(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return None if gate.policy.peers[frame.sender].may_send(frame.verb) else _NO_VERB


def _outside_window(gate: Gate, frame: wire.Frame, now: int) -> str | None:
    return skew_error(frame.time_ns, now, gate.policy.allow_skew_ns)


def _filtered(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return gate.policy.filters.mismatch(frame)


def _duplicate(gate: Gate, frame: wire.Frame, _now: int) -> str | None:
    return "these bytes were accepted before" if gate.window.knows(wire.digest(frame.raw)) else None


SHAPE = Check("shape", DropReason.MALFORMED)
PRECHECKS = (
    Precheck("request", DropReason.NOT_A_REQUEST, _not_a_request),
    Precheck("destination", DropReason.NOT_ADDRESSED, _not_addressed),
    Precheck("own-key", DropReason.OWN_MESSAGE, _own_key),
    Precheck("sender", DropReason.UNKNOWN_SENDER, _unknown),
    Precheck("verb", DropReason.VERB_NOT_PERMITTED, _not_permitted),
    Precheck("time", DropReason.OUTSIDE_WINDOW, _outside_window),
    Precheck("filters", DropReason.FILTERED, _filtered),
    Precheck("duplicate", DropReason.DUPLICATE, _duplicate),
)
SIGNATURE = Check("signature", DropReason.BAD_SIGNATURE)
PAYLOAD = Check("payload", DropReason.PAYLOAD_NOT_PERMITTED)
REPLAY = Check("replay", DropReason.REPLAYED)

# All checks, in order: a drop has the reason of one of these, and the frame passed all before it.
CHECKS: tuple[Check, ...] = (SHAPE, *PRECHECKS, SIGNATURE, PAYLOAD, REPLAY)
