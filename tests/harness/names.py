"""A name service under a test's control, in the process of the test; and in a mount namespace, for commands."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Names:
    """What names are looked up as. asked: the names, as often as each was asked for; hang: makes lookups wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, Sequence[str] | Exception] = {}
        self._released = threading.Event()
        self._released.set()
        self._real: Callable[..., Any] = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def __setitem__(self, name: str, answer: Sequence[str] | Exception) -> None:
        self._answers[name] = answer

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let no lookup end before the end of this block."""
        self._released.clear()
        try:
            yield
        finally:
            self._released.set()

    def _look_up(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        answer = self._answers.get(host)
        if answer is None:
            return self._real(host, port, *args, **options)
        self.asked.append(host)
        self._released.wait()
        if isinstance(answer, Exception):
            raise answer
        return [entry for address in answer for entry in self._real(address, port, *args, **options)]


def another_address() -> str:
    """Return an address of this machine besides 127.0.0.1: that of IPv6, if it has IPv6."""
    with socket.socket(socket.AF_INET6) if socket.has_ipv6 else socket.socket() as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return "127.0.0.2"
    return "::1"


def can_replace_hosts() -> bool:
    """Return whether this machine permits a mount namespace, in which /etc/hosts can be another file."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or not Path("/etc/nsswitch.conf").exists():
        return False
    words = ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def with_hosts(hosts: Path, switch: Path) -> tuple[str, ...]:
    """Return the words that make a command see *hosts* as /etc/hosts, and ask no other name service.

    switch: a file that this function writes.
    """
    switch.write_text("hosts: files\n")
    script = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"'
    return "unshare", "--mount", "sh", "-c", script, "sh", str(hosts), str(switch)
