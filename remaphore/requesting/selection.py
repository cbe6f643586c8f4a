"""Which known destinations several patterns address, and which of them are left out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from remaphore.config.settings import Config
from remaphore.errors import NoReceiversError, UsageError
from remaphore.protocol import peers, quorum
from remaphore.protocol.match import ALL, matches
from remaphore.requesting import suggestion
from remaphore.requesting.suggestion import MAX_NAMED, alternatives
from remaphore.text import natural_key, quoted

_FIRST_PEER = "add the first peer: remaphore peer add --help (`remaphore peer show` prints its line on that node)"


def select(config: Config, patterns: Iterable[str], excluded: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the destinations of the peers that *patterns* match and *excluded* do not, each once, in natural order.

    Raise NoReceiversError for each pattern of either that matches no peer, as it may be a mistake, and if none is left.
    """
    known = _known(config)
    chosen = _matching(config, patterns, known)
    left = chosen - _matching(config, excluded, known)
    if not left:
        what = f"no known receivers: all {len(chosen)} destinations are excluded"
        raise NoReceiversError(what, hint="exclude fewer, or address more destinations")
    return tuple(name for name in known if name in left)


def remaining(
    config: Config, destinations: Iterable[str], excluded: Iterable[str] = (), *, source: str
) -> tuple[str, ...]:
    """Return *destinations*, which are from the document *source*, without what *excluded* matches, in natural order.

    Raise NoReceiversError if one of them is no longer known, and for a pattern of *excluded* as `select` does.
    """
    known = _known(config)
    named = tuple(destinations)
    leaving = _matching(config, excluded, (*known, *named))
    left = sorted((name for name in named if name not in leaving), key=natural_key)
    unknown = [name for name in left if name not in known]
    if unknown:
        hint = f"add the peer again, or --except {shlex.quote(','.join(unknown[:MAX_NAMED]))}"
        what = f"no known receivers: no peer in {config.source} has the destination {alternatives(unknown)} of {source}"
        raise NoReceiversError(what, hint=hint)
    return tuple(left)


def expect_senders(config: Config, pattern: str, verbs: Iterable[str] | None) -> tuple[peers.Peer, ...]:
    """Return the peers that match *pattern* and may send one of *verbs* (None: any) to this node, in natural order.

    Raise UsageError if there are none.
    """
    verbs = None if verbs is None else sorted(verbs)
    own_keys = [identity.key for identity in config.identities]
    found = quorum.senders(config.peers, pattern, verbs, own_keys)
    if found:
        return found
    others = [peer for peer in peers.addressed(config.peers, pattern) if peer.key not in own_keys]
    if others:
        permitted = alternatives(verbs) if verbs else "a verb"
        what = f"no peer in {config.source} that matches {quoted(pattern)} may send {permitted}"
        words = ["-c", str(config.source), others[0].destination, "--allow", (verbs or ["VERB"])[0]]
        hint = f"permit it: remaphore peer permit {shlex.join(words)}"
    elif not config.peers:
        what = f"no peers in {config.source}"
        hint = _FIRST_PEER
    elif peers.addressed(config.peers, pattern):
        what = f"{quoted(pattern)} matches no peer but this node, which does not wait for itself"
        hint = "use a pattern that matches other peers"
    else:
        what = f"no peer in {config.source} matches {quoted(pattern)}"
        hint = suggestion.hint(pattern, _known(config)) or "remaphore peer list shows the known destinations"
    raise UsageError(f"no known senders: {what}", hint=hint)


def no_receivers(config: Config, patterns: Sequence[str], known: Sequence[str]) -> NoReceiversError:
    """Return the error that no peer matches any of *patterns*, with what may have been meant as its hint."""
    if not config.peers:
        hint = _FIRST_PEER
        return NoReceiversError(f"no known receivers: no peers in {config.source}", hint=hint)
    first = peers.by_key(config.peers)
    for peer in config.peers:
        if peer.destination == patterns[0] and first[peer.key].destination != patterns[0]:
            hint = f"its key is listed earlier as {first[peer.key].destination}: use that, or correct the configuration"
            break
    else:
        hint = next(filter(None, (suggestion.hint(each, known) for each in patterns[:MAX_NAMED])), "")
    return NoReceiversError(
        f"no known receivers: no peer in {config.source} matches {alternatives(patterns)}", hint=hint
    )


def _known(config: Config) -> tuple[str, ...]:
    return peers.names(peers.addressed(config.peers, ALL))


def _matching(config: Config, patterns: Iterable[str], known: Sequence[str]) -> set[str]:
    names = frozenset(known)
    found: set[str] = set()
    unmatched = []
    for pattern in patterns:
        # Most are names: a thousand of them would otherwise be compared with each of a thousand peers.
        matched = {each for each in known if matches(each, pattern)} if "*" in pattern else {pattern} & names
        found |= matched
        if not matched:
            unmatched.append(pattern)
    if unmatched:
        raise no_receivers(config, unmatched, known)
    return found
