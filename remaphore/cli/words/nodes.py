"""The words that make a node and let it know others: `init`, `keygen`, `peer`, `config`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from remaphore.cli.options import Options
from remaphore.cli.options.nodes import (
    ConfigConvert,
    ConfigShow,
    Init,
    Keygen,
    PeerAdd,
    PeerList,
    PeerRemove,
    PeerShow,
)
from remaphore.cli.words.parsing import Command, config, split_verbs
from remaphore.errors import UsageError

if TYPE_CHECKING:
    _Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - the type has no other name

VERBS_MEND = "say what it may send to us: --verbs ping,deploy (or --verbs '*' for everything)"


def _build_init(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make this node's first configuration, its key and its state directory, and print its peer line, which other"
        " nodes take with `remaphore peer add`. Nothing is overwritten."
    )
    parser.epilog = (
        "example: remaphore init --destination com.example.us.left --server nats://broker:4222 --credentials nats.creds"
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="the file to make (default: /etc/remaphore/remaphore.toml, or ~/.config/remaphore/remaphore.toml)",
    )
    parser.add_argument(
        "--destination", metavar="NAME", default="", help="this node's name (default: this host's, reversed)"
    )
    parser.add_argument(
        "--server", dest="servers", metavar="URL", action="append", help="of the broker; repeatable, for failover"
    )
    parser.add_argument(
        "--credentials", metavar="FILE", default="", help="with which the broker knows us (default: nats.creds)"
    )


def _build_keygen(parser: argparse.ArgumentParser) -> None:
    parser.description = "Make a key pair: the private key goes to FILE (mode 0600), the public key to stdout."
    parser.epilog = "example: remaphore keygen /etc/remaphore/next.key"
    parser.add_argument("file", metavar="FILE", help="for the private key; never overwritten")


def _build_peer(parser: argparse.ArgumentParser) -> None:
    parser.description = "Add, remove and list the nodes that this one knows, and print peer lines."
    parser.epilog = "example: remaphore peer show | ssh right remaphore peer add --verbs ping,deploy -"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _build_action(actions, "add", _build_peer_add, "add the node of a peer line, with what it may send")
    _build_action(actions, "remove", _build_peer_remove, "remove one, or one of its keys")
    _build_action(actions, "list", _build_peer_list, "list all, with what each may send to us")
    _build_action(actions, "show", _build_peer_show, "print our peer line, or that of a peer")


def _build_config(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show the effective configuration, or make TOML of the original's."
    parser.epilog = "example: remaphore config show"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _build_action(actions, "show", _build_config_show, "print every setting, with what decides it")
    _build_action(actions, "convert", _build_config_convert, "make TOML of the original's configuration")


def _build_action(actions: _Actions, name: str, build: Callable[[argparse.ArgumentParser], None], summary: str) -> None:
    build(actions.add_parser(name, help=summary, allow_abbrev=False))


def _build_peer_add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Add the node of a peer line, as `remaphore peer show` prints it there, with what it may send."
    parser.epilog = (
        "example: remaphore peer add --verbs ping,deploy remaphore-peer:1 com.example.us.left 3v96... c0ffee12"
    )
    config(parser)
    parser.add_argument("line", metavar="LINE", nargs="*", help="the peer line; - or none: read from stdin")
    parser.add_argument("--file", metavar="FILE", default="", help="read peer lines from FILE")
    parser.add_argument(
        "--verbs", metavar="VERB[,VERB...]", action="append", help="what it may send to us; '*' is everything"
    )
    parser.add_argument(
        "--compatibility",
        choices=("legacy",),
        help="it runs the Go implementation; LINE may be DESTINATION PUBLICKEY, as that has no peer lines",
    )
    parser.add_argument(
        "--rotate", action="store_true", help="another key of a node that is known: both count, until one is removed"
    )
    parser.add_argument(
        "--drop-in", action="store_true", help="write peers.d/DESTINATION.toml instead of the configuration itself"
    )


def _build_peer_remove(parser: argparse.ArgumentParser) -> None:
    parser.description = "Remove a peer: nothing that it sends is taken any more, and it is not asked."
    parser.epilog = "example: remaphore peer remove com.example.us.left"
    config(parser)
    parser.add_argument("peer", metavar="DESTINATION|KEY", help="which peer")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--key", metavar="KEY", default="", help="only this one of its keys")
    which.add_argument("--all", dest="every", action="store_true", help="all of its keys")


def _build_peer_list(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the nodes that this one knows, what each may send to us, and which file says so."
    parser.epilog = "example: remaphore peer list --json"
    config(parser)
    parser.add_argument("--json", action="store_true", help="one object a line")


def _build_peer_show(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print this node's peer line, one for each of its identities, the default one first; or that of a peer."
    )
    parser.epilog = "example: remaphore peer show"
    config(parser)
    parser.add_argument(
        "peer", metavar="DESTINATION|KEY", nargs="?", default="", help="which peer (default: ourselves)"
    )


def _build_config_show(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print every setting with what decides it: a file and its line or key path, or the default."
    parser.epilog = "example: remaphore config show | grep '^servers'    (secrets are not shown)"
    config(parser)
    parser.add_argument("--json", action="store_true", help="one object a line: key, value, origin")


def _build_config_convert(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make TOML of the original's configuration, and key files of the private keys in it. FILE stays as it is."
    )
    parser.epilog = "example: remaphore config convert /etc/remaphore/remaphore.conf"
    parser.add_argument("file", metavar="FILE.conf", help="the original's configuration")
    parser.add_argument("--output", metavar="FILE.toml", default="", help="what to make (default: beside it, .toml)")


def _read_init(given: argparse.Namespace) -> Init:
    return Init(**{**vars(given), "servers": tuple(given.servers or ())})


def _read_keygen(given: argparse.Namespace) -> Keygen:
    return Keygen(**vars(given))


def _read_peer_add(given: argparse.Namespace) -> PeerAdd:
    if given.line and given.file:
        raise UsageError("a peer line and --file; give one of the two (see remaphore peer add --help)")
    verbs = split_verbs(given.verbs)
    if not verbs:
        raise UsageError(f"no verbs for the peer; {VERBS_MEND}")
    return PeerAdd(
        config=given.config,
        line=" ".join(given.line),
        file=given.file,
        verbs=verbs,
        legacy=given.compatibility == "legacy",
        rotate=given.rotate,
        drop_in=given.drop_in,
    )


def _read_peer(given: argparse.Namespace) -> Options:
    kinds: dict[str, type[Options]] = {"remove": PeerRemove, "list": PeerList, "show": PeerShow}
    action = _take_action(given)
    return _read_peer_add(given) if action == "add" else kinds[action](**vars(given))


def _read_config(given: argparse.Namespace) -> Options:
    kinds: dict[str, type[Options]] = {"show": ConfigShow, "convert": ConfigConvert}
    return kinds[_take_action(given)](**vars(given))


def _take_action(given: argparse.Namespace) -> str:
    action: str = given.action
    del given.action
    return action


COMMANDS = {
    "init": Command(_build_init, _read_init),
    "keygen": Command(_build_keygen, _read_keygen),
    "peer": Command(_build_peer, _read_peer),
    "config": Command(_build_config, _read_config),
}
