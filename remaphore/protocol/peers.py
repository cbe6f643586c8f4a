"""The known nodes, and the verbs that each may send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from remaphore.protocol.match import matches
from remaphore.protocol.payloads import PayloadRule
from remaphore.text import natural_key

ANY_VERB = "*"
# Verbs with the name of a lock, such as lock:deploy: `lock:*` stands for all of one kind.
KINDS_WITH_NAMES = ("lock", "evict")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A known node.

    destination: its name. key: its public key in base58. verbs: those that it may send to us, `*` for every verb.
    only: the payload rule of each verb that has one, of which `verbs` has all; it also applies if `verbs` has `*`.
    legacy: the peer runs the Go implementation, whose replies name no request (`compatibility = "legacy"`). origin:
    its place in the configuration, for people.
    """

    destination: str
    key: str
    verbs: frozenset[str]
    only: Mapping[str, PayloadRule] = field(default_factory=dict, hash=False)
    legacy: bool = False
    origin: str = field(default="", compare=False)

    def may_send(self, verb: str) -> bool:
        """Return whether this peer may send *verb* to us. Verbs are compared exactly, with case."""
        return permits(self.verbs, verb)

    def may_send_payload(self, verb: str, payload: bytes) -> bool:
        """Return whether the payload rule of *verb*, which this peer may send, permits *payload*, or there is none.

        With `*`, a peer may also send `Deploy`, which nothing but a careless script takes for `deploy`: the rule of
        `deploy` applies.
        """
        rule = self.only.get(verb.lower())
        return rule is None or rule.permits(payload)


def permits(verbs: frozenset[str], verb: str) -> bool:
    """Return whether *verbs* contains *verb*, or `*` for all verbs, or `lock:*` for `lock:NAME`."""
    return verb in verbs or ANY_VERB in verbs or every_name(verb) in verbs


def every_name(verb: str) -> str:
    """Return the entry that permits *verb* with every name: `lock:*` for `lock:deploy`; *verb* itself without a name.

    Verbs of other kinds have no such entry: `db:*` is an ordinary verb, as in the Go implementation.
    """
    kind, colon, _ = verb.partition(":")
    return f"{kind}:{ANY_VERB}" if colon and kind in KINDS_WITH_NAMES else verb


def by_key(peers: Iterable[Peer]) -> Mapping[str, Peer]:
    """Return *peers* by the text of their key. Of several with the same key the first counts, as in Go."""
    index: dict[str, Peer] = {}
    for peer in peers:
        index.setdefault(peer.key, peer)
    return MappingProxyType(index)


def names(peers: Iterable[Peer]) -> tuple[str, ...]:
    """Return the destinations of *peers*, each once, in their order: a destination with several keys is one node."""
    return tuple(dict.fromkeys(peer.destination for peer in peers))


def addressed(peers: Iterable[Peer], pattern: str) -> tuple[Peer, ...]:
    """Return the peers whose destination matches *pattern*, each key once: those expected to reply.

    They are in natural order, so that each list and batch that is made of them is: 1, 2, 10.
    """
    found = (peer for peer in by_key(peers).values() if matches(peer.destination, pattern))
    return tuple(sorted(found, key=lambda peer: natural_key(peer.destination)))
