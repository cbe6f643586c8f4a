"""Composing messages: which identity signs, at what time, and what a reply looks like."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from remaphore.config.settings import Config, Identity
from remaphore.errors import PayloadTooLargeError
from remaphore.protocol import duration, wire
from remaphore.protocol.message import REPLY_VERB, Message, Reply, reply_uuid, uuid_from_text

Clock = Callable[[], int]  # Unix nanoseconds

# A clock that is behind the last signed time by more than this was set back. The signer follows it, because receivers
# reject times in their future. By less, the next time is the last one plus CLOCK_STEP_SLOTS, ahead of the clock.
STEP_NS = duration.SECOND
# Timestamps are multiples of CLOCK_STEP_SLOTS plus a slot number that changes each time the clock steps back, so that
# no nanosecond is ever signed twice. Example, with 512 slots and the slot 0:
#
#     the clock shows 5,000:                            4,608 is signed (9 * 512 + slot 0)
#     the clock still shows 5,000:                      5,120 is signed (the last one + 512)
#     the clock is set back 2 s: the slot becomes 1
#     2 s later the clock shows 5,000 again:            4,609 is signed (9 * 512 + slot 1), and not 4,608
#
# After 512 steps back within one run, slots are used again.
CLOCK_STEP_SLOTS = 512


class Outgoing(NamedTuple):
    """A signed message: its contents, with the digest, and its bytes."""

    message: Message
    raw: bytes


class Signer:
    """Composes and signs the messages of one node, never two with the same nanosecond."""

    def __init__(self, config: Config, clock: Clock = time.time_ns) -> None:
        self.config = config
        self._clock = clock
        self._last = 0
        self._slot = 0

    def compose(
        self, verb: str, *, to: str, payload: bytes, uuid: str = "", key: str = "", wants_reply: bool = False
    ) -> Outgoing:
        """Sign a message for the nodes that the pattern *to* reaches, with the identity *key* or the default one.

        uuid: the user's text, empty for a random one. Raise NotPermittedError if the identity may not send *verb*,
        EncodeError for what no message can carry, PayloadTooLargeError for more than receivers accept.
        """
        identity = self.config.sender(verb, key)
        message = Message(
            sender=identity.key,
            destination=to,
            verb=verb,
            uuid=uuid_from_text(uuid),
            time_ns=self._now(),
            wants_reply=wants_reply,
            payload=payload,
        )
        outgoing = _sign(message, identity)
        if len(outgoing.raw) > wire.MAX_MESSAGE_BYTES:
            raise PayloadTooLargeError(
                f"message too large: {len(outgoing.raw)} bytes, receivers accept {wire.MAX_MESSAGE_BYTES}",
                hint="send a shorter payload",
            )
        return outgoing

    def reply(self, request: Message, reply: Reply, *, limit: int) -> Outgoing:
        """Sign *reply* to *request*, with the default identity whatever its verbs, in at most *limit* bytes.

        An output that would not fit is cut, and its last line states that. Raise PayloadTooLargeError if *limit* is
        too small even for an empty output.
        """
        identity = self.config.identity()
        message = Message(
            sender=identity.key,
            destination="",
            verb=REPLY_VERB,
            uuid=reply_uuid(request.digest),
            time_ns=self._now(),
            payload=reply.payload,
        )
        signed = _sign(message, identity)
        excess = len(signed.raw) - min(limit, wire.MAX_MESSAGE_BYTES)
        if excess <= 0:
            return signed
        note = b"\nremaphore: output cut to fit the broker's limit: %d bytes in all\n" % len(reply.output)
        # base58 text is as long as its value needs: the second signature may need a character or two more.
        kept = len(reply.output) - excess - len(note) - 8
        if kept < 0:
            raise PayloadTooLargeError(
                f"the broker's limit of {limit} bytes leaves no room for a reply",
                hint="raise max_payload of the broker",
            )
        cut = replace(reply, output=reply.output[:kept] + note)
        return _sign(replace(message, payload=cut.payload), identity)

    def receipt(self, request: Message) -> Outgoing:
        """Sign the receipt for *request*, with the identity that signs its reply."""
        from remaphore.protocol import receipt  # with the gate's modules, which `remaphore -s` does without

        identity = self.config.identity()
        return _sign(receipt.compose(request.digest, sender=identity.key, time_ns=self._now()), identity)

    def _now(self) -> int:
        now = self._clock()
        if now < self._last - STEP_NS:
            self._last, self._slot = 0, (self._slot + 1) % CLOCK_STEP_SLOTS
        self._last = max(now - now % CLOCK_STEP_SLOTS + self._slot, self._last + CLOCK_STEP_SLOTS)
        return self._last


def _sign(message: Message, identity: Identity) -> Outgoing:
    raw = wire.encode(message, identity.load())
    return Outgoing(replace(message, digest=wire.digest(raw)), raw)
