"""`remaphore check`: check the setup of this machine, without using the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.cli.commands.run import PLUGINS

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.diagnostics.findings import Finding

SUMMARY = "check the setup of this machine, without using the network"
EXAMPLE = """\
remaphore check
remaphore check -c ./remaphore.toml"""
EXIT_CODES = {0: "no errors (there may be warnings)", 1: "at least one error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Options of check. hooks: handler directories, as for run."""

    config: str | None = None
    hooks: tuple[str, ...] = ()
    json: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_daemon, add_json

    parser.description = (
        "Check the setup of this machine, without using the network: configuration, files and their modes, keys,"
        " credentials, peers, plugins, handlers, state directory, systemd unit and clock. Each finding is printed with"
        " a hint on how to fix it."
    )
    add_daemon(parser)
    add_json(parser)
    parser.set_defaults(options=Check)


def run(options: Check) -> int:
    """Check; return 0, or 1 if there is an error among the findings."""
    import contextlib
    import sys

    from remaphore.cli.findings import FindingPrinter

    output.configure_logs(level="CRITICAL")  # what a plugin logs while it is configured is reported as a finding
    printer = FindingPrinter(to_json=options.json)
    findings = find(options)
    while True:
        with contextlib.redirect_stdout(sys.stderr):  # plugins may print while they are imported
            finding = next(findings, None)
        if finding is None:
            return printer.conclude()
        printer.show(finding)


def find(options: Check) -> Iterator[Finding]:
    """Yield the findings about this machine."""
    import os
    import time
    from dataclasses import replace
    from pathlib import Path

    from remaphore.config.search import load
    from remaphore.config.settings import DEFAULT_HOOKS
    from remaphore.diagnostics.checkup import check
    from remaphore.diagnostics.findings import Code, from_error
    from remaphore.errors import ConfigError

    try:
        config = load(options.config, os.environ)
    except ConfigError as error:
        yield from_error(Code.CONFIGURATION_UNUSABLE, options.config or "configuration", error)
        return
    present = tuple(folder for folder in DEFAULT_HOOKS if os.path.isdir(folder))  # noqa: PTH112 - never raises
    config = replace(config, hooks=tuple(map(Path, options.hooks)) or config.hooks or present)
    plugins = (*PLUGINS, *config.enabled_plugins)
    yield from check(config, plugins=plugins, environ=os.environ, now=time.time_ns())
