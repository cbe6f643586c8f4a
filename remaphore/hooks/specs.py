"""What a plugin may implement. Each function is a hook; a plugin takes as many of its arguments as it wants.

All may be `async def` unless the hook says *plain*. A plain hook is called in the receive loop, for every message: it
must not wait. An implementation that raises, hangs or ends itself costs only its own part of its own event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from remaphore.hooks.markers import hookspec

if TYPE_CHECKING:
    from remaphore.config.settings import Config
    from remaphore.hooks.context import PluginContext
    from remaphore.hooks.dispatch import Outcome
    from remaphore.hooks.plan import Step
    from remaphore.hooks.stats import DaemonStats
    from remaphore.protocol.drop import Drop
    from remaphore.protocol.exchange import Summary
    from remaphore.protocol.message import Message, Reply


@hookspec
def remaphore_configure(config: Config, settings: Any, options: Mapping[str, object]) -> None:
    """Prepare, before any network is used: *settings* is the plugin's `Settings`, None without one; *options* are what
    the command line hands over. Plain; raising is fatal.
    """


@hookspec
def remaphore_startup(stats: Callable[[], DaemonStats], context: PluginContext) -> None:
    """The daemon is subscribed; *stats* returns its numbers of the moment, for as long as it runs."""


@hookspec
def remaphore_reloaded(config: Config) -> None:
    """The daemon took a new configuration: peers, identities, verbs and hook directories are its. Plain."""


@hookspec
def remaphore_admitted(message: Message) -> None:
    """A message was verified and passed the filters; its turn has not come yet. Plain."""


@hookspec
def remaphore_message(message: Message) -> Reply | None:
    """Act on *message*. The first `Reply` in the order of the plugins answers who asked; None leaves it to others."""


@hookspec
def remaphore_handled(
    message: Message,
    outcomes: tuple[Outcome, ...],
    reply: Reply | None,
    sent: bool,  # noqa: FBT001 - a hook gets its arguments by name
) -> None:
    """*message* was handled, and its reply went out if it was wanted: *outcomes* are what each plugin did with it.

    reply: the one that was composed; None if none was wanted and no plugin gave one. sent: whether it was sent.
    """


@hookspec
def remaphore_dropped(drop: Drop) -> None:
    """The gate dropped something. Nothing of it is passed on, because nothing of it is verified. Plain."""


@hookspec
def remaphore_requested(request: Message, expected: tuple[str, ...]) -> None:
    """On the requesting side: the broker has *request*, which asks the destinations *expected*."""


@hookspec
def remaphore_reply(request: Message, reply: Reply) -> None:
    """On the requesting side: a verified reply to *request*."""


@hookspec
def remaphore_finished(request: Message, summary: Summary) -> None:
    """On the requesting side: all have answered, or the time is over."""


@hookspec
def remaphore_plan(message: Message) -> list[Step] | None:
    """Say what *message* would make you do, and what you would pass over and why. Nothing may be started. Plain."""


@hookspec
def remaphore_shutdown(reason: str) -> None:
    """The command ends; called once, whatever happened. Stop what you started."""
