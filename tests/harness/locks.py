"""Nodes that share a lock, junk, and records as a test needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from remaphore.config.settings import Config, Identity
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Lock
from remaphore.protocol import record
from remaphore.protocol.peers import Peer
from remaphore.protocol.record import Entry
from remaphore.testing.factories import make_config
from tests.harness.factories import make_key

NODES = 40


def lock_config(
    number: int, *, knows: Iterable[int] | None = None, root: str = "remaphore", verbs: Iterable[str] = ("*",)
) -> Config:
    """Return the configuration of com.node<number>. knows: the numbers of its peers, which may all; None for all."""
    key = make_key(number)
    every = frozenset({"*"})
    peers = (each for each in (range(NODES) if knows is None else knows) if each != number)
    return make_config(
        f"com.node{number}",
        subject=root,
        identities=(Identity(key=key.public, verbs=frozenset(verbs), load=lambda: key),),
        peers=tuple(Peer(destination=f"com.node{each}", key=make_key(each).public, verbs=every) for each in peers),
    )


def lock_of(js: JetStream, number: int, name: str = "a", *, ttl: float = 1.0, **options: Any) -> Lock:
    """Return a lock of com.node<number>. options: of `Lock`, and *config*."""
    config = options.pop("config", None) or lock_config(number, root=js.root)
    return Lock(js, config, name=name, ttl=ttl, **options)


def slot_of(js: JetStream, name: str = "a", last: int | str = 0) -> str:
    """Return the subject of a slot."""
    return f"{js.root}.coord.lock.{name}.{last}"


def record_of(number: int, do: str, follows: Entry | None, *, verb: str = "lock:a", **fields: object) -> bytes:
    """Return a record of node *number*, as it would be valid but for what *fields* change."""
    said = {"do": do, "slot": 0, "slots": 1, "session": "ff", "ttl_ms": 1000, **fields}
    return record.make(make_key(number), verb, said, count=1, follows=follows)
