"""The configured peers: entries that cannot work, and the consequences of those that can."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.protocol.peers import ANY_VERB, KINDS_WITH_NAMES, Peer, by_key
from remaphore.protocol.record import name_problem


def check_peers(config: Config) -> Iterator[Finding]:
    """Yield the problems of the list of peers."""
    peers = tuple(by_key(config.peers).values())
    if not peers:
        what = "no peers configured: every message is dropped and requests have no recipients"
        hint = (
            f"remaphore peer add -c {shlex.quote(config.source)} --verbs VERB,... LINE,"
            " where LINE is the output of remaphore peer show on the other node"
        )
        if config.legacy:
            hint = "add a line DESTINATION PUBLICKEY [verb,...] under [ Peers ]"
        yield Finding(Level.WARNING, Code.NO_PEERS, config.source, what, hint)
        return
    if not any(peer.verbs for peer in peers):
        what = "no peer is permitted any verb: every message is dropped"
        hint = "permit a peer a verb, such as ping"
        if not config.legacy:
            hint += f": remaphore peer permit -c {shlex.quote(config.source)} DESTINATION --allow ping"
        yield Finding(Level.WARNING, Code.NO_PERMITTED_VERBS, config.source, what, hint)
    yield from check_own_keys(config, peers)
    keys = Counter(peer.destination for peer in peers)
    last = {peer.destination: peer.origin for peer in config.peers}
    for destination, number in keys.items():
        if number > 1:
            what = f"{destination} has {number} keys, as one node has during a key rotation"
            hint = "delete the old key once it is unused"
            yield Finding(Level.NOTE, Code.PEER_SEVERAL_KEYS, last[destination], what, hint)
    yield from check_legacy_peers(config, peers)
    ruled = sum(bool(peer.only) for peer in peers)
    what = f"peers: {len(peers)}" + (f" ({ruled} with payload rules)" if ruled else "")
    yield Finding(Level.OK, Code.PEERS_OK, config.source, what)


def check_own_keys(config: Config, peers: Sequence[Peer]) -> Iterator[Finding]:
    """Yield the peers that have a key of this node and another destination.

    This node itself may be listed: with the same list on every node, each of them is its own peer.
    """
    ours = {identity.key for identity in config.identities}
    for peer in peers:
        if peer.key in ours and peer.destination != config.destination:
            what = f"{peer.destination} has our own key: messages of that node are dropped"
            yield Finding(Level.ERROR, Code.PEER_HAS_OUR_KEY, peer.origin, what, "write that node's own public key")


def check_legacy_peers(config: Config, peers: Sequence[Peer]) -> Iterator[Finding]:
    """Yield the peers that run the Go implementation, whose replies do not name their request."""
    legacy = [peer for peer in peers if peer.legacy]
    if config.legacy:
        what = "legacy .conf format: all peers count as running the Go implementation; replies need not name a request"
        source = shlex.quote(config.source)
        hint = f"remaphore config convert {source}, then delete compatibility where it does not apply"
        yield Finding(Level.NOTE, Code.PEERS_LEGACY, config.source, what, hint)
    elif legacy:
        names = ", ".join(sorted({peer.destination for peer in legacy}))
        what = f"run the Go implementation, so their replies need not name the request: {names}"
        hint = 'delete compatibility = "legacy" where it no longer applies'
        yield Finding(Level.NOTE, Code.PEERS_LEGACY, legacy[0].origin, what, hint)


def lock_names(config: Config) -> set[str]:
    """Return the names of the locks in the permissions of this node and its peers, `*` for those of all locks."""
    holders = [*(identity.verbs for identity in config.identities), *(peer.verbs for peer in config.peers)]
    verbs = frozenset().union(*holders)
    return {verb.partition(":")[2] for verb in verbs if ":" in verb and verb.partition(":")[0] in KINDS_WITH_NAMES}


def check_lock_names(config: Config) -> Iterator[Finding]:
    """Yield the names in permissions that no lock can have."""
    for name in sorted(lock_names(config) - {ANY_VERB}):
        if problem := name_problem(name):
            hint = f"correct the name, or write {ANY_VERB} for all locks"
            what = f"not a name of a lock: {name!r}: {problem}"
            yield Finding(Level.WARNING, Code.LOCK_NAME_INVALID, config.source, what, hint)
