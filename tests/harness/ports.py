"""Ports for servers that must know them before they start."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """Return an unused port outside the range from which the kernel assigns ports."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
