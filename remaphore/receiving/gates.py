"""The gate that belongs to a configuration, for every receiver and for questions about one."""

from __future__ import annotations

from remaphore.config.settings import Config
from remaphore.protocol.gate import Filters, Gate, Policy
from remaphore.protocol.peers import by_key
from remaphore.protocol.replay import ReplayWindow


def make_gate(config: Config, filters: Filters, *, subject: str, window: ReplayWindow | None = None) -> Gate:
    """Return the gate of a node with this configuration, for a receiver with these filters on this subject.

    window: the memory of accepted messages, None for a new one.
    """
    policy = Policy(
        destination=config.destination,
        own_keys=frozenset(identity.key for identity in config.identities),
        peers=by_key(config.peers),
        allow_skew_ns=config.allow_skew_ns,
        filters=filters,
        subject=subject,
    )
    return Gate(policy, window)
