"""A real nats-server under a test's control, and the logins that it accepts in operator mode."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

from remaphore.config.settings import Auth, Tls
from remaphore.embedded import jwt
from remaphore.embedded.broker import find_server
from remaphore.protocol.keys import NatsKey
from remaphore.transport.credentials import form
from remaphore.transport.nats_client import NatsBus
from tests.harness.node_files import write_private
from tests.harness.waiting import until

NO_LOGIN = Auth(kind="none")
TLS_FILES = Path(__file__).parent / "tls"
CA_FILE = TLS_FILES / "ca.pem"


class NatsServer:
    """One nats-server on a free loopback port, which it keeps when it is started again.

    host, within: another address to listen on, and the command that makes it one of this server's own.
    """

    def __init__(
        self, folder: Path, config: str = "", *, host: str = "127.0.0.1", within: tuple[str, ...] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.within = within
        self.folder = folder
        self.config = config
        self.port = -1
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def start(self) -> None:
        """Return once it listens."""
        self.write_config()
        with (self.folder / "log").open("ab") as log:
            self._process = _launch([*self.within, str(find_server()), "-c", str(self._config_file)], log)
        ports = self.folder / f"nats-server_{self._process.pid}.ports"
        await until(lambda: self._process.poll() is not None or (ports.exists() and ports.read_text().endswith("}")))
        assert self._process.poll() is None, self.log
        addresses = json.loads(ports.read_text())
        self.ports = {kind: int(listed[0].rpartition(":")[2]) for kind, listed in addresses.items()}
        self.port = self.ports["nats"]

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, and return once it has ended; SIGKILL to leave no time for a clean end."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            await until(lambda: process.poll() is not None)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    async def restart(self) -> None:
        """Stop it and start it again on the same port."""
        await self.stop()
        await self.start()

    async def pause(self) -> None:
        """Return once all its threads have stopped; its connections stay open and silent."""
        assert self._process is not None
        self.signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self._process.pid}/task")

        def states() -> set[str]:
            return {(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads.iterdir()}

        await until(lambda: states() == {"T"})

    def resume(self) -> None:
        """Let it run again."""
        self.signal(signal.SIGCONT)

    def reload(self, config: str) -> None:
        """Let it read another configuration."""
        self.config = config
        self.write_config()
        self.signal(signal.SIGHUP)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def _config_file(self) -> Path:
        return self.folder / "nats.conf"

    def write_config(self) -> None:
        """Write the configuration file for the port that it has."""
        head = f'listen: "{self.host}:{self.port}"\nports_file_dir: "{self.folder}"\n'
        self._config_file.write_text(head + self.config)


def jetstream_config(folder: Path) -> str:
    """Return the configuration of a server that stores records below *folder*, as a broker for locks has to."""
    return f'jetstream {{ store_dir: "{folder}", sync_interval: always }}\n'


@contextmanager
def running_jetstream(folder: Path) -> Iterator[NatsServer]:
    """A server with JetStream, for fixtures of a module or a session."""
    server = NatsServer(folder, jetstream_config(folder / "data"))
    asyncio.run(server.start())
    try:
        yield server
    finally:
        server.kill()


def _launch(command: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log)


class Realm:
    """An operator and an account, which let users in."""

    def __init__(self) -> None:
        self._operator, self._account = NatsKey("operator"), NatsKey("account")
        self._now = int(time.time())

    def server_config(self, **revoked: int) -> str:
        """Return a server's configuration for this account. revoked: users by public key, see `jwt.account`."""
        account = jwt.account(self._account.public, name="A", by=self._operator, now=self._now, revoked=revoked)
        operator = jwt.operator(self._operator, name="O", now=self._now)
        return jwt.server_config(operator_jwt=operator, accounts={self._account.public: account})

    def write_login(self, file: Path, *, allow: str = "remaphore.>", **claims: int) -> str:
        """Write the creds file of a new user and return its public key. claims: `payload` and `expires`."""
        user = NatsKey("user")
        token = jwt.user(user, name="U", by=self._account, now=self._now, publish=[allow], subscribe=[allow], **claims)
        write_private(file, form(token, user.seed))
        return user.public


def credentials(file: Path) -> Auth:
    """The login by a creds file."""
    return Auth(kind="credentials", file=file)


def serving(realm: Realm, folder: Path) -> AbstractAsyncContextManager[NatsServer]:
    """A server that lets in the users of *realm*, for the length of a block."""
    return running(folder / "server", realm.server_config())


@asynccontextmanager
async def running(folder: Path, config: str = "") -> AsyncIterator[NatsServer]:
    """A server for the length of a block."""
    server = NatsServer(folder, config)
    try:
        await server.start()
        yield server
    finally:
        await server.stop(signal.SIGKILL)


@asynccontextmanager
async def connected(
    *servers: NatsServer | str,
    auth: Auth = NO_LOGIN,
    tls: Tls | None = None,
    limit: float | None = 10.0,
    notices: list[str] | None = None,
) -> AsyncIterator[NatsBus]:
    """A bus for the length of a block."""
    urls = [server if isinstance(server, str) else server.url for server in servers]
    notice = (lambda _line: None) if notices is None else notices.append
    bus = await NatsBus.connect(urls, auth=auth, tls=tls, limit=limit, on_notice=notice)
    try:
        yield bus
    finally:
        await bus.close()


def open_sockets() -> set[str]:
    """Return the sockets that this process holds."""
    names = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.add(str(entry.readlink()))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return {name for name in names if name.startswith("socket:")}
