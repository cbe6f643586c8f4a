"""Who holds locks, who waits for them, and ending a lease of another node: for administrators."""

from __future__ import annotations

from dataclasses import dataclass

from remaphore.config.settings import Config
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Holder


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits: as for `Holder`."""

    who: str
    known: bool
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot. holder: who holds it, or held it last; None if it is free. problem: why its last record is junk."""

    index: int
    holder: Holder | None
    problem: str


@dataclass(frozen=True, slots=True)
class LockState:
    """A lock. slots: their states, those that were never taken too. waiters: in order. problem: of its definition."""

    name: str
    slots: tuple[SlotState, ...]
    waiters: tuple[Waiter, ...]
    problem: str = ""


async def states(jetstream: JetStream, config: Config, name: str | None = None) -> list[LockState]:
    """Return the state of each lock, or of that with this *name*; empty if there is none."""
    raise NotImplementedError


async def evict(
    jetstream: JetStream, config: Config, name: str, *, now: bool = False, slot: int | None = None
) -> list[SlotState]:
    """End the leases of a lock, or of one *slot*; return the slots that were held.

    now: do not wait until the holder has ended its command.
    """
    raise NotImplementedError
