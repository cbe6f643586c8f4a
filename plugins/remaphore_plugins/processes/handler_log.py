"""The debug lines of a handler: `handler_started`, and `handler_ended` with its exit code and the seconds it took."""

from __future__ import annotations

import time

import structlog

from remaphore import Message

_log = structlog.get_logger()


class HandlerLog:
    """The lines of one run of *handler* for *message*. Creating it logs the start."""

    def __init__(self, handler: str, message: Message) -> None:
        self._log = _log.bind(**message.log_fields, handler=handler)
        self._started = time.monotonic()
        self._log.debug("handler_started")

    def ended(self, exit_code: int | None) -> None:
        """Log that it ended, with the *exit_code* that the reply states for it."""
        seconds = round(time.monotonic() - self._started, 3)
        self._log.debug("handler_ended", exit_code=exit_code, seconds=seconds)
