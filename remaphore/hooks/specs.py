"""What a plugin may implement: each function is a hook. A plugin declares only the arguments that it needs, by name.

A hook in `PLAIN` is called in the receive loop, for every message, or before there is a loop: it must not wait, and
cannot be an `async def`. Those in `WAITING` may be. An implementation that raises, hangs or ends itself costs only its
own part of its own event.

To add a hook, for a plugin that needs it: declare it here and in one of the two sets; call it where the event happens
(one of the functions `emit...` of `dispatch`); give it a method in `remaphore.testing.PluginHarness`; describe it
in docs/hooks.md, with an example that tests/docs/test_hooks_page.py calls. What is missing is named by
tests/hooks/test_specs.py.
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
    from remaphore.protocol.receipt import Receipt


@hookspec
def remaphore_configure(config: Config, settings: Any, options: Mapping[str, object]) -> None:
    """Prepare, before any network is used. Raising ends the command.

    settings: an instance of the plugin's `Settings`, None if it declares none. options: what the command line passes.
    """


@hookspec
def remaphore_startup(stats: Callable[[], DaemonStats], context: PluginContext) -> None:
    """The daemon is subscribed. *stats* returns its current statistics, for as long as it runs.

    context: the plugin's own, with a node to send with, a directory and tasks.
    """


@hookspec
def remaphore_reloaded(config: Config) -> None:
    """The daemon applied a new configuration: peers, identities, verbs and hook directories are those of *config*.

    It may come before `remaphore_startup`, while the daemon waits for its broker. Raising is logged as `reload_failed`.
    """


@hookspec
def remaphore_admitted(message: Message) -> None:
    """A message was verified and accepted; it is not handled yet."""


@hookspec
def remaphore_acts(verb: str) -> bool:  # type: ignore[empty-body]
    """Return False if `remaphore_message` of this plugin would return None for each message of *verb* now.

    It must be quick: it is called while messages arrive. Any other result counts as True, as does an exception.
    """


@hookspec
def remaphore_message(message: Message) -> Reply | None:
    """Act on *message*. The first `Reply` in the order of the plugins is sent; None leaves it to other plugins."""


@hookspec
def remaphore_handled(
    message: Message,
    outcomes: tuple[Outcome, ...],
    reply: Reply | None,
    sent: bool,  # noqa: FBT001 - a hook gets its arguments by name
) -> None:
    """*message* was handled, and its reply sent if the sender requested one.

    outcomes: what each plugin did; empty if none acts on the verb. reply: as composed; None if none was requested and
    no plugin returned one. sent: whether it was published.
    """


@hookspec
def remaphore_rejected(message: Message, reason: str, detail: str, count: int) -> None:
    """A verified message will not be handled: it is *message*, without its payload.

    reason: one of those of `DaemonStats.rejected`. count: how many it stands for.
    """


@hookspec
def remaphore_dropped(drop: Drop) -> None:
    """The gate dropped something. Nothing of it is passed on, because nothing of it is verified."""


@hookspec
def remaphore_requested(request: Message, expected: tuple[str, ...]) -> None:
    """On the requesting side: the broker has *request*, which addresses the destinations *expected*."""


@hookspec
def remaphore_reply(request: Message, reply: Reply) -> None:
    """On the requesting side: a verified reply to *request*."""


@hookspec
def remaphore_receipt(request: Message, receipt: Receipt) -> None:
    """On the requesting side: a peer confirmed that it has started *request*, to which it has not replied yet."""


@hookspec
def remaphore_finished(request: Message, summary: Summary) -> None:
    """On the requesting side: all destinations have replied, or the time is up."""


@hookspec
def remaphore_plan(message: Message) -> list[Step] | None:
    """Return what you would do with *message*, and what you would skip and why. Start nothing."""


@hookspec
def remaphore_shutdown(reason: str) -> None:
    """The command ends; called exactly once, also after an error. Stop what you started."""


HOOKS = tuple(name for name in globals() if name.startswith("remaphore_"))
PLAIN = frozenset(
    f"remaphore_{event}" for event in ("configure", "reloaded", "acts", "admitted", "rejected", "dropped", "plan")
)
WAITING = frozenset(
    f"remaphore_{event}"
    for event in ("startup", "message", "handled", "requested", "reply", "receipt", "finished", "shutdown")
)
for _hook in {*HOOKS, *PLAIN, *WAITING}:
    if _hook not in HOOKS or (_hook in PLAIN) == (_hook in WAITING):
        raise TypeError(f"{_hook} must be declared in hooks/specs.py, and be in either PLAIN or WAITING")
