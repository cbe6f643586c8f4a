"""The answers of the agent that are no errors of the product: what it does not do, and why."""

from __future__ import annotations

from typing import Literal

from remaphore.errors import RemaphoreError

# The kinds of an end besides the names of the public errors, such as BrokerUnavailableError. refused: by a rule, or by
# who connected. busy: a limit. version: another protocol. usage: a key or value. protocol: bytes that are no frames.
# late: the head or payload did not arrive in time. overflow: what waited for the client exceeded its share. stopping:
# the agent ends. cancelled: the client has gone; only the log has it. internal: a bug.
Kind = Literal[
    "refused", "busy", "version", "usage", "protocol", "late", "overflow", "stopping", "cancelled", "internal"
]


class RefusedError(RemaphoreError):
    """The agent does not do what a client asks. kind: for programs, see `Kind`."""

    default_hint = "remaphore agent --whoami shows what the rules permit"

    def __init__(self, kind: Kind, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind: Kind = kind

    @property
    def exit_code(self) -> int:
        """The exit code of the client."""
        return 2 if self.kind in ("usage", "protocol", "late") else 3
