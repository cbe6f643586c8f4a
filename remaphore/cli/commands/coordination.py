"""`remaphore coordination`: make the streams that locks need, or print them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remaphore.cli import output
from remaphore.errors import UsageError

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config

CONNECT_LIMIT = 10.0  # seconds
ADMINISTRATOR = "use the login of an administrator: --credentials FILE, such as admin.creds of remaphore broker"
MAX_REPLICAS = 5  # of JetStream

SUMMARY = "make the streams that locks need on the broker"
EXAMPLE = """\
remaphore coordination init --credentials admin.creds
remaphore coordination init --print"""
EXIT_CODES = {0: "the streams are there"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinationInit:
    """Options of coordination init. credentials: of an administrator, empty for those of the node.

    replicas: None for what the streams have, 1 for new ones. dry: print what would be made, only. recreate: delete them
    first.
    """

    config: str | None = None
    credentials: str = ""
    replicas: int | None = None
    dry: bool = False
    recreate: bool = False

    @classmethod
    def from_arguments(cls, **given: Any) -> CoordinationInit:
        """Return the options of what the parser has read. Raise UsageError."""
        if (given["replicas"] or 1) > MAX_REPLICAS:
            raise UsageError(
                f"--replicas {given['replicas']}: more than {MAX_REPLICAS}", hint="use 3 for a cluster of three servers"
            )
        if given["dry"] and given["recreate"]:
            raise UsageError("--recreate contradicts --print", hint="leave out one of them")
        return cls(**given)


def add_arguments(parser: Parser) -> None:
    """Add the actions and their arguments to *parser*."""
    from remaphore.cli.arguments import add_config, positive_integer

    parser.description = "Prepare a broker for locks, which need JetStream and two streams."
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    made = actions.add_parser("init", help="make the streams, or correct their settings")
    made.description = (
        "Make the two streams that locks need, or correct their settings. This needs the login of an administrator of"
        " the broker, who may use $JS.API.>; nodes do not need that. A broker for this machine alone, `remaphore"
        " broker`, makes them itself."
    )
    made.example = EXAMPLE
    add_config(made)
    made.add_argument(
        "--credentials",
        metavar="FILE",
        default="",
        help="NATS credentials file of an administrator (default: the login of the configuration)",
    )
    made.add_argument(
        "--replicas",
        type=positive_integer,
        metavar="N",
        help="servers of a cluster that store each record, 3 for one of three (default: as they are, 1 for new ones)",
    )
    made.add_argument(
        "--print",
        dest="dry",
        action="store_true",
        help="print the streams, and the permissions that this node needs, as JSON, and make nothing",
    )
    made.add_argument(
        "--recreate",
        action="store_true",
        help="delete the streams first, such as after a backup was restored: every lock is free then",
    )
    made.set_defaults(options=CoordinationInit.from_arguments)


def run(options: CoordinationInit) -> int:
    """Make or print the streams; return 0."""
    import time
    from dataclasses import replace
    from pathlib import Path

    from remaphore import tasks
    from remaphore.cli.configuration import load_config
    from remaphore.config.settings import Auth
    from remaphore.coordination import streams
    from remaphore.text import to_json

    config = load_config(options.config)
    if options.dry:
        now = time.time_ns() // 1000
        verbs = frozenset(verb for identity in config.identities for verb in identity.verbs)
        definitions = streams.definitions(config.subject, replicas=options.replicas or 1, first_sequence=now)
        printed = {"streams": definitions, "permissions": streams.permissions(config.subject, verbs)}
        output.write_exact(f"{to_json(printed, indent=2)}\n")
        return 0
    if options.credentials:
        config = replace(config, auth=Auth(kind="credentials", file=Path(options.credentials)))
    for line in tasks.run(make(config, replicas=options.replicas, recreate=options.recreate)):
        output.notice(line)
    return 0


async def make(config: Config, *, replicas: int | None, recreate: bool) -> list[str]:
    """Make the streams on the broker of *config*; return a line for each."""
    from remaphore.coordination.jetstream import JetStream
    from remaphore.coordination.setup import make_streams
    from remaphore.transport.nats_client import NatsBus

    bus = await NatsBus.connect(
        config.servers, auth=config.auth, tls=config.tls, limit=CONNECT_LIMIT, on_notice=output.notice
    )
    try:
        jetstream = JetStream(bus, config.subject, denied_hint=ADMINISTRATOR)
        return await make_streams(jetstream, config.subject, replicas=replicas, recreate=recreate)
    finally:
        await bus.close()
