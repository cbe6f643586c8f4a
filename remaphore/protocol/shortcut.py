"""The shortcut of the gate: from the bytes of a message to its verdict, for nearly all messages that arrive.

In a flood each microsecond counts, so what most messages need is written out here once more, in one function: those
that pass all cheap checks, and those that are dropped for their destination, sender or verb. It decides nothing that
`Gate.decode` and `PRECHECKS` would decide otherwise, and leaves the rest to them: a property test holds both equal.
"""

from __future__ import annotations

import hashlib
from binascii import unhexlify
from collections.abc import Callable, Mapping, Sequence

from remaphore.protocol import wire
from remaphore.protocol.drop import DropKind, DropReason
from remaphore.protocol.match import matches
from remaphore.protocol.message import UUID_BYTES
from remaphore.protocol.peers import ANY_VERB, Peer, permits

# The reasons of the checks that `judge` makes, in their order. A gate with other checks has no shortcut.
REASONS = (
    *(DropReason.NOT_A_REQUEST, DropReason.NOT_ADDRESSED, DropReason.OWN_MESSAGE, DropReason.UNKNOWN_SENDER),
    *(DropReason.VERB_NOT_PERMITTED, DropReason.OUTSIDE_WINDOW, DropReason.FILTERED, DropReason.DUPLICATE),
)
# Patterns whose match is remembered, and how long each may be: half a MiB at most. All others take the long way.
MAX_PATTERNS = 1024
MAX_PATTERN_BYTES = 128

_HEX = b"0123456789abcdef"
# Of a time from 2006 to 2262 in nanoseconds: its first digit is 1 to 7.
_TIME_DIGITS = 16
_ID_DIGITS = frozenset(range(2, 2 * UUID_BYTES + 1, 2))

# Gets a message and the time of its arrival; returns what `Shortcut.judge` returns.
Judge = Callable[[bytes, int], tuple[wire.Frame, bytes] | DropKind | None]


class Shortcut:
    """Judges messages for a gate without filters.

    *kinds*: what messages are dropped as: for their pattern, as our own, for their sender, for their verb; first those
    whose pattern is not exactly our destination, then those whose is. *knows*: whether a message with a digest was
    accepted. The others are those of the gate's policy.
    """

    def __init__(
        self,
        kinds: Sequence[Sequence[DropKind]],
        *,
        destination: str,
        peers: Mapping[str, Peer],
        own_keys: frozenset[str],
        allow_skew_ns: int,
        knows: Callable[[bytes], bool],
    ) -> None:
        self._kinds = kinds
        self._destination = destination
        self._peers = peers
        self._own_keys = own_keys
        self._allow_skew_ns = allow_skew_ns
        self._knows = knows
        # By its bytes: the text, whether it matches our destination, and as what messages with it are dropped.
        self._patterns: dict[bytes, tuple[str, bool, Sequence[DropKind]]] = {}

    def learn(self, pattern: str) -> None:
        """Remember *pattern*, the destination of a well-formed message, for the next one that has it."""
        encoded = pattern.encode()
        if not pattern or len(encoded) > MAX_PATTERN_BYTES or encoded in self._patterns:
            return
        if len(self._patterns) >= MAX_PATTERNS:
            self._patterns.clear()
        kinds = self._kinds[pattern == self._destination]
        self._patterns[encoded] = pattern, matches(self._destination, pattern), kinds

    def judge(self, raw: bytes, now: int) -> tuple[wire.Frame, bytes] | DropKind | None:  # noqa: PLR0911 - one for each check
        """Return the fields and the digest of *raw* if it passes all prechecks, or as what it is dropped.

        None: decode it and run the checks. That is so for malformed messages, for patterns that are not known yet, and
        where the sender of a drop may get a rejection.
        """
        fields = raw.split(b",", 7)
        if len(fields) != 8 or (known := self._patterns.get(fields[2])) is None:
            return None
        key, signature, _, time, uuid, name, flag, payload = fields
        wants_reply = flag == b"Q"
        if (
            not (wants_reply or flag == b"_")
            or len(time) != _TIME_DIGITS
            or not b"1" <= time < b"8"
            or len(uuid) not in _ID_DIGITS
            or (time + uuid).translate(None, _HEX)
            or len(name) > wire.MAX_VERB_BYTES
            or len(raw) > wire.MAX_MESSAGE_BYTES
        ):
            return None
        try:
            sender = key.decode("ascii")
            verb = name.decode()
        except UnicodeDecodeError:
            return None
        pattern, addressed, (not_addressed, own, unknown, not_permitted) = known
        if not addressed:
            return not_addressed
        peer = self._peers.get(sender)
        if peer is None:
            return own if sender in self._own_keys else unknown
        if not (verb in peer.verbs or ANY_VERB in peer.verbs or (b":" in name and permits(peer.verbs, verb))):
            return None if wants_reply else not_permitted
        time_ns = int(time, 16)
        if not -self._allow_skew_ns <= now - time_ns <= self._allow_skew_ns:
            return None
        digest = hashlib.sha256(raw).digest()
        if self._knows(digest):
            return None
        # With the peer's own text of the key, so that messages that wait do not have a copy each.
        frame = (raw, peer.key, signature, pattern, time_ns, unhexlify(uuid), verb, wants_reply, payload)
        # What `Frame(...)` calls in its own function: half its time.
        return tuple.__new__(wire.Frame, frame), digest
