"""Sending a reply to the requester."""

from __future__ import annotations

from contextlib import suppress

import structlog

from remaphore.config.settings import Config
from remaphore.errors import ConnectionLostError, PayloadTooLargeError, RemaphoreError, describe
from remaphore.messaging.signer import Signer
from remaphore.protocol import subject
from remaphore.protocol.message import Message, Reply
from remaphore.transport.bus import Bus

# A reply that may or may not have arrived is sent again: the requester accepts the first of each destination.
ATTEMPTS = 4
# What every broker accepts. The last attempt is no larger, with the output cut: a broker whose limit was lowered, or
# that has a limit for our credentials, may close the connection before it can state why.
SURE_BYTES = 512

# In place of a reply that cannot be composed or sent because of an unexpected error.
UNSENDABLE = Reply(-1, b"remaphore: the reply could not be sent, see the log of the responder\n")

_log = structlog.get_logger()


async def send_reply(bus: Bus, config: Config, signer: Signer, request: Message, reply: Reply) -> None:
    """Sign *reply* and publish it where the sender of *request* listens. Raise TransportError if that fails."""
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


async def try_send_reply(bus: Bus, config: Config, signer: Signer, request: Message, reply: Reply) -> bool:
    """Send *reply* if the sender of *request* waits for one; return whether it was sent. Failures are logged."""
    if not request.wants_reply:
        return False
    try:
        await send_reply(bus, config, signer, request, reply)
    except RemaphoreError as error:
        _log.error("reply_failed", **request.log_fields, error=str(error), hint=error.hint)
    except Exception as error:  # noqa: BLE001 - such as no memory for a large output: the requester gets a short reply
        _log.error("reply_failed", **request.log_fields, error=describe(error))
        with suppress(Exception):
            await send_reply(bus, config, signer, request, UNSENDABLE)
    else:
        return True
    return False
