"""`remaphore init`: create this node's first configuration, its key and its state directory."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

# A resolver that does not answer blocks for up to half a minute.
NAME_SECONDS = 3.0

SUMMARY = "create this node's configuration and key; print its peer line"
EXAMPLE = """\
remaphore init
remaphore init --destination com.example.left --server nats://broker:4222"""
EXIT_CODES = {0: "created"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """Options of init. destination: empty to derive it from the host name. credentials, ca_file: empty by default."""

    config: str | None = None
    destination: str = ""
    servers: tuple[str, ...] = ()
    credentials: str = ""
    ca_file: str = ""


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.description = (
        "Create this node's first configuration, its key and its state directory, and print its peer line, which"
        " `remaphore peer add` reads on other nodes. Existing files are not overwritten."
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="file to create (default: /etc/remaphore/remaphore.toml for root, else in ~/.config/remaphore/)",
    )
    parser.add_argument(
        "--destination",
        metavar="NAME",
        default="",
        help="this node's name, such as com.example.left (default: the host name, reversed)",
    )
    parser.add_argument(
        "--server",
        dest="servers",
        metavar="URL",
        action="append",
        default=[],
        help="NATS server; repeatable, for failover (default: nats://localhost:4222)",
    )
    parser.add_argument("--credentials", metavar="FILE", default="", help="NATS credentials file (default: nats.creds)")
    parser.add_argument(
        "--ca-file", metavar="FILE", default="", help="CA of the servers' certificates (default: those of the system)"
    )
    parser.set_defaults(options=Init)


def run(options: Init) -> int:
    """Create them; print the peer line; return 0."""
    import os
    import shlex
    from pathlib import Path

    from remaphore.config import creation, peer_line, search
    from remaphore.receiving.ledger.state import default_root

    def absolute(path: str) -> str:
        return os.path.abspath(path) if path else ""  # noqa: PTH100 - keeps links

    # The file that the other commands will find.
    default_paths = search.default_paths(os.environ, user=os.geteuid())
    config = Path(absolute(options.config or os.environ.get(search.VARIABLE) or str(default_paths[0])))
    creation.check_place(config)
    # The default state directory belongs to a configuration at a default place. Another one has its own, next to it.
    by_default = str(config) in default_paths
    node = creation.NewNode(
        config=config,
        destination=options.destination or creation.destination_of(*host_names()),
        servers=options.servers,
        credentials=absolute(options.credentials),
        ca_file=absolute(options.ca_file),
        state_dir=default_root(os.environ) if by_default else config.with_suffix(".state"),
        state_in_config=not by_default,
    )
    public, key_existed = creation.create_node(node)
    line = peer_line.write(destination=node.destination, key=public)

    how = "" if options.destination else ", from the host name (to change it, delete these files and use --destination)"
    output.notice(f"this node is {node.destination}{how}")
    warn_of_destination(node.destination)
    output.notice(f"configuration: {node.config}")
    output.notice(f"private key:   {node.key_file} ({'already existed, and is used' if key_existed else 'mode 0600'})")
    output.notice(f"state:         {node.state_dir} (mode 0700)")
    if not node.servers or not node.credentials:
        output.notice(f"next, here: set servers and credentials in {node.config}")
    output.notice("next, on each node that should accept messages from this one, with the verbs that it may send:")
    output.notice(f"    remaphore peer add --verbs ping,deploy {shlex.join(line.split())}", whole=True)
    output.write_exact(f"{line}\n")
    return 0


def host_names() -> tuple[str, ...]:
    """Return the names of this machine, the best first: that of the resolver, if it answers in time, and the kernel's.

    Either may be unusable: a host can have any name, for which the resolver may raise anything.
    """
    import socket
    import threading

    found: list[str] = []

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.append(socket.getfqdn())

    with contextlib.suppress(RuntimeError):  # no further thread is allowed
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(NAME_SECONDS)
    names = found[:1]
    with contextlib.suppress(OSError, UnicodeError):
        names.append(socket.gethostname())
    return tuple(names)


def warn_of_destination(destination: str) -> None:
    """Warn of a destination that has to be quoted in a shell, or that a person could misread."""
    from remaphore.config.characters import find_unusual

    unusual = find_unusual(destination)
    if unusual:
        output.notice(f"warning: the destination contains {unusual}, which has to be quoted in commands or is misread")
        output.notice("hint: use only letters, digits, ., _ and - in a new destination")
