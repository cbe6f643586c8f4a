"""The node that the harness gives to a plugin: the daemon's, on a bus in memory, where the test is all peers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from remaphore.config.settings import Config, Identity
from remaphore.hooks.plugin_tasks import CallGuard
from remaphore.messaging.signer import Signer
from remaphore.node import DaemonNode
from remaphore.protocol import subject, wire
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.peers import ANY_VERB, Peer, addressed
from remaphore.transport.memory import MemoryBroker, MemoryBus

Answer = Callable[[Message, str], Reply | None]


def key_of(destination: str) -> PrivateKey:
    """Return the private key of the peer *destination* in tests: always the same."""
    return PrivateKey(hashlib.sha256(destination.encode()).digest())


def make_peer(destination: str) -> Peer:
    """Return a peer, for the `peers` of `make_config`, that may send every verb.

    Its key is that of `make_message(sender_name=destination)`, and the harness can reply in its name.

    config = make_config(peers=(make_peer("com.example.db"),))
    """
    return Peer(destination=destination, key=key_of(destination).public, verbs=frozenset({ANY_VERB}))


class HarnessNode(DaemonNode):
    """What a plugin gets as `context.node` in a test. Messages are really signed, and replies really verified.

    sent: the messages and requests of the plugin, in order. answer: called with each request and each destination that
    it asks; returns the reply of that destination, or None if it stays silent. At first, all stay silent.

    async with PluginHarness(Deployer, config=make_config(peers=(make_peer("com.example.db"),))) as harness:
        harness.node.answer = lambda request, peer: make_reply(0, "done")
        await harness.message(make_message("deploy"))
        assert [message.verb for message in harness.node.sent] == ["migrate"]
    """

    def __init__(self, config: Config, guard: CallGuard) -> None:
        broker = MemoryBroker()
        self.sent: list[Message] = []
        self.answer: Answer = lambda _request, _peer: None
        self._peers = broker.connect()
        super().__init__(_ObservedBus(broker, self._note), Signer(config), time.time_ns, guard)

    def apply_config(self, config: Config) -> None:
        """Use the identities and peers of *config* from now on."""
        self._signer.config = config

    async def _note(self, raw: bytes) -> None:
        message = wire.decode(raw).message(wire.digest(raw))
        self.sent.append(message)
        for peer in addressed(self.config.peers, message.destination) if message.wants_reply else ():
            reply = self.answer(message, peer.destination)
            if reply is not None:
                identity = next((each for each in self.config.identities if each.key == peer.key), None)
                if identity is None:
                    load = partial(key_of, peer.destination)
                    identity = Identity(key=load().public, verbs=frozenset({ANY_VERB}), load=load)
                signer = Signer(replace(self.config, identities=(identity,), default_identity=""))
                signed = signer.reply(message, reply, limit=self._peers.max_payload)
                await self._peers.publish(subject.for_replies(self.config.subject, message.digest), signed.raw)


class _ObservedBus(MemoryBus):
    def __init__(self, broker: MemoryBroker, observe: Callable[[bytes], Awaitable[None]]) -> None:
        super().__init__(broker)
        self._observe = observe

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:
        await super().publish(subject, data, timeout=timeout)
        await self._observe(data)
