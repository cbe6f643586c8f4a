"""Notifying systemd of the state of the service: the datagrams of sd_notify(3), which need no library.

Without `$NOTIFY_SOCKET` nothing is sent. The names are systemd's: READY, RELOADING with MONOTONIC_USEC, STOPPING,
STATUS, WATCHDOG.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

# A manager that is busy gets this long to accept a change of state. Datagrams that are repeated do not wait: the queue
# of the socket is short, and waiting would block the event loop for as long as the manager is busy.
CHANGE_SECONDS = 1.0


class Notifier:
    """Sends states to the service manager that started this process, if one did."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        # Opened now: without a free descriptor later, the watchdog would end a daemon that works.
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self._watchdog_usec = environ.get("WATCHDOG_USEC", "")
        self._watchdog_pid = environ.get("WATCHDOG_PID", "")

    @property
    def watchdog_seconds(self) -> float | None:
        """The interval for `alive`, or None: half of what the manager waits, as sd_watchdog_enabled(3) advises."""
        if not self._watchdog_usec.isdecimal() or self._watchdog_pid not in ("", str(os.getpid())):
            return None
        return int(self._watchdog_usec) / 2_000_000 or None

    def ready(self, status: str) -> None:
        """The service has started, or is complete again after a reload. It may still wait for its broker."""
        self._send(f"READY=1\nSTATUS={status}", wait=CHANGE_SECONDS)

    def receiving(self, destination: str) -> None:
        """The broker delivers what is sent to *destination*."""
        self._send(f"STATUS=receiving as {destination}", wait=CHANGE_SECONDS)

    def reloading(self) -> None:
        """The configuration is being reloaded."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1_000}", wait=CHANGE_SECONDS)

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1", wait=CHANGE_SECONDS)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The event loop is responsive."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Send nothing from now on."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _send(self, state: str, *, wait: float = 0.0) -> None:
        if self._channel is None:
            return
        # An address that begins with @ is in the abstract namespace: its first byte is NUL.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        self._channel.settimeout(wait)
        try:
            self._channel.sendto(state.encode(), address)
        except OSError:
            return  # the manager has gone or does not listen; the service continues
