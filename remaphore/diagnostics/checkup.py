"""What can be told about a node without a network: the list of checks behind `remaphore check`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from remaphore.config.settings import Config
from remaphore.diagnostics import clock, files, handlers, known, login, unit
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.diagnostics.state import check_state
from remaphore.errors import ConfigError, StateError
from remaphore.receiving.ledger import state

_ROOT = Path("/")


def check(
    config: Config, *, plugins: Sequence[str], environ: Mapping[str, str], now: int, root: Path = _ROOT
) -> Iterator[Finding]:
    """Judge everything on this machine that *config* needs, one finding after the other.

    plugins: those that the daemon loads, in order. environ: decides the state directory. now: Unix nanoseconds.
    root: the folder in whose systemd directories unit files are looked for.
    """
    for warning in config.warnings:
        yield from_error(Code.CONFIGURATION_ODD, config.source, ConfigError(warning), level=Level.WARNING)
    what = f"{config.destination}, on {', '.join(config.servers)}"
    yield Finding(Level.OK, Code.CONFIGURATION_OK, config.source, what)
    user = os.geteuid()
    yield from files.check_files(config, user=user)
    yield from files.check_keys(config)
    yield from login.check_login(config, now=now)
    yield from files.check_tls(config, now=now)
    yield from known.check_peers(config)
    yield from handlers.check_plugins(config, plugins)
    yield from handlers.check_handlers(config, plugins)
    try:
        folder = state.directory(config, state.DEFAULT_INSTANCE, environ)
    except StateError as error:
        yield from_error(Code.STATE_UNUSABLE, config.source, error, hint=error.hint)
    else:
        yield from check_state(config, folder, now=now, user=user)
    yield from unit.check_units(root)
    yield from clock.check_clock(clock.is_synchronised())
