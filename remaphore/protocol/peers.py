"""Who we know, and what each may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from remaphore.protocol.match import matches

ANY_VERB = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A known node: its destination, its base58 public key, the verbs that it may send to us.

    legacy: the peer runs the Go implementation, whose replies name no request (`compatibility = "legacy"`). origin:
    where the configuration says so, for people.
    """

    destination: str
    key: str
    verbs: frozenset[str]
    legacy: bool = False
    origin: str = field(default="", compare=False)

    def may_send(self, verb: str) -> bool:
        """Tell whether this peer may send *verb* to us. Verbs are compared letter by letter."""
        return permits(self.verbs, verb)


def permits(verbs: frozenset[str], verb: str) -> bool:
    """Tell whether a list of permitted verbs holds *verb*, or the one that stands for all."""
    return verb in verbs or ANY_VERB in verbs


def by_key(peers: Iterable[Peer]) -> Mapping[str, Peer]:
    """Index *peers* by the text of their key. A key that is listed twice: the first line counts, as in the original."""
    index: dict[str, Peer] = {}
    for peer in peers:
        index.setdefault(peer.key, peer)
    return MappingProxyType(index)


def addressed(peers: Iterable[Peer], pattern: str) -> tuple[Peer, ...]:
    """Return the peers that *pattern* reaches, each key by its first line: who may be expected to reply."""
    return tuple(peer for peer in by_key(peers).values() if matches(peer.destination, pattern))
