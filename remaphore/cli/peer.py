"""`remaphore peer`: whom this node knows, and how others get to know it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from remaphore.cli import console
from remaphore.cli.options import Options
from remaphore.cli.options.nodes import PeerAdd, PeerList, PeerRemove, PeerShow
from remaphore.config import editing, peer_line, search
from remaphore.config.secrets import read_file, read_stdin
from remaphore.config.settings import Config
from remaphore.logs import escape
from remaphore.protocol.peers import Peer

RELOAD = "a running daemon takes it on at: systemctl reload remaphore"


def run(options: Options) -> int:
    """Do what *options* say; return 0."""
    match options:
        case PeerAdd():
            return _add(options)
        case PeerRemove():
            return _remove(options)
        case PeerList():
            return _list(options)
        case PeerShow():
            return _show(options)
    raise AssertionError(options)


def _add(options: PeerAdd) -> int:
    path, _ = search.find(options.config, os.environ)
    editing.check_format(path)  # before anybody pastes a line in vain
    rows = peer_line.read_all(*_text(options), bare=options.legacy)
    verbs = frozenset(verb.lower() for verb in options.verbs)
    peers = [Peer(destination=destination, key=key, verbs=verbs, legacy=options.legacy) for destination, key in rows]
    changed = editing.add(path, peers, drop_in=options.drop_in, rotate=options.rotate)
    own = console.load_config(path).identities
    for peer in peers:
        if any(identity.key == peer.key for identity in own):
            console.say(f"{peer.destination} is this node itself: it may send these to itself")
        console.say(f"{peer.destination} ({peer.key}) may send: {', '.join(sorted(verbs))}")
    console.say(f"changed: {', '.join(changed)}; {RELOAD}")
    return 0


def _text(options: PeerAdd) -> tuple[str, str]:
    """Return the text that holds the peer lines, and where it comes from."""
    if options.file:
        return read_file(options.file, what="peer lines")[0].decode(errors="replace"), options.file
    if options.line not in ("", "-"):
        return options.line, "the peer line"
    if sys.stdin is not None and sys.stdin.isatty():
        console.say("paste the peer line of the other node, then press Enter and Ctrl-D")
    return read_stdin(what="peer lines").decode(errors="replace"), "stdin"


def _remove(options: PeerRemove) -> int:
    path, _ = search.find(options.config, os.environ)
    editing.check_format(path)
    config = console.load_config(options.config)
    peers = editing.choose(config, options.peer, key=options.key, every=options.every)
    changed = editing.remove(path, peers)
    for peer in dict.fromkeys(peers):
        console.say(f"removed: {peer.destination} ({peer.key})")
    console.say(f"changed: {', '.join(changed)}; {RELOAD}")
    return 0


def _list(options: PeerList) -> int:
    peers = console.load_config(options.config).peers
    sys.stdout.write("".join(map(_to_json, peers)) if options.json else _to_text(peers))
    sys.stdout.flush()
    return 0


def _show(options: PeerShow) -> int:
    config = console.load_config(options.config)
    own = [(config.destination, key) for key in _own_keys(config)]
    known = [row for row in own if options.peer in ("", *row)]
    if not known:
        known = [(peer.destination, peer.key) for peer in editing.choose(config, options.peer, every=True)]
    lines = (peer_line.write(destination=destination, key=key) for destination, key in dict.fromkeys(known))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    return 0


def _own_keys(config: Config) -> list[str]:
    """Return the public keys of our identities, that which signs replies first."""
    return [config.identity().key, *(identity.key for identity in config.identities)]


def _to_json(peer: Peer) -> str:
    row = {
        "destination": peer.destination,
        "key": peer.key,
        "verbs": sorted(peer.verbs),
        "compatibility": "legacy" if peer.legacy else None,
        "origin": peer.origin,
    }
    return json.dumps(row) + "\n"


def _to_text(peers: Sequence[Peer]) -> str:
    rows = [("DESTINATION", "KEY", "VERBS", "FROM"), *map(_cells, peers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _cells(peer: Peer) -> tuple[str, ...]:
    verbs = ",".join(sorted(peer.verbs)) or "-"
    legacy = " (legacy)" if peer.legacy else ""
    return tuple(map(escape, (peer.destination, peer.key, verbs + legacy, peer.origin)))
