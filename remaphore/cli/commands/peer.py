"""`remaphore peer`: add, remove, list and show peers, and change what they may send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remaphore.cli import output
from remaphore.cli.configuration import find_editable, load_config, report_change
from remaphore.errors import UsageError

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.protocol.peers import Peer

SUMMARY = "add, remove, list and show peers, and change what they may send"
EXAMPLE = """\
remaphore peer list
remaphore peer show | ssh right remaphore peer add --verbs ping,deploy -"""
EXIT_CODES = {0: "done"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAdd:
    """Options of peer add. line: a peer line, `-` or empty for stdin, unless *file* names a file of them.

    legacy: the peer runs the Go implementation, and *line* may be its destination and public key. rotate: the key is
    another one of a known destination. drop_in: write to peers.d.
    """

    config: str | None = None
    line: str = ""
    file: str = ""
    verbs: tuple[str, ...]
    legacy: bool = False
    rotate: bool = False
    drop_in: bool = False

    @classmethod
    def from_arguments(cls, *, line: tuple[str, ...], compatibility: str | None, **given: Any) -> PeerAdd:
        """Return the options of what the parser has read. Raise UsageError."""
        if line and given["file"]:
            raise UsageError("both a peer line and --file are given", hint="give only one of the two")
        if not given["verbs"]:
            raise UsageError(
                "no verbs for the peer",
                hint="add what it may send: --verbs ping,deploy (or --verbs '*' for all)",
            )
        return cls(**given, line=" ".join(line), legacy=compatibility == "legacy")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPermit:
    """Options of peer permit. peer: destination, with all of its keys, or a public key."""

    config: str | None = None
    peer: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @classmethod
    def from_arguments(cls, **given: Any) -> PeerPermit:
        """Return the options of what the parser has read. Raise UsageError."""
        if not given["allow"] and not given["deny"]:
            raise UsageError("no verbs to allow or deny", hint="add --allow deploy, --deny ping, or both")
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRemove:
    """Options of peer remove. peer: destination or public key; key: which of several keys; every: all of them."""

    config: str | None = None
    peer: str
    key: str = ""
    every: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerList:
    """Options of peer list."""

    config: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerShow:
    """Options of peer show. peer: destination or public key, of a peer or of this node; empty for all of this node."""

    config: str | None = None
    peer: str = ""


def add_arguments(parser: Parser) -> None:
    """Add the actions and their arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json, add_verbs

    parser.description = "Add, remove, list and show the peers of this node, and change what they may send."
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    _add_arguments_of_add(
        actions.add_parser("add", help="add a peer by its peer line, with the verbs that it may send")
    )

    permitted = actions.add_parser("permit", help="change the verbs that a peer may send")
    permitted.description = (
        "Change the verbs that a peer may send to this node, with each of its keys if it has several. The other verbs"
        " stay."
    )
    permitted.example = "remaphore peer permit com.example.left --allow deploy,status --deny ping"
    add_config(permitted)
    permitted.add_argument("peer", metavar="DESTINATION|KEY", help="the peer")
    add_verbs(permitted, "--allow", dest="allow", text="verbs to add; '*' for all")
    add_verbs(
        permitted, "--deny", dest="deny", text="verbs to remove; '*' for the permission of all, not for each of them"
    )
    permitted.set_defaults(options=PeerPermit.from_arguments)

    removed = actions.add_parser("remove", help="remove a peer, or one of its keys")
    removed.description = "Remove a peer: its messages are dropped, and requests no longer include it."
    removed.example = "remaphore peer remove com.example.left"
    add_config(removed)
    removed.add_argument("peer", metavar="DESTINATION|KEY", help="the peer")
    which = removed.add_mutually_exclusive_group()
    which.add_argument("--key", metavar="KEY", default="", help="remove only this one of its keys")
    which.add_argument("--all", dest="every", action="store_true", help="remove all of its keys")
    removed.set_defaults(options=PeerRemove)

    listed = actions.add_parser("list", help="list the peers and what each may send")
    listed.description = "List the peers, what each may send to this node, and the file that defines it."
    listed.example = "remaphore peer list\nremaphore peer list --json"
    add_config(listed)
    add_json(listed)
    listed.set_defaults(options=PeerList)

    shown = actions.add_parser("show", help="print the peer line of this node or of a peer")
    shown.description = (
        "Print the peer line of this node, one for each of its identities, the default one first; or that of a peer."
    )
    shown.example = "remaphore peer show"
    add_config(shown)
    shown.add_argument("peer", metavar="DESTINATION|KEY", nargs="?", default="", help="the peer (default: this node)")
    shown.set_defaults(options=PeerShow)


def _add_arguments_of_add(parser: Parser) -> None:
    from remaphore.cli.arguments import add_config, add_verbs

    parser.description = (
        "Add a peer by its peer line, which `remaphore peer show` prints on that node, with the verbs that it may send."
        " Adding a known peer again changes nothing."
    )
    parser.example = "remaphore peer add --verbs ping,deploy --file right.peer"
    add_config(parser)
    parser.add_argument("line", metavar="LINE", nargs="*", help="peer line (default: -, for stdin)")
    parser.add_argument("--file", metavar="FILE", default="", help="read peer lines from FILE")
    add_verbs(parser, "--verbs", text="verbs that the peer may send to this node; '*' for all")
    parser.add_argument(
        "--compatibility",
        choices=("legacy",),
        help="the peer runs the Go implementation, which has no peer lines: LINE may be DESTINATION PUBLICKEY",
    )
    parser.add_argument(
        "--rotate", action="store_true", help="add another key to a known peer; both are valid until one is removed"
    )
    parser.add_argument(
        "--drop-in",
        action="store_true",
        help="write to peers.d/DESTINATION.toml, as is the default without the extra `operator`",
    )
    parser.set_defaults(options=PeerAdd.from_arguments)


def run(options: PeerAdd | PeerPermit | PeerRemove | PeerList | PeerShow) -> int:
    """Run the action; return 0."""
    match options:
        case PeerAdd():
            add(options)
        case PeerPermit():
            permit(options)
        case PeerRemove():
            remove(options)
        case PeerList():
            list_peers(options)
        case PeerShow():
            show(options)
    return 0


def add(options: PeerAdd) -> None:
    """Add peers, and report what they may send."""
    from remaphore.cli.commands.init import warn_of_destination
    from remaphore.config import editing, peer_line
    from remaphore.protocol.peers import Peer

    path = find_editable(options.config)
    rows = peer_line.read_all(*_peer_lines(options), bare=options.legacy)
    verbs = frozenset(verb.lower() for verb in options.verbs)
    peers = [Peer(destination=destination, key=key, verbs=verbs, legacy=options.legacy) for destination, key in rows]
    _warn_of_patterns(verbs)
    added = editing.add(path, peers, drop_in=options.drop_in, rotate=options.rotate)
    own = load_config(path).identities
    for peer in dict.fromkeys(peers):
        if peer not in added.peers:
            output.notice(f"already known: {_summary(peer)}")
            continue
        warn_of_destination(peer.destination)
        if any(identity.key == peer.key for identity in own):
            output.notice(f"{peer.destination} is this node itself, which may now send these verbs to itself")
        output.notice(_summary(peer))
    report_change(added.files)


def permit(options: PeerPermit) -> None:
    """Change the verbs that a peer may send, and report them."""
    from remaphore.config import editing

    path = find_editable(options.config)
    chosen = editing.choose(load_config(path), options.peer, every=True)
    allow, deny = (frozenset(verb.lower() for verb in given) for given in (options.allow, options.deny))
    _warn_of_patterns(allow | deny)
    changed = editing.permit(path, chosen, allow=allow, deny=deny)
    for peer in dict.fromkeys(changed.peers):
        output.notice(_summary(peer))
    keys = {peer.key for peer in changed.peers}
    for peer in dict.fromkeys(chosen):
        if peer.key not in keys:
            output.notice(_summary(peer))
    report_change(changed.files)


def _warn_of_patterns(verbs: frozenset[str]) -> None:
    from remaphore.protocol.peers import ANY_VERB, KINDS_WITH_NAMES

    known = {ANY_VERB, *(f"{kind}:{ANY_VERB}" for kind in KINDS_WITH_NAMES)}
    for verb in sorted(verb for verb in verbs - known if "*" in verb):
        output.notice(
            f"warning: {verb} is not a pattern: verbs are compared exactly; only '*' stands for all, and lock:* for all"
            " locks"
        )


def _summary(peer: Peer) -> str:
    return f"{peer.destination} ({peer.key}) may send: {', '.join(sorted(peer.verbs)) or 'nothing'}{_rules(peer)}"


def _peer_lines(options: PeerAdd) -> tuple[str, str]:
    """Return the text with the peer lines, and its source for messages."""
    import os
    import shlex
    import sys

    from remaphore.config.secrets import read_file, read_stdin

    if options.file:
        return read_file(options.file, what="peer lines")[0].decode(errors="replace"), options.file
    if options.line not in ("", "-"):
        if os.path.isfile(options.line):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            hint = f"to add the peers in it: --file {shlex.quote(options.line)}"
            raise UsageError(f"{options.line!r} is a file, not a peer line", hint=hint)
        return options.line, "the peer line"
    if sys.stdin is not None and sys.stdin.isatty():
        output.notice("paste the peer line of the other node, then press Enter and Ctrl-D")
    return read_stdin(what="peer lines").decode(errors="replace"), "stdin"


def remove(options: PeerRemove) -> None:
    """Remove a peer, or one of its keys."""
    from remaphore.config import editing

    path = find_editable(options.config)
    peers = editing.choose(load_config(path), options.peer, key=options.key, every=options.every)
    changed = editing.remove(path, peers)
    for destination, key in dict.fromkeys((peer.destination, peer.key) for peer in peers):
        output.notice(f"removed: {destination} ({key})")
    report_change(changed)


def list_peers(options: PeerList) -> None:
    """Print the peers."""
    from remaphore.text import natural_key

    # Files of peers.d are read in the order of their names: 1, 10, 2.
    peers = sorted(load_config(options.config).peers, key=lambda peer: natural_key(peer.destination))
    if options.json:
        output.write_json(
            *(
                {
                    "destination": peer.destination,
                    "key": peer.key,
                    "verbs": sorted(peer.verbs),
                    "only": {verb: rule.settings() for verb, rule in peer.only.items()},
                    "compatibility": "legacy" if peer.legacy else None,
                    "origin": peer.origin,
                }
                for peer in peers
            )
        )
        return
    rows = (
        (
            peer.destination,
            peer.key,
            (",".join(sorted(peer.verbs)) or "-") + (" (legacy)" if peer.legacy else "") + _rules(peer),
            peer.origin,
        )
        for peer in peers
    )
    output.write_table(("DESTINATION", "KEY", "VERBS", "FROM"), rows)


def _rules(peer: Peer) -> str:
    return f" (payload rules: {','.join(sorted(peer.only))})" if peer.only else ""


def show(options: PeerShow) -> None:
    """Print peer lines."""
    from remaphore.config import editing, peer_line

    config = load_config(options.config)
    # Our own keys, the one that signs replies first.
    own = [(config.destination, key) for key in (config.identity().key, *(each.key for each in config.identities))]
    found = [row for row in own if options.peer in ("", *row)]
    if not found:
        found = [(peer.destination, peer.key) for peer in editing.choose(config, options.peer, every=True)]
    lines = (peer_line.write(destination=destination, key=key) for destination, key in dict.fromkeys(found))
    output.write_exact("".join(f"{line}\n" for line in lines))
