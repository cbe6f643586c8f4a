"""One batch of pending operations: chosen, written, and confirmed by one round trip, or lost with its connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from remaphore.errors import ConnectionLostError, PayloadTooLargeError, SubjectDeniedError
from remaphore.tasks import spawn
from remaphore.transport.nats_connection import LOST, Connection
from remaphore.transport.nats_reader import Handle
from remaphore.transport.pending import PendingOperation, boot_time, not_sent

Denied = set[tuple[str, str]]  # `publish` or `subscription`, and the subject in lower case
UNCONFIRMED = "it may or may not have been delivered"
UNCONFIRMED_HINT = "check whether the receivers have received it before you send it again"


def move_batch(queue: deque[PendingOperation], batch: list[PendingOperation], *, max_bytes: int) -> None:
    """Move to *batch* what one round trip is to confirm: operations in order, until they reach *max_bytes*.

    Those whose callers have been cancelled are dropped. Whatever is raised, each operation is in *queue* or in *batch*,
    where the caller finds it to settle it.
    """
    size = 0
    while queue and size < max_bytes:
        if not queue[0].done.done():
            batch.append(queue[0])
            size += len(queue[0].data)
        queue.popleft()


async def exchange(
    connection: Connection, operations: Sequence[PendingOperation], leaving: list[Handle], *, limit: float
) -> Denied | None:
    """Write *operations*, end the subscriptions *leaving*, and return what the broker denied; None: not confirmed.

    limit: seconds without an answer, and without any message, after which the broker has not confirmed. A connection
    that did not confirm must be closed. Only one exchange may run at a time, so that a denial, which names a subject
    but no message, belongs to what was written last. Raise whatever writing raised on a connection that is still there:
    such an error is this program's, and the next connection would have it as well.
    """

    async def write() -> Denied:
        connection.pop_denied()
        for operation in operations:
            try:
                await _write(connection, operation)
            except (PayloadTooLargeError, SubjectDeniedError) as error:
                operation.settle(error)
        while leaving:
            await connection.unsubscribe(leaving.pop())
        await connection.confirm()
        return connection.pop_denied()

    writing = spawn(write(), name="nats-write")
    try:
        either: set[asyncio.Future[Any]] = {writing, connection.ended}
        received = -1
        # A broker that still sends is not silent: its answer is queued behind the messages that it has for us. So the
        # limit starts again as long as the number of received messages changes.
        while received != connection.received and not (writing.done() or connection.ended.done()):
            received = connection.received
            await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done() or (connection.ended.done() and writing.exception() is not None):
            return None
        return writing.result()
    except LOST:
        return None
    finally:
        writing.cancel()
        # Retrieve a later exception of the broken connection, so that asyncio does not log it.
        writing.add_done_callback(lambda task: task.cancelled() or task.exception())


async def _write(connection: Connection, operation: PendingOperation) -> None:
    if operation.deliver is not None:
        operation.handle = await connection.subscribe(operation.subject, operation.receive, whole=operation.whole)
    elif operation.late is None or boot_time() <= operation.late:
        operation.written = True
        await connection.publish(operation.subject, operation.data, reply=operation.reply, headers=operation.headers)
    else:
        operation.settle(not_sent(operation.subject))


def fail_unconfirmed(connection: Connection, operations: Sequence[PendingOperation]) -> list[PendingOperation]:
    """Settle the messages among *operations* that *connection* did not confirm; return the subscriptions to repeat."""
    reason = connection.reason if connection.ended.done() else "the broker did not confirm in time"
    messages = [operation for operation in operations if operation.deliver is None and not operation.failed]
    if messages and "maximum payload" in reason.lower():
        # A limit of the credentials; the server closes the connection and does not report which message it was.
        largest = max(messages, key=lambda operation: len(operation.data))
        text = f"message of {len(largest.data)} bytes for {largest.subject}: more than the credentials allow"
        hint = "send less, or raise the payload limit of the NATS user"
        largest.settle(PayloadTooLargeError(text, hint=hint))
    for operation in messages:
        text = f"connection to {connection.server.shown} ended before it confirmed the message ({reason})"
        operation.settle(ConnectionLostError(f"{text}: {UNCONFIRMED}", hint=UNCONFIRMED_HINT))
    subscriptions = [operation for operation in operations if operation.deliver is not None]
    for operation in subscriptions:
        operation.handle = None
    return subscriptions
