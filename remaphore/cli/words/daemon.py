"""The words of the daemon: `run`, and what it would do: `hooks`, `plugins`."""

from __future__ import annotations

import argparse

from remaphore.cli.options.daemon import Hooks, Plugins, Run
from remaphore.cli.words.parsing import Command, config, daemon, log_format


def _build_run(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the daemon: hooks.d/VERB/ for each message, and the enabled plugins. SIGHUP reloads."
    parser.epilog = "example: remaphore run --hooks /etc/remaphore/hooks.d"
    daemon(parser)
    parser.add_argument("--instance", metavar="NAME", default="main", help="name of its state directory (main)")
    parser.add_argument("--check", action="store_true", help="only say whether it would start")
    log_format(parser)


def _build_hooks(parser: argparse.ArgumentParser) -> None:
    parser.description = "List what the daemon would run, in order, with its argv, and what it would not, and why."
    parser.epilog = "example: remaphore hooks deploy"
    daemon(parser)
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("verb", metavar="VERB", nargs="?", default="", help="only this one")


def _build_plugins(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the installed plugins, their hooks, and why one cannot be loaded; each is imported."
    parser.epilog = "example: remaphore plugins    (exit code: 0; 1 if one that is enabled cannot be loaded)"
    config(parser)
    parser.add_argument("--json", action="store_true", help="one object a line")


def _read_run(given: argparse.Namespace) -> Run:
    return Run(**{**vars(given), "hooks": tuple(given.hooks or ())})


def _read_hooks(given: argparse.Namespace) -> Hooks:
    return Hooks(**{**vars(given), "hooks": tuple(given.hooks or ())})


def _read_plugins(given: argparse.Namespace) -> Plugins:
    return Plugins(**vars(given))


COMMANDS = {
    "run": Command(_build_run, _read_run),
    "hooks": Command(_build_hooks, _read_hooks),
    "plugins": Command(_build_plugins, _read_plugins),
}
