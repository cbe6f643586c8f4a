"""Floods through the broker."""

import asyncio
import time
from itertools import count


async def flood(bus, make, *, seconds, least=1, where="remaphore.all", at_once=8):
    """Publish `make(0)`, `make(1)` and so on for *seconds*, and until *least* were sent."""
    numbers = count()
    end = time.monotonic() + seconds

    async def publish():
        while (number := next(numbers)) < least or time.monotonic() < end:
            await bus.publish(where, make(number))

    await asyncio.gather(*(publish() for _ in range(at_once)))
