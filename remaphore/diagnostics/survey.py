"""The part of `remaphore doctor` that asks the peers what they permit us, and reports what their replies show."""

from __future__ import annotations

import asyncio
import itertools
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from remaphore.config.settings import Config, Identity
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.diagnostics.machines import PING_INSTEAD, judge_replies
from remaphore.diagnostics.probe import Answer, DroppedReplies, Probe
from remaphore.diagnostics.replies import PERMISSIONS, PeerAnswer, judge, judge_own_clock, judge_silent
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol.peers import Peer, by_key
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

OnListening = Callable[[Callable[[], None]], None]


class Report(Protocol):
    """A callback for findings, which gets those together that may be folded into one."""

    def __call__(self, *findings: Finding) -> None:
        """Report *findings*, in this order."""


class PeerSurvey:
    """Asks the peers what they permit us; those that do not reply are asked again with our other keys.

    asked: the patterns that a message each is sent to, with the peers of each; no peer is in two of them.
    """

    def __init__(
        self,
        bus: Bus,
        config: Config,
        signer: Signer,
        asked: Mapping[str, Sequence[Peer]],
        *,
        timeout: float,
        on_listening: OnListening = lambda _stop: None,
        clock: Clock = time.time_ns,
    ) -> None:
        self._bus = bus
        self._config = config
        self._signer = signer
        self._asked = asked
        self._peers: dict[str, Peer] = {}
        for peer in itertools.chain.from_iterable(asked.values()):
            self._peers.setdefault(peer.destination, peer)
        self._timeout = timeout
        self._on_listening = on_listening
        self._clock = clock
        self._answers: dict[str, PeerAnswer] = {}
        self._several: dict[str, Finding] = {}
        self._reported = False
        self._dropped = DroppedReplies()

    async def run(self, report: Report) -> None:
        """Ask, and *report* the findings: those about each peer as soon as all have replied, at the timeout at most.

        If this is cancelled before that, those about the peers that have replied.
        """
        own = self._config.identity()
        if not own.may_send(PERMISSIONS):
            what = f"our identity {own.key} may not send {PERMISSIONS}, so peers cannot be asked"
            hint = f'add "{PERMISSIONS}" to the verbs of this identity'
            report(Finding(Level.WARNING, Code.IDENTITY_NOT_PERMITTED, self._config.source, what, hint))
            return
        try:
            await self._ask(own, report)
            if self._silent():
                others = [other for other in self._config.identities if other != own and other.may_send(PERMISSIONS)]
                await asyncio.gather(*(spawn(self._ask(other, report), name="probe") for other in others))
        except asyncio.CancelledError:  # Ctrl-C: those that have not replied have not had their time
            if not self._reported:
                report(*itertools.chain.from_iterable(judge(self._config, each) for each in self._answers.values()))
            raise
        self._report_peers(report)
        report(*self._judge_all())

    def _silent(self) -> list[str]:
        return [name for name in self._peers if name not in self._answers]

    async def _ask(self, identity: Identity, report: Report) -> None:
        def on_complete() -> None:
            if not any(probe.missing for probe in probes):
                self._on_listening(stop)
                self._report_peers(report)

        def stop() -> None:
            for probe in probes:
                probe.stop()

        silent = set(self._silent())
        probes = [
            self._probe(identity, to, responders, on_complete)
            for to, peers in self._asked.items()
            if (responders := [peer for peer in peers if peer.destination in silent])
        ]
        await asyncio.gather(*(spawn(probe.run(self._bus, timeout=self._timeout), name="probe") for probe in probes))
        for probe in probes:
            for replies in probe.replies.values():
                if finding := judge_replies(replies, how_to_tell=PING_INSTEAD):
                    self._several[finding.where] = finding
            self._dropped.unbound |= probe.dropped.unbound
            self._dropped.strangers |= probe.dropped.strangers
            self._dropped.forged += probe.dropped.forged

    def _probe(self, identity: Identity, to: str, responders: Sequence[Peer], on_complete: Callable[[], None]) -> Probe:
        outgoing = self._signer.compose(PERMISSIONS, to=to, payload=b"", key=identity.key, wants_reply=True)
        peers = by_key(responders)

        def on_answer(answer: Answer) -> None:
            peer = peers[answer.reply.sender]
            answered = PeerAnswer(peer=peer, key=identity.key, answer=answer)
            self._answers.setdefault(peer.destination, answered)

        return Probe(
            outgoing, responders, self._config, clock=self._clock, on_answer=on_answer, on_complete=on_complete
        )

    def _report_peers(self, report: Report) -> None:
        if not self._reported:
            self._reported = True
            report(*self._judge_peers())

    def _judge_peers(self) -> Iterator[Finding]:
        for name, peer in self._peers.items():
            if name in self._answers:
                yield from judge(self._config, self._answers[name])
            elif name in self._dropped.unbound:
                what = "its replies do not name the request, like those of the Go implementation, and are dropped"
                hint = f'write compatibility = "legacy" to {peer.origin}'
                yield Finding(Level.ERROR, Code.REPLY_UNBOUND, name, what, hint)
            else:
                yield judge_silent(self._config, peer, timeout=self._timeout)

    def _judge_all(self) -> Iterator[Finding]:
        yield from self._several.values()
        silent = self._silent()
        for key in sorted(self._dropped.strangers):
            node = f"one of {', '.join(map(shlex.quote, silent))}" if silent else "one of our nodes"
            # Anyone who may publish on this broker can make such a reply, so the key in it proves nothing.
            what = f"a reply to us has a valid signature of the key {key}, which no peer has"
            hint = (
                f"if {node} has a new key, run remaphore peer show there, and add the line that it prints, not this key"
            )
            yield Finding(Level.ERROR, Code.UNKNOWN_KEY, self._config.source, what, hint)
        if self._dropped.forged:
            what = f"replies with the key of a peer and an invalid signature: {self._dropped.forged}"
            hint = "find out who else may publish on this broker"
            yield Finding(Level.ERROR, Code.REPLY_FORGED, "replies", what, hint)
        if not self._answers and not all(peer.legacy for peers in self._asked.values() for peer in peers):
            what, hint = "no peer replied", "check what they share first: broker, subject, our key"
            if len(self._peers) == 1:
                what, hint = "the only peer that was asked did not reply", "follow the hint of that peer"
            yield Finding(Level.ERROR, Code.NO_REPLIES, "peers", what, hint)
        yield from judge_own_clock(self._config, [answered.answer for answered in self._answers.values()])
