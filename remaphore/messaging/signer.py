"""Making messages: which identity signs, when, and what a reply looks like."""

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

# A clock that is behind what we signed last by more than this was set back. We follow it, since receivers reject what
# lies in their future; by less, what we sign next comes after what we signed last, a little ahead of the clock.
STEP_NS = duration.SECOND
# Nanoseconds are signed in steps of this many, of which each setting back has its own: so a time that comes a second
# time is not signed a second time.
LANES = 512


class Outgoing(NamedTuple):
    """A signed message: what it says, with its digest, and its bytes."""

    message: Message
    raw: bytes


class Signer:
    """Composes and signs the messages of one node; never two with the same nanosecond."""

    def __init__(self, config: Config, clock: Clock = time.time_ns) -> None:
        self.config = config
        self._clock = clock
        self._last = 0
        self._lane = 0

    def compose(
        self, verb: str, *, to: str, payload: bytes, uuid: str = "", key: str = "", wants_reply: bool = False
    ) -> Outgoing:
        """Sign a message for the nodes that the pattern *to* reaches, with the identity *key* or the default one.

        uuid is the user's text, empty for a random one. Raises NotPermittedError if the identity may not send *verb*,
        EncodeError for what no message can carry, PayloadTooLargeError for more than receivers take.
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
                f"the message has {len(outgoing.raw)} bytes, receivers take {wire.MAX_MESSAGE_BYTES}"
            )
        return outgoing

    def reply(self, request: Message, reply: Reply, *, limit: int) -> Outgoing:
        """Sign *reply* to *request*, with the default identity whatever its verbs, in at most *limit* bytes.

        An output that would not fit is cut, and says so in a last line.
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
        return _sign(replace(message, payload=_cut(reply, excess).payload), identity)

    def _now(self) -> int:
        now = self._clock()
        if now < self._last - STEP_NS:
            self._last, self._lane = 0, (self._lane + 1) % LANES
        self._last = max(now - now % LANES + self._lane, self._last + LANES)
        return self._last


def _sign(message: Message, identity: Identity) -> Outgoing:
    raw = wire.encode(message, identity.load())
    return Outgoing(replace(message, digest=wire.digest(raw)), raw)


def _cut(reply: Reply, excess: int) -> Reply:
    note = b"\nremaphore: output cut to fit the broker's limit: %d bytes in all\n" % len(reply.output)
    # base58 text is as long as its value needs: a signature may take a character or two more the second time.
    kept = len(reply.output) - excess - len(note) - 8
    if kept < 0:
        raise PayloadTooLargeError("the broker's limit leaves no room for a reply")
    return replace(reply, output=reply.output[:kept] + note)
