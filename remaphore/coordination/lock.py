"""A lock, or a semaphore with several slots: take one, keep it, free it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remaphore.config.settings import Config
from remaphore.coordination.guardian import boottime
from remaphore.coordination.jetstream import JetStream
from remaphore.protocol.lease import Lease


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a slot, as its last record says.

    who: the destination, or the key of a node that is not among our peers. known: whether it is. since: Unix seconds,
    by the clock of the holder; 0 if it says none. token: the fencing token. ttl: seconds.
    """

    slot: int
    who: str
    known: bool
    since: float
    host: str
    pid: int
    note: str
    token: int
    ttl: float
    session: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why we wait. ahead: how many wait before us. problems: of slots whose last record is junk."""

    holders: tuple[Holder, ...]
    ahead: int
    problems: tuple[str, ...] = ()


class Lock:
    """A lock with one or several *slots*."""

    def __init__(
        self,
        jetstream: JetStream,
        config: Config,
        *,
        name: str,
        slots: int = 1,
        ttl: float = 30.0,
        note: str = "",
        fair: bool = True,
        clock: Callable[[], float] = boottime,
    ) -> None:
        raise NotImplementedError

    async def take(self, *, wait: float | None, on_waiting: Callable[[Waiting], None]) -> Lease | None:
        """Return the lease; None if it is not to be had within *wait* seconds (0: at once, None: no limit)."""
        raise NotImplementedError

    async def keep(self, lease: Lease, *, on_renewed: Callable[[float], None]) -> None:
        """Renew *lease* until this is cancelled. Raise LeaseLostError."""
        raise NotImplementedError

    async def release(self, lease: Lease, *, limit: float = 5.0) -> bool:
        """Free the slot. Return whether that is done; it frees itself after its time to live."""
        raise NotImplementedError
