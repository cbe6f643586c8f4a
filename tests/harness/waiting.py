"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress


async def until(condition: Callable[[], object], *, limit: float = 30.0) -> None:
    """Return as soon as *condition* holds; fail the test after *limit* seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit} s: {condition}"
        await asyncio.sleep(0.005)


async def wait_despite_cancelling(event: asyncio.Event) -> None:
    """Return when *event* is set, however often the task is cancelled before."""
    while not event.is_set():
        with suppress(asyncio.CancelledError):
            await event.wait()
