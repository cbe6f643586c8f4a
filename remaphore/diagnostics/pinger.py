"""Asking who is there, again and again, and how long the answers take. Behind `remaphore ping`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from remaphore.config.settings import Config
from remaphore.diagnostics.probe import Answer, Probe
from remaphore.diagnostics.replies import PING
from remaphore.errors import ConnectionLostError, TransportError
from remaphore.messaging.signer import Clock, Signer
from remaphore.requesting.requester import expect
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

# What a handler may write of its own accord, as the sample hooks.d/ping does.
_VERSION = re.compile(rb"\bremaphore ([0-9][0-9A-Za-z.+-]{0,40})")


@dataclass(slots=True)
class Tally:
    """What has come of it so far. asked, answered: how often, by destination; rounds: how often anybody was asked."""

    rounds: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    round_trips_ns: list[int] = field(default_factory=lambda: [0, 0, 0])  # least, sum, most

    def count(self, answer: Answer) -> None:
        """Count one answer."""
        least, total, most = self.round_trips_ns
        taken = answer.round_trip_ns
        self.round_trips_ns = [min(least or taken, taken), total + taken, max(most, taken)]
        self.answered[answer.reply.peer] += 1

    @property
    def missing(self) -> dict[str, int]:
        """How often each destination that owes answers did not give one."""
        owed = {name: number - self.answered[name] for name, number in self.asked.items()}
        return {name: number for name, number in owed.items() if number > 0}


class Pinger:
    """Sends *count* pings (None: until `stop`), one every *interval* seconds, to the peers that *to* reaches.

    Each waits *timeout* seconds for its answers, while the next are sent. Raises NoReceiversError if *to* reaches no
    peer, NotPermittedError if our identity may not send `ping`, ConfigError if its key cannot be used.
    """

    def __init__(
        self,
        bus: Bus,
        config: Config,
        *,
        to: str,
        count: int | None,
        interval: float,
        timeout: float,
        clock: Clock = time.time_ns,
    ) -> None:
        config.sender(PING).load()
        self.tally = Tally()
        self.responders = expect(config, to)
        self._bus = bus
        self._config = config
        self._to = to
        self._numbers = itertools.count(1) if count is None else range(1, count + 1)
        self._last = count
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._signer = Signer(config, clock)
        self._arrived: asyncio.Queue[tuple[int, Answer] | None] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._failure: TransportError | None = None

    def stop(self) -> None:
        """Send no more, and wait for nothing: who has not answered by now is missing, as ping(8) counts."""
        self._stopping.set()

    async def answers(self) -> AsyncIterator[tuple[int, Answer]]:
        """Yield each answer with the number of its ping, as it arrives. Raises TransportError."""
        sending = spawn(self._send_all(), name="ping")
        try:
            while (arrived := await self._arrived.get()) is not None:
                yield arrived
            await sending
        finally:
            sending.cancel()
            await asyncio.wait({sending})
        if self._failure is not None:
            raise self._failure

    async def _send_all(self) -> None:
        rounds: set[asyncio.Task[None]] = set()
        try:
            for number in self._numbers:
                task = spawn(self._round(number), name=f"ping {number}")
                rounds.add(task)
                task.add_done_callback(rounds.discard)
                if number != self._last:
                    await self._pause(self._interval)
                if self._stopping.is_set():
                    break
            while rounds and not self._stopping.is_set():
                await self._pause(None, *rounds)
        finally:
            ending = set(rounds)
            for task in ending:
                task.cancel()
            if ending:
                await asyncio.wait(ending)
            self._arrived.put_nowait(None)

    async def _pause(self, seconds: float | None, *until: asyncio.Task[None]) -> None:
        stopping = spawn(self._stopping.wait(), name="ping stop")
        try:
            await asyncio.wait({stopping, *until}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _round(self, number: int) -> None:
        outgoing = self._signer.compose(PING, to=self._to, payload=b"", wants_reply=True)
        self.tally.rounds += 1

        def answered(answer: Answer) -> None:
            self.tally.asked[answer.reply.peer] += 1
            self.tally.count(answer)
            self._arrived.put_nowait((number, answer))

        probe = Probe(outgoing, self.responders, self._config, clock=self._clock, answered=answered)
        try:
            with contextlib.suppress(ConnectionLostError):  # a ping that was lost
                await probe.run(self._bus, timeout=self._timeout)
        except TransportError as error:
            self._failure = error
            self.stop()
        finally:
            self.tally.asked.update(probe.missing)


def told_version(output: bytes) -> str | None:
    """Return the version of this program that the *output* of a handler names, None if it names none."""
    found = _VERSION.search(output)
    return found[1].decode() if found else None
