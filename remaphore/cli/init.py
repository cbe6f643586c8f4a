"""`remaphore init`: this node's first configuration, its key and its state directory."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

from remaphore.cli import console
from remaphore.cli.options.nodes import Init
from remaphore.config import creation, peer_line, search
from remaphore.config.creation import NewNode
from remaphore.receiving.ledger.state import default_root


def run(options: Init) -> int:
    """Make them; print the peer line; return 0."""
    config = _place(options.config)
    creation.check_place(config)
    # At the usual place only for a configuration that is at its own.
    usual = str(config) in search.default_paths(os.environ, user=os.geteuid())
    node = NewNode(
        config=config,
        destination=options.destination or creation.destination_of(socket.getfqdn()),
        servers=options.servers,
        credentials=os.path.abspath(options.credentials) if options.credentials else "",  # noqa: PTH100 - keeps links
        state_dir=default_root(os.environ) if usual else config.with_suffix(".state"),
        state_in_config=not usual,
    )
    public, there = creation.create_node(node)
    line = peer_line.write(destination=node.destination, key=public)
    _tell(node, line, named=bool(options.destination), key_was_there=there)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return 0


def _place(path: str | None) -> Path:
    """Return the file to make: where the other commands will look for it."""
    name = path or os.environ.get(search.VARIABLE) or search.default_paths(os.environ, user=os.geteuid())[0]
    return Path(os.path.abspath(name))  # noqa: PTH100 - as it was given, links and all


def _tell(node: NewNode, line: str, *, named: bool, key_was_there: bool) -> None:
    how = "" if named else ", after its host name (to choose another: delete what was made, and give --destination)"
    console.say(f"this node is {node.destination}{how}")
    console.say(f"configuration: {node.config}")
    console.say(f"private key:   {node.key_file} ({'was there, and is used' if key_was_there else 'mode 0600'})")
    console.say(f"state:         {node.state_dir} (mode 0700)")
    if not node.servers or not node.credentials:
        console.say(f"next, here: set servers and credentials in {node.config}")
    console.say("next, on each node that shall listen to this one, with what it may send there:")
    console.say(f"    remaphore peer add --verbs ping,deploy {shlex.join(line.split())}")
