"""The plugin `log`: one line for each event, through structlog, which the command has set up (console or JSON).

What was dropped for a reason that is part of every day (for another node, for another waiter), and what is wrong with
a reply, is a debug line; what somebody may have to act on is a warning.
"""

from __future__ import annotations

import structlog

from remaphore import Drop, DropReason, Message, Outcome, Reply, Summary, hookimpl

_EVERYDAY = frozenset({DropReason.NOT_ADDRESSED, DropReason.FILTERED, DropReason.DUPLICATE})
# Of replies: who asks sees them only if it wants to, and in one number otherwise.
_OF_REPLIES = frozenset(
    {DropReason.NOT_A_REPLY, DropReason.NOT_ASKED, DropReason.ANSWERED_ALREADY, DropReason.NOT_BOUND}
)


class Log:
    """Writes what happens to the log: names, verbs, codes and times; never a payload or an output."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    @hookimpl
    def remaphore_admitted(self, message: Message) -> None:
        """Log that a message was taken."""
        self._log.info("message_received", **_names(message), size=len(message.payload))

    @hookimpl
    def remaphore_handled(self, message: Message, outcomes: tuple[Outcome, ...]) -> None:
        """Log what each plugin did with it: a line for a reply, one for an error, none for no reply."""
        for outcome in outcomes:
            if outcome.error is not None:
                self._log.error("message_failed", **_part(message, outcome), error=repr(outcome.error))
            elif isinstance(outcome.result, Reply):
                self._log.info("message_handled", **_part(message, outcome), exit_code=outcome.result.exit_code)

    @hookimpl
    def remaphore_dropped(self, drop: Drop) -> None:
        """Log that something was not taken, and why."""
        level = "debug" if drop.reason in _EVERYDAY | _OF_REPLIES else "warning"
        getattr(self._log, level)(
            "message_dropped",
            reason=str(drop.reason),
            detail=drop.detail or None,
            count=drop.count,
            size=drop.size,
            subject=drop.subject,
        )

    @hookimpl
    def remaphore_reply(self, request: Message, reply: Reply) -> None:
        """Log a reply, at the requesting side: a detail there, since its output is the result."""
        self._log.debug(
            "reply_received", verb=request.verb, peer=reply.peer, exit_code=reply.exit_code, bound=reply.bound
        )

    @hookimpl
    def remaphore_finished(self, request: Message, summary: Summary) -> None:
        """Log how a request ended."""
        self._log.debug(
            "request_finished",
            verb=request.verb,
            expected=len(summary.expected),
            answered=len(summary.answered),
            failed=len(summary.failed),
            missing=", ".join(summary.missing) or None,
        )


def _names(message: Message) -> dict[str, object]:
    return {
        "verb": message.verb,
        "peer": message.sender_name,
        "id": message.uuid.hex(),
        "digest": message.digest[:8].hex(),
    }


def _part(message: Message, outcome: Outcome) -> dict[str, object]:
    return {**_names(message), "plugin": outcome.plugin, "seconds": round(outcome.seconds, 3)}
