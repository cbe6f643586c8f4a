"""The checks of one node that need no network, in order. Behind `remaphore check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from remaphore.config.settings import Config
from remaphore.diagnostics import clock, credentials, files, handlers, peers, runtime, systemd_units
from remaphore.diagnostics.agent import check_agent
from remaphore.diagnostics.daemon_user import find_daemon_user
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.diagnostics.state import check_state, check_threads
from remaphore.errors import ConfigError, StateError
from remaphore.receiving.ledger import state

_ROOT = Path("/")


def check(
    config: Config, *, plugins: Sequence[str], environ: Mapping[str, str], now: int, root: Path = _ROOT
) -> Iterator[Finding]:
    """Yield the findings about everything on this machine that *config* needs.

    plugins: those that the daemon loads, in order. environ: decides the state directory. now: Unix nanoseconds.
    root: the directory whose systemd directories are searched for unit files.
    """
    for warning in config.warnings:
        error = ConfigError(warning.what, hint=warning.hint)
        yield from_error(Code.CONFIGURATION_WARNING, config.source, error, level=Level.WARNING)
    what = f"{config.destination}, on {', '.join(config.servers)}"
    yield Finding(Level.OK, Code.CONFIGURATION_OK, config.source, what)
    yield from files.check_files(config)
    yield from files.check_keys(config)
    yield from credentials.check_credentials(config, now=now)
    yield from files.check_tls(config, now=now)
    yield from peers.check_peers(config)
    yield from peers.check_lock_names(config)
    user = find_daemon_user(config, environ, root)
    options = user.options if user else None
    yield from handlers.check_plugins(config, plugins, options=options)
    yield from handlers.check_handlers(config, plugins, options=options)
    yield from check_agent(config, environ)
    yield from runtime.check_runtime()
    try:
        directory = state.directory(config, state.DEFAULT_INSTANCE, environ)
    except StateError as error:
        yield from_error(Code.STATE_UNUSABLE, config.source, error)
    else:
        yield from check_state(config, directory, now=now)
    yield from check_threads()
    yield from systemd_units.check_units(root)
    yield from clock.check_clock(clock.is_synchronized())
