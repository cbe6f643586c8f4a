"""Whom this node knows: peers that make no sense, and what follows from those that do."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.protocol.peers import by_key


def check_peers(config: Config) -> Iterator[Finding]:
    """Judge the peers: nobody known or permitted, our own key, two keys for one destination, peers of the original."""
    place = config.source
    known = tuple(by_key(config.peers).values())
    if not known:
        what = "nobody is known: no message is taken, and nobody can be asked"
        hint = (
            f"remaphore peer add -c {shlex.quote(config.source)} --verbs VERB,... LINE,"
            " with what remaphore peer show prints on the other node"
        )
        if config.legacy:
            hint = "add a line DESTINATION PUBLICKEY [verb,...] under [ Peers ]"
        yield Finding(Level.WARNING, Code.NOBODY_KNOWN, place, what, hint)
        return
    if not any(peer.verbs for peer in known):
        what = "no peer may send us anything: every message is rejected"
        yield Finding(Level.WARNING, Code.NOBODY_PERMITTED, place, what, "permit a peer a verb, such as ping")
    yield from _our_own(config)
    yield from _rotations(config)
    yield from _originals(config)
    yield Finding(Level.OK, Code.PEERS_OK, config.source, f"peers: {len(known)}")


def _our_own(config: Config) -> Iterator[Finding]:
    ours = {identity.key for identity in config.identities}
    for peer in by_key(config.peers).values():
        if peer.key in ours and peer.destination != config.destination:
            what = f"{peer.destination} is listed with our own key, so that its messages are never taken for its own"
            yield Finding(Level.ERROR, Code.PEER_HAS_OUR_KEY, peer.origin, what, "write that node's own public key")
        elif peer.key in ours:
            what = "this node itself is among its peers: it takes its own messages, and answers them"
            yield Finding(Level.NOTE, Code.PEER_IS_US, peer.origin, what, "delete this peer if that is not wanted")


def _rotations(config: Config) -> Iterator[Finding]:
    keys = Counter(peer.destination for peer in by_key(config.peers).values())
    last = {peer.destination: peer.origin for peer in config.peers}
    for destination, number in keys.items():
        if number > 1:
            what = f"{destination} has {number} keys, as one node in the middle of a change of keys has"
            yield Finding(
                Level.NOTE, Code.PEER_HAS_KEYS, last[destination], what, "delete the old key once it is unused"
            )


def _originals(config: Config) -> Iterator[Finding]:
    originals = [peer for peer in by_key(config.peers).values() if peer.legacy]
    if config.legacy:
        what = "in the original's format all peers count as running the original: replies need not name their request"
        hint = f"remaphore config convert {shlex.quote(config.source)}, and delete compatibility where it is not so"
        yield Finding(Level.NOTE, Code.PEERS_ORIGINAL, config.source, what, hint)
    elif originals:
        names = ", ".join(sorted({peer.destination for peer in originals}))
        what = f"taken to run the original, so that their replies need not name the request: {names}"
        hint = 'delete compatibility = "legacy" where it is no longer so'
        yield Finding(Level.NOTE, Code.PEERS_ORIGINAL, originals[0].origin, what, hint)
