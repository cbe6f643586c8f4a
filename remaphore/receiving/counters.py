"""What the daemon counts, from its start on."""

from __future__ import annotations

from remaphore.hooks.status import Tally


class DaemonCounters(Tally):
    """The counters of a running daemon; its parts write them, and plugins see a snapshot."""
