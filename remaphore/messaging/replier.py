"""Sending a reply to who asked."""

from __future__ import annotations

from remaphore.config.settings import Config
from remaphore.errors import ConnectionLostError, PayloadTooLargeError
from remaphore.messaging.signer import Signer
from remaphore.protocol import subject
from remaphore.protocol.message import Message, Reply
from remaphore.transport.bus import Bus

# A reply that may or may not have arrived is sent again: the requester takes the first of each destination.
ATTEMPTS = 4
# What every broker takes. The last attempt is no larger, with the output cut: a broker whose limit was lowered, or that
# has one for our login, may close the connection without getting to say why.
SURE_BYTES = 512


async def send_reply(bus: Bus, config: Config, signer: Signer, request: Message, reply: Reply) -> None:
    """Sign *reply* and publish it where the sender of *request* listens. Raises TransportError if that cannot be."""
    where = subject.for_replies(config.subject, request.digest)
    for attempt in range(1, ATTEMPTS + 1):
        limit = bus.max_payload if attempt < ATTEMPTS else min(bus.max_payload, SURE_BYTES)
        signed = signer.reply(request, reply, limit=limit)
        try:
            return await bus.publish(where, signed.raw)
        except (ConnectionLostError, PayloadTooLargeError):
            if attempt == ATTEMPTS:
                raise
    return None
