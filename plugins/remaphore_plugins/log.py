"""The plugin `log`: one line for each event, through structlog, which the command has set up (console or JSON).

A message that was received ends in exactly one line: `message_handled`, `message_failed` or `message_rejected`; or, if
the daemon ended while it ran, `message_interrupted` of the core.

Drops that are normal operation (a message for another node, one of our own, one that a filter excludes) and invalid
replies are debug lines; drops that may need a person to act are warnings. A pattern such as `**` also matches nodes
that need not know the sender, or permit it the verb or the payload: these three reasons are warnings only for a message
that was sent to exactly our destination.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import structlog

from remaphore import Drop, DropReason, Message, Outcome, Receipt, Reply, Summary, hookimpl
from remaphore.logs import EventLogger

_NORMAL = frozenset({DropReason.NOT_ADDRESSED, DropReason.OWN_MESSAGE, DropReason.FILTERED, DropReason.DUPLICATE})
_NORMAL_UNLESS_EXACT = frozenset(
    {DropReason.UNKNOWN_SENDER, DropReason.VERB_NOT_PERMITTED, DropReason.PAYLOAD_NOT_PERMITTED}
)
# Reasons of rejections that a stop or a reload of the daemon causes.
_INTENDED = frozenset({"stopping", "not-permitted"})
# Reasons of dropped replies: the requester sees their number, and with --verbose each of them.
_OF_REPLIES = frozenset(
    {DropReason.NOT_A_REPLY, DropReason.NOT_ASKED, DropReason.ANSWERED_ALREADY, DropReason.NOT_BOUND}
)

_NAMES = ("verb", "peer", "id", "digest")  # the keys of `Message.log_fields`
_NO_REPLY = "no plugin replied"


class _Lines(NamedTuple):
    """The lines that each message has: when it was received, and when it ended without a plugin, or with a reply."""

    received: EventLogger
    passed: EventLogger
    replied: EventLogger


class Log:
    """Logs names, verbs, codes and times; never a payload or an output."""

    def __init__(self) -> None:
        self._digest = b""  # of the message whose fields these are
        self._fields: tuple[str | None, ...] = ()

    def _fields_of(self, message: Message) -> tuple[str | None, ...]:
        """Return its `log_values`: made once for the two lines of a message that ends where it begins."""
        if not message.digest or message.digest != self._digest:
            self._digest, self._fields = message.digest, message.log_values
        return self._fields

    @cached_property
    def _log(self) -> structlog.typing.FilteringBoundLogger:
        # Bound once, when the command has set up the log: a logger that is not bound is bound again for each event.
        bound: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()
        return bound

    @cached_property
    def _lines(self) -> _Lines:
        return _Lines(
            EventLogger(self._log, "message_received", *_NAMES, "size"),
            EventLogger(self._log, "message_handled", *_NAMES, exit_code=None, detail=_NO_REPLY),
            EventLogger(self._log, "message_handled", *_NAMES, "plugin", "seconds", "exit_code"),
        )

    @hookimpl
    def remaphore_admitted(self, message: Message) -> None:
        """Log that a message was accepted."""
        self._lines.received(*self._fields_of(message), len(message.payload))

    @hookimpl
    def remaphore_handled(self, message: Message, outcomes: tuple[Outcome, ...], reply: Reply | None) -> None:
        """Log the end of a message: one line, whatever the plugins did. Failures beside a reply have their own lines.

        It is `message_failed` if there were only failures, else `message_handled`: with the plugin whose reply it is,
        or without one if no plugin replied.
        """
        if not outcomes and reply is None:  # nothing acts on it, as on most messages of a flood
            self._lines.passed(*self._fields_of(message))
            return
        replied, failed = None, []
        for outcome in outcomes:
            if outcome.error is not None:
                failed.append(outcome)
            elif replied is None and isinstance(outcome.result, Reply):
                replied = outcome
        for number, outcome in enumerate(failed):
            event = "plugin_failed" if replied or number else "message_failed"
            how = {"plugin": outcome.plugin, "seconds": round(outcome.seconds, 3), "error": _shown(outcome.error)}
            self._log.error(event, **message.log_fields, **how)
        if replied is not None:
            end = replied.plugin, round(replied.seconds, 3), _exit_code(replied.result)
            self._lines.replied(*self._fields_of(message), *end)
        elif not failed:
            code = _exit_code(reply)
            self._log.info("message_handled", **message.log_fields, exit_code=code, detail=_NO_REPLY)

    @hookimpl
    def remaphore_rejected(self, message: Message, reason: str, detail: str, count: int) -> None:
        """Log the end of a message that is not handled. It is a warning, unless the administrator caused it."""
        level = "info" if reason in _INTENDED else "warning"
        getattr(self._log, level)("message_rejected", **message.log_fields, reason=reason, detail=detail, count=count)

    @hookimpl
    def remaphore_dropped(self, drop: Drop) -> None:
        """Log that something was dropped, and why."""
        normal = drop.reason in _NORMAL | _OF_REPLIES or (drop.reason in _NORMAL_UNLESS_EXACT and not drop.exact)
        getattr(self._log, "debug" if normal else "warning")(
            "message_dropped",
            reason=str(drop.reason),
            detail=drop.detail or None,
            count=drop.count,
            exact=drop.exact,
            size=drop.size,
            subject=drop.subject,
        )

    @hookimpl
    def remaphore_reply(self, request: Message, reply: Reply) -> None:
        """Log a reply, on the requesting side. A debug line, because the user sees the output."""
        verb, _, id_, _ = self._fields_of(request)  # made once for all replies
        self._log.debug(
            "reply_received", verb=verb, id=id_, peer=reply.peer, exit_code=reply.exit_code, bound=reply.bound
        )

    @hookimpl
    def remaphore_receipt(self, request: Message, receipt: Receipt) -> None:
        """Log a receipt, on the requesting side."""
        self._log.debug("receipt_received", verb=request.verb, id=request.id, peer=receipt.peer)

    @hookimpl
    def remaphore_finished(self, request: Message, summary: Summary) -> None:
        """Log the result of a request."""
        self._log.debug(
            "request_finished",
            verb=request.verb,
            id=request.id,
            expected=len(summary.expected),
            answered=len(summary.answered),
            failed=len(summary.failed),
            running=", ".join(summary.running) or None,
            silent=", ".join(summary.silent) or None,
        )


def _exit_code(reply: object) -> int | None:
    return reply.exit_code if isinstance(reply, Reply) else None


def _shown(error: BaseException | None) -> str:
    """Return class and text of *error*, or the name of its class if these raise: they may be code of another plugin."""
    try:
        # The repr of an OSError lacks the path.
        named = isinstance(error, OSError) and error.filename is not None
        return f"{type(error).__name__}: {error}" if named else repr(error)
    except BaseException:  # noqa: BLE001 - the line of this message, and those of the other plugins, must be written
        return type(error).__name__
