"""The plugin `log`: one line for each event, through structlog, which the command has set up (console or JSON).

Drops that are normal operation (a message for another node, one of our own, one that a filter excludes) and invalid
replies are debug lines; drops that may need a person to act are warnings. A pattern such as `**` also matches nodes
that need not know the sender, or permit it the verb: these two reasons are warnings only for a message that was sent
to exactly our destination.
"""

from __future__ import annotations

import structlog

from remaphore import Drop, DropReason, Message, Outcome, Reply, Summary, hookimpl

_NORMAL = frozenset({DropReason.NOT_ADDRESSED, DropReason.OWN_MESSAGE, DropReason.FILTERED, DropReason.DUPLICATE})
_NORMAL_UNLESS_EXACT = frozenset({DropReason.UNKNOWN_SENDER, DropReason.VERB_NOT_PERMITTED})
# Reasons of dropped replies: the requester sees their number, and with --verbose each of them.
_OF_REPLIES = frozenset(
    {DropReason.NOT_A_REPLY, DropReason.NOT_ASKED, DropReason.ANSWERED_ALREADY, DropReason.NOT_BOUND}
)


class Log:
    """Logs names, verbs, codes and times; never a payload or an output."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    @hookimpl
    def remaphore_admitted(self, message: Message) -> None:
        """Log that a message was accepted."""
        self._log.info("message_received", **_names(message), size=len(message.payload))

    @hookimpl
    def remaphore_handled(self, message: Message, outcomes: tuple[Outcome, ...]) -> None:
        """Log a line for each plugin that replied or failed; a plugin that did neither has none."""
        for outcome in outcomes:
            if outcome.error is not None:
                self._log.error("message_failed", **_part(message, outcome), error=_shown(outcome.error))
            elif isinstance(outcome.result, Reply):
                self._log.info("message_handled", **_part(message, outcome), exit_code=outcome.result.exit_code)

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
        self._log.debug(
            "reply_received", verb=request.verb, peer=reply.peer, exit_code=reply.exit_code, bound=reply.bound
        )

    @hookimpl
    def remaphore_finished(self, request: Message, summary: Summary) -> None:
        """Log the result of a request."""
        self._log.debug(
            "request_finished",
            verb=request.verb,
            expected=len(summary.expected),
            answered=len(summary.answered),
            failed=len(summary.failed),
            missing=", ".join(summary.missing) or None,
        )


def _shown(error: BaseException) -> str:
    """Return the repr of *error*, or the name of its class if that raises: it may be code of another plugin."""
    try:
        return repr(error)
    except BaseException:  # noqa: BLE001 - the line of this message, and those of the other plugins, must be written
        return type(error).__name__


def _names(message: Message) -> dict[str, object]:
    return {
        "verb": message.verb,
        "peer": message.sender_name,
        "id": message.uuid.hex(),
        "digest": message.digest[:8].hex(),
    }


def _part(message: Message, outcome: Outcome) -> dict[str, object]:
    return {**_names(message), "plugin": outcome.plugin, "seconds": round(outcome.seconds, 3)}
