"""Pinging peers repeatedly, with the round trip and clock of each answer. Behind `remaphore ping`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Finding, Level
from remaphore.diagnostics.machines import ENABLE_PERMISSIONS, judge_replies
from remaphore.diagnostics.probe import Answer, Probe
from remaphore.errors import ConnectionLostError, TransportError
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol import ping
from remaphore.protocol.peers import Peer
from remaphore.requesting.requester import expect_each
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

# Pings with all answers that listen for further ones at the same time: each is a subscription. At an interval of 1 ms
# the oldest of them end before their timeout.
MAX_LISTENING = 100
# What a handler can choose to write, as the sample hooks.d/ping does.
_VERSION = re.compile(rb"\bremaphore ([0-9][0-9A-Za-z.+-]{0,40})")


@dataclass(slots=True)
class PingStats:
    """The counts so far. pings: how many were sent. asked, answered: how often, by destination.

    round_trips_ns: the shortest, the sum and the longest. findings: by destination, the worst of what several replies
    to one ping show.
    """

    pings: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    round_trips_ns: list[int] = field(default_factory=lambda: [0, 0, 0])
    findings: dict[str, Finding] = field(default_factory=dict)

    def count(self, answer: Answer) -> None:
        """Count one answer."""
        least, total, most = self.round_trips_ns
        round_trip = answer.round_trip_ns
        self.round_trips_ns = [min(least or round_trip, round_trip), total + round_trip, max(most, round_trip)]
        self.answered[answer.reply.peer] += 1

    def note(self, finding: Finding | None) -> None:
        """Keep *finding*, if none that is worse is known of its destination."""
        if finding is not None:
            known = self.findings.setdefault(finding.where, finding)
            self.findings[finding.where] = max(known, finding, key=lambda each: list(Level).index(each.level))

    @property
    def missing(self) -> dict[str, int]:
        """The number of missing answers of each destination that has any."""
        owed = {name: number - self.answered[name] for name, number in self.asked.items()}
        return {name: number for name, number in owed.items() if number > 0}


class Pinger:
    """Sends *count* pings (None: until `stop`), one every *interval* seconds, to the peers that *to* matches.

    A ping is one message to each pattern of *to*, of which no two match the same peer. It waits *timeout* seconds for
    its answers, while the next ones are sent: also for further answers of a peer that has answered, see `machines`.
    Raise NoReceiversError if one of *to* matches no peer, NotPermittedError if our identity may not send `ping`,
    ConfigError if its key cannot be used.
    """

    def __init__(
        self,
        bus: Bus,
        config: Config,
        *,
        to: Sequence[str],
        count: int | None,
        interval: float,
        timeout: float,
        clock: Clock = time.time_ns,
    ) -> None:
        config.sender(ping.VERB).load()
        self.stats = PingStats()
        self._bus = bus
        self._config = config
        self._responders = expect_each(config, to)
        self._numbers = itertools.count(1) if count is None else range(1, count + 1)
        self._last = count
        self._interval = interval
        self._timeout = timeout
        self._listening: deque[Probe] = deque()
        self._clock = clock
        self._signer = Signer(config, clock)
        self._arrived: asyncio.Queue[tuple[int, Answer] | None] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._failure: TransportError | None = None

    def stop(self) -> None:
        """Send no more pings, and do not wait: answers that have not arrived count as missing, as in ping(8)."""
        self._stopping.set()

    async def answers(self) -> AsyncIterator[tuple[int, Answer]]:
        """Yield each answer with the number of its ping, as it arrives, further ones too. Raise TransportError."""
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
        pings: set[asyncio.Task[None]] = set()
        try:
            for number in self._numbers:
                self.stats.pings += 1
                for to, responders in self._responders.items():
                    task = spawn(self._ping(number, to, responders), name=f"ping {number}")
                    pings.add(task)
                    task.add_done_callback(pings.discard)
                if number != self._last:
                    await self._pause(self._interval)
                if self._stopping.is_set():
                    break
            while pings and not self._stopping.is_set():
                await self._pause(None, *pings)
        finally:
            ending = set(pings)
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

    async def _ping(self, number: int, to: str, responders: Sequence[Peer]) -> None:
        outgoing = self._signer.compose(ping.VERB, to=to, payload=b"", wants_reply=True)

        def on_answer(answer: Answer) -> None:
            if answer.further:
                self.stats.note(judge_replies(probe.replies[answer.reply.peer], how_to_tell=ENABLE_PERMISSIONS))
            else:
                self.stats.asked[answer.reply.peer] += 1
                self.stats.count(answer)
            self._arrived.put_nowait((number, answer))

        def on_complete() -> None:
            self._listening.append(probe)
            if len(self._listening) > MAX_LISTENING * len(self._responders):
                self._listening.popleft().stop()

        probe = Probe(
            outgoing, responders, self._config, clock=self._clock, on_answer=on_answer, on_complete=on_complete
        )
        try:
            with contextlib.suppress(ConnectionLostError):  # this ping is lost; its answers count as missing
                await probe.run(self._bus, timeout=self._timeout)
        except TransportError as error:
            self._failure = error
            self.stop()
        finally:
            self.stats.asked.update(probe.missing)
            with contextlib.suppress(ValueError):  # not complete, or stopped
                self._listening.remove(probe)


def reported_version(output: bytes) -> str | None:
    """Return the version of this program that the *output* of a handler contains, None if it contains none."""
    found = _VERSION.search(output)
    return found[1].decode() if found else None
