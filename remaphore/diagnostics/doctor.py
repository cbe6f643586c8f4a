"""What can only be told by asking: the broker, and each peer. Behind `remaphore doctor`.

Peers are asked with the verb `permissions` and no other: `ping` is what people send to set something off, and looking
must not. (A receiver that takes any verb, without a filter, takes this one too.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from remaphore.config.settings import Config, Identity
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.diagnostics.probe import Probe
from remaphore.diagnostics.replies import PERMISSIONS, Asked, judge, judge_own_clock, judge_silent
from remaphore.diagnostics.servers import Visit, visit
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol.peers import Peer, by_key
from remaphore.requesting.requester import expect
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

Report = Callable[[Finding], None]


async def examine(config: Config, *, to: str, timeout: float, report: Report, clock: Clock = time.time_ns) -> None:
    """Look at each server and at the peers that the pattern *to* reaches; tell *report* each finding as it comes.

    timeout: seconds for each server, and for the peers to answer; with several identities the silent ones get it twice.
    Raises NoReceiversError if *to* reaches no peer, ConfigError if our private key cannot be used.
    """
    responders = expect(config, to)
    signer = Signer(config, clock)
    visits = await _visit_all(config, signer, timeout=timeout, report=report)
    try:
        bus = next((found.bus for found in visits if found.usable), None)
        if bus is not None:
            await Round(bus, config, signer, responders, to=to, timeout=timeout, clock=clock).ask(report)
    finally:
        for found in visits:
            await found.close()


async def _visit_all(config: Config, signer: Signer, *, timeout: float, report: Report) -> list[Visit]:
    askable = config.identity().may_send(PERMISSIONS)
    # For nobody else: who else receives it finds that it is not addressed.
    messages = [
        signer.compose(PERMISSIONS, to=config.destination, payload=b"") if askable else None for _ in config.servers
    ]
    tasks = [
        spawn(visit(config, url, message=message, timeout=timeout), name=f"visit {url}")
        for url, message in zip(config.servers, messages, strict=True)
    ]
    try:
        visits = await asyncio.gather(*tasks)
    except BaseException:
        await _give_up(tasks)
        raise
    works = any(found.bus for found in visits)
    for finding in (finding for found in visits for finding in found.findings):
        spare = works and finding.code is Code.SERVER_UNREACHABLE
        report(replace(finding, level=Level.WARNING) if spare else finding)
    return visits


async def _give_up(tasks: Sequence[asyncio.Task[Visit]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Visit):
            await ended.close()


@dataclass(slots=True)
class _Found:
    """What has come back so far, by destination."""

    asked: dict[str, Asked] = field(default_factory=dict)
    unbound: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    forged: int = 0


class Round:
    """Asks *responders* what they permit us; who is silent is asked again with our other keys."""

    def __init__(
        self,
        bus: Bus,
        config: Config,
        signer: Signer,
        responders: Sequence[Peer],
        *,
        to: str,
        timeout: float,
        clock: Clock = time.time_ns,
    ) -> None:
        self._bus = bus
        self._config = config
        self._signer = signer
        self._peers: dict[str, Peer] = {}
        for peer in responders:
            self._peers.setdefault(peer.destination, peer)
        self._responders = responders
        self._to = to
        self._timeout = timeout
        self._clock = clock
        self._found = _Found()

    async def ask(self, report: Report) -> None:
        """Ask, and tell *report* what was found."""
        own = self._config.identity()
        if not own.may_send(PERMISSIONS):
            what = f"our identity {own.key} may not send {PERMISSIONS}, so peers cannot be asked"
            hint = f'add "{PERMISSIONS}" to the verbs of this identity'
            report(Finding(Level.WARNING, Code.VERB_NOT_OURS, self._config.source, what, hint))
            return
        await self._put(own)
        if self._silent():
            others = [other for other in self._config.identities if other != own and other.may_send(PERMISSIONS)]
            await asyncio.gather(*(spawn(self._put(other), name="probe") for other in others))
        self._tell(report)

    async def _put(self, identity: Identity) -> None:
        silent = self._silent()
        responders = [peer for peer in self._responders if peer.destination in silent]
        outgoing = self._signer.compose(PERMISSIONS, to=self._to, payload=b"", key=identity.key, wants_reply=True)
        probe = Probe(outgoing, responders, self._config, clock=self._clock)
        await probe.run(self._bus, timeout=self._timeout)
        for name, answer in probe.answers.items():
            peer = by_key(responders)[answer.reply.sender]
            self._found.asked.setdefault(name, Asked(peer=peer, key=identity.key, answer=answer))
        self._found.unbound |= probe.untaken.unbound
        self._found.strangers |= probe.untaken.strangers
        self._found.forged += probe.untaken.forged

    def _silent(self) -> list[str]:
        return [name for name in self._peers if name not in self._found.asked]

    def _tell(self, report: Report) -> None:
        found = self._found
        for name, peer in self._peers.items():
            if name in found.asked:
                for finding in judge(self._config, found.asked[name]):
                    report(finding)
            elif name in found.unbound:
                what = "its replies do not name the request, as those of the original, and are not taken"
                hint = f'write compatibility = "legacy" to {peer.origin}'
                report(Finding(Level.ERROR, Code.REPLY_UNBOUND, name, what, hint))
            else:
                report(judge_silent(self._config, peer, timeout=self._timeout))
        self._tell_of_all(report)

    def _tell_of_all(self, report: Report) -> None:
        found = self._found
        for key in sorted(found.strangers):
            report(_stranger(self._config, key, self._silent()))
        if found.forged:
            what = f"{found.forged} replies carry the key of a peer, and not its signature"
            report(Finding(Level.ERROR, Code.REPLY_FORGED, "replies", what, "look who else may publish on this broker"))
        if not found.asked and not all(peer.legacy for peer in self._responders):
            number = len(self._peers)
            what, hint = f"none of {number} peers answers", "begin with what all have in common"
            if number == 1:
                what, hint = "the only one that was asked does not answer", "what is said of it above"
            report(Finding(Level.ERROR, Code.NOBODY_ANSWERS, "peers", what, hint))
        for finding in judge_own_clock(self._config, [asked.answer for asked in found.asked.values()]):
            report(finding)


def _stranger(config: Config, key: str, silent: Sequence[str]) -> Finding:
    who = f"one of {', '.join(silent)}" if silent else "a node of ours"
    what = f"somebody answered us, rightly signed, with the key {key}, which no peer has"
    hint = f"if it is {who}, write this key to that peer"
    return Finding(Level.ERROR, Code.KEY_UNKNOWN, config.source, what, hint)
