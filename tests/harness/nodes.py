"""Nodes on a bus in memory: configurations that know each other, without files."""

from __future__ import annotations

from remaphore.config.settings import Auth, Config, Identity
from remaphore.protocol.peers import Peer
from tests.harness.factories import NOW, SKEW, make_key

NAMES = {1: "com.one", 2: "com.two", 3: "com.three"}


def make_config(number: int = 1, *verbs: str, peers: tuple[Peer, ...] | None = None) -> Config:
    """Return the configuration of node *number*: it may send *verbs* (none given: all) and knows the others."""
    key = make_key(number)
    others = tuple(
        Peer(destination=name, key=make_key(other).public, verbs=frozenset("*"))
        for other, name in NAMES.items()
        if other != number
    )
    return Config(
        source=f"node{number}.toml",
        destination=NAMES[number],
        servers=("nats://127.0.0.1:4222",),
        auth=Auth(kind="none"),
        identities=(Identity(key=key.public, verbs=frozenset(verbs or "*"), load=lambda: key),),
        peers=others if peers is None else peers,
        allow_skew_ns=SKEW,
    )


def clock() -> int:
    """Return the time at which all of these nodes live."""
    return NOW
