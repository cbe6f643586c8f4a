"""`remaphore identity`: add, remove and list this node's keys, and choose the default one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.cli.configuration import find_editable, load_config, report_change

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "add, remove and list this node's keys, and choose the default"
EXAMPLE = """\
remaphore identity add > new.peer
remaphore identity list"""
EXIT_CODES = {0: "done"}


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAdd:
    """Options of identity add. file: that of the private key, empty for a new one; verbs: none for the default's."""

    config: str | None = None
    file: str = ""
    verbs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityDefault:
    """Options of identity default."""

    config: str | None = None
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRemove:
    """Options of identity remove."""

    config: str | None = None
    key: str
    delete_key_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityList:
    """Options of identity list."""

    config: str | None = None
    json: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the actions and their arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json, add_verbs

    parser.description = (
        "Add, remove and list the identities of this node, which are its keys, and choose the default one."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    added = actions.add_parser("add", help="add an identity with a new or an existing key, and print its peer line")
    added.description = (
        "Add an identity to the configuration, and print its peer line. The default identity stays the same. Repeated"
        " with the same FILE, it changes nothing."
    )
    added.example = "remaphore identity add > new.peer\nremaphore identity add /etc/remaphore/next.key --verbs ping"
    add_config(added)
    added.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="",
        help="file of the private key; created unless it exists (default: a new file next to the configuration)",
    )
    add_verbs(added, "--verbs", text="verbs that this node may send with it (default: those of the default identity)")
    added.set_defaults(options=IdentityAdd)

    default = actions.add_parser("default", help="choose the identity that signs replies, and requests without --from")
    default.description = "Choose the identity that signs replies, and requests without --from."
    default.example = "remaphore identity default $(cut -d ' ' -f 3 new.peer)"
    add_config(default)
    default.add_argument("key", metavar="KEY", help="public key of the identity")
    default.set_defaults(options=IdentityDefault)

    removed = actions.add_parser("remove", help="remove an identity that is not the default one")
    removed.description = "Remove an identity that is not the default one. The file of its private key stays."
    removed.example = "remaphore identity remove --delete-key-file $(cut -d ' ' -f 3 old.peer)"
    add_config(removed)
    removed.add_argument("key", metavar="KEY", help="public key of the identity")
    removed.add_argument("--delete-key-file", action="store_true", help="delete the file of its private key, too")
    removed.set_defaults(options=IdentityRemove)

    listed = actions.add_parser("list", help="list the identities, the default one first")
    listed.description = "List the identities, the default one first, what each may send, and its private key's file."
    listed.example = "remaphore identity list"
    add_config(listed)
    add_json(listed)
    listed.set_defaults(options=IdentityList)


def run(options: IdentityAdd | IdentityDefault | IdentityRemove | IdentityList) -> int:
    """Run the action; return 0."""
    match options:
        case IdentityAdd():
            add(options)
        case IdentityDefault():
            set_default(options)
        case IdentityRemove():
            remove(options)
        case IdentityList():
            list_identities(options)
    return 0


def add(options: IdentityAdd) -> None:
    """Add an identity, and print its peer line."""
    import shlex
    import stat

    from remaphore.config import identities, peer_line

    path = find_editable(options.config)
    verbs = frozenset(verb.lower() for verb in options.verbs)
    new = identities.add(path, key_file=options.file, verbs=verbs)
    config = load_config(path)
    line = peer_line.write(destination=config.destination, key=new.identity.key)
    if new.changed:
        how = f"mode {stat.S_IMODE(new.file.stat().st_mode):04o}" if new.created else "already existed, and is used"
        output.notice(f"private key: {new.file} ({how})")
        output.notice(f"identity {new.identity.key} may send: {', '.join(sorted(new.identity.verbs)) or 'nothing'}")
        output.notice(f"the default identity is still {config.identity().key}")
        report_change(new.changed)
        output.notice("next, on each peer, with the verbs that this node may send to it:")
        output.notice(f"    remaphore peer add --rotate --verbs ping,deploy {shlex.join(line.split())}", whole=True)
    else:
        output.notice(f"already an identity, nothing changed: {new.identity.key}")
    output.write_exact(f"{line}\n")


def set_default(options: IdentityDefault) -> None:
    """Choose the default identity."""
    from remaphore.config import identities

    changed = identities.set_default(find_editable(options.config), options.key)
    if changed:
        output.notice(f"default identity: {options.key}")
        report_change(changed)
    else:
        output.notice(f"already the default identity, nothing changed: {options.key}")


def remove(options: IdentityRemove) -> None:
    """Remove an identity."""
    import shlex

    from remaphore.config import identities

    file, changed = identities.remove(
        find_editable(options.config), options.key, delete_key_file=options.delete_key_file
    )
    output.notice(f"removed: {options.key}")
    if options.delete_key_file:
        output.notice(f"deleted: {file}")
    else:
        output.notice(f"kept: {file}; when it is not needed any more: rm {shlex.quote(str(file))}", whole=True)
    report_change(changed)


def list_identities(options: IdentityList) -> None:
    """Print the identities."""
    config = load_config(options.config)
    default = config.identity()
    found = [default, *(each for each in config.identities if each.key != default.key)]
    if options.json:
        output.write_json(
            *(
                {
                    "key": each.key,
                    "verbs": sorted(each.verbs),
                    "file": str(each.file) if each.file else None,
                    "default": each is default,
                }
                for each in found
            )
        )
        return
    rows = (
        (each.key, ",".join(sorted(each.verbs)) or "-", str(each.file or "-"), "default" if each is default else "-")
        for each in found
    )
    output.write_table(("KEY", "VERBS", "FILE", "DEFAULT"), rows)
