"""TLS begins after the server's first line, or before it where the server says nothing, and ends without a word."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlparse

import pytest

from remaphore.config.settings import Tls
from remaphore.errors import BrokerRefusedError, BrokerUnavailableError, TransportError
from remaphore.transport import dialer, nats_connection, stream
from remaphore.transport.nats_client import NatsBus
from remaphore.transport.servers import Address
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.nats_server import CA_FILE, NO_LOGIN, TLS_FILES, NatsServer, connected
from tests.harness.node_files import write_private
from tests.harness.waiting import until

OURS = Tls(ca_file=CA_FILE)
FIRST = Tls(ca_file=CA_FILE, handshake_first=True)
PAIR = f'cert_file: "{TLS_FILES}/server.pem", key_file: "{TLS_FILES}/server.key"'
MUTUAL = f'{PAIR}, ca_file: "{CA_FILE}", verify: true'


def secure(folder: Path, how: str, settings: str = PAIR) -> NatsServer:
    """Return a server whose `handshake_first` is *how*."""
    return NatsServer(folder, f"tls {{ {settings}, handshake_first: {how} }}\n")


@asynccontextmanager
async def started(server: NatsServer) -> AsyncIterator[str]:
    """Run *server*, and yield its address."""
    await server.start()
    try:
        yield f"tls://localhost:{server.port}"
    finally:
        await server.stop(signal.SIGKILL)


def server_context() -> ssl.SSLContext:
    """Return the context of a fake server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS_FILES / "server.pem", TLS_FILES / "server.key")
    return context


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with TLS soon where no first line comes."""
    monkeypatch.setattr(stream, "INFO_WAIT", 0.1)


@pytest.mark.parametrize("how", ["false", "auto", '"300ms"', "true"])
async def test_every_order_of_tls_and_first_line_is_found_without_a_setting(
    how: str, soon: None, tmp_path: Path
) -> None:
    async with started(secure(tmp_path, how)) as url:
        for address in (url, url.replace("tls", "nats")):  # OURS requires TLS as well
            async with connected(address, tls=OURS) as bus:
                await bus.publish("remaphore.all", b"x")
                assert bus.about["tls"] == "TLSv1.3"


@pytest.mark.parametrize("how", ["auto", "true"])
async def test_with_the_setting_tls_begins_at_once(how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stream, "INFO_WAIT", 600.0)
    async with started(secure(tmp_path, how)) as url, connected(url, tls=FIRST, limit=10) as bus:
        await bus.publish("remaphore.all", b"x")


@pytest.mark.parametrize("tls_files", [OURS, FIRST], ids=["tried", "set"])
async def test_tls_before_the_first_line_is_checked_like_any(tls_files: Tls, soon: None, tmp_path: Path) -> None:
    async with started(secure(tmp_path, "true")) as url:
        other = Tls(ca_file=TLS_FILES / "other-ca.pem", handshake_first=tls_files.handshake_first)
        for address, files in ((url, other), (url.replace("localhost", "127.0.0.1"), tls_files)):
            with pytest.raises(BrokerRefusedError, match="certificate rejected"):
                async with connected(address, tls=files):
                    pass


@pytest.mark.parametrize("first", [False, True], ids=["tried", "set"])
async def test_tls_before_the_first_line_shows_our_certificate(first: bool, soon: None, tmp_path: Path) -> None:
    key = write_private(tmp_path / "client.key", (TLS_FILES / "client.key").read_text())
    ours = Tls(ca_file=CA_FILE, cert_file=TLS_FILES / "client.pem", key_file=key, handshake_first=first)
    async with started(secure(tmp_path / "server", "true", MUTUAL)) as url:
        async with connected(url, tls=ours) as bus:
            await bus.publish("remaphore.all", b"x")
        with pytest.raises(TransportError):
            async with connected(url, tls=Tls(ca_file=CA_FILE, handshake_first=first), limit=0.5):
                pass


async def test_a_server_that_begins_with_its_first_line_contradicts_the_setting_with_a_hint(tmp_path: Path) -> None:
    async with started(secure(tmp_path, "false")) as url:
        with pytest.raises(BrokerUnavailableError, match="does not begin with TLS") as caught:
            async with connected(url, tls=FIRST, limit=1.0):
                pass
    assert caught.value.hint == "remove handshake_first from [tls], or configure it on the server"


async def test_the_setting_never_falls_back_to_clear_text() -> None:
    async with fake_server() as fake:
        with pytest.raises(BrokerUnavailableError):
            async with connected(fake.url, tls=Tls(handshake_first=True), limit=0.3):
                pass
        assert not any(line.startswith("CONNECT") for line in fake.lines)


async def test_a_slow_server_is_given_the_time_for_its_first_line_at_the_next_attempt(soon: None) -> None:
    slow = FakeServer(tls=server_context())
    greeting = b'INFO {"tls_required": true, "max_payload": 1024}\r\n'

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3 * stream.INFO_WAIT)  # the only time that matters here is relative to that
        slow.greeting = greeting
        try:
            await slow.handle(reader, writer)
        except OSError:  # a handshake that failed
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with connected(f"tls://localhost:{port}", tls=OURS) as bus:
            await bus.publish("remaphore.all", b"x")
        assert slow.connections == 2


async def test_what_a_proxy_decrypts_counts_as_tls(server: NatsServer) -> None:
    """nats-server behind a proxy that ends TLS does not announce TLS itself."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(carry(reader, their_writer), carry(their_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_context()) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with connected(f"tls://localhost:{port}", tls=FIRST) as bus:
            await bus.publish("remaphore.all", b"x")


async def test_small_messages_do_not_wait_for_acknowledgements(server: NatsServer) -> None:
    async with connected(server) as bus:
        assert bus._connection is not None
        writer = bus._connection._client._stream._writer
        assert writer is not None
        assert writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Callable[[], Awaitable[None]]:
    """Return a function that fails if asyncio has logged a warning, or an exception that nothing has asked for."""
    caplog.set_level(logging.DEBUG, "asyncio")

    async def check() -> None:
        for _ in range(5):  # what was aborted ends
            await asyncio.sleep(0)
        gc.collect()
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []

    return check


@pytest.mark.parametrize("how", ["false", "true"])
async def test_the_end_of_a_tls_connection_logs_nothing(
    how: str, quiet: Callable[[], Awaitable[None]], soon: None, tmp_path: Path
) -> None:
    server = secure(tmp_path, how)
    async with started(server) as url:
        async with connected(url, tls=OURS) as bus:
            await bus.publish("remaphore.all", b"x")
        async with connected(url, tls=OURS) as bus:
            server.kill()
            await until(lambda: not bus.connected)
            await server.start()
            await bus.publish("remaphore.all", b"x")
            server.kill()
            with pytest.raises(TransportError):
                await asyncio.gather(*(bus.publish("remaphore.all", b"x" * 10_000, timeout=0.1) for _ in range(20)))
        await server.start()
        with pytest.raises(BrokerRefusedError):
            async with connected(url, tls=Tls(ca_file=TLS_FILES / "other-ca.pem")):
                pass
    await quiet()


# What stands for an attempt that has not ended.
PENDING = {dialer._UNRESOLVED.text, dialer._UNTRIED.text, dialer._UNANSWERED.text}


@pytest.mark.parametrize("files", [OURS, FIRST], ids=["after", "first"])
async def test_the_end_of_a_tls_handshake_logs_nothing(
    files: Tls, quiet: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(nats_connection, "CLOSE_LIMIT", 600.0)  # the end is not waited for, however long it takes

    async def attempt(end: str) -> None:
        begun = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if files is OURS:
                writer.write(b'INFO {"tls_required": true}\r\n')
            try:
                await reader.read(1)
                begun.set()
                if end == "garbage":
                    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                if end == "reset":
                    writer.transport.abort()
                if end in ("time limit", "cancelled"):
                    await reader.read()
            except ConnectionError:
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as listener:
            url = f"tls://localhost:{listener.sockets[0].getsockname()[1]}"
            bus = NatsBus.start([url], auth=NO_LOGIN, tls=files, on_notice=lambda _line: None)
            await begun.wait()
            if end != "cancelled":
                await until(lambda: {failure.text for failure in bus._outage.failures.values()} - PENDING)
            await bus.close()

    await asyncio.gather(*map(attempt, ["time limit", "cancelled", "closed by the server", "reset", "garbage"]))
    await quiet()


async def connected_pair() -> tuple[stream.Stream, socket.socket]:
    """Return a stream in clear text, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(socket.AF_INET, listener.getsockname())
        own = stream.Stream(address, tls_name="", context=None, handshake_first=None)
        await own.connect(urlparse(f"nats://127.0.0.1:{address.sockaddr[1]}"), 4096, 10)
        return own, listener.accept()[0]


@pytest.mark.parametrize("words", [b"-ERR 'maximum connections exceeded'\r\n", b"-ERR 'Authorization Violation'\r\n"])
@pytest.mark.parametrize("ends", ["reset", "closed"])
async def test_the_last_words_of_a_server_are_read_although_a_write_fails(words: bytes, ends: str) -> None:
    own, theirs = await connected_pair()
    with theirs:
        theirs.sendall(words)
        if ends == "reset":
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The login, before the loop has read: its first write is answered with a reset, so the second fails.
    own.write(b"CONNECT {}\r\n")
    own.write(b"PING\r\n")
    seen = b""
    with contextlib.suppress(ConnectionError):
        while line := await own.readline():
            seen += line
    own.abort()
    assert words.strip() in seen + own.unread_line()


@pytest.mark.parametrize("end", ["before", "after", "none"])
async def test_a_connection_whose_write_fails_is_closed_whether_or_not_its_end_was_seen(end: str) -> None:
    raised: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context))
    own, theirs = await connected_pair()
    with theirs:
        if end != "none":
            theirs.sendall(b"-ERR 'stale'\r\n")
            theirs.shutdown(socket.SHUT_WR)
        if end == "before":
            while await own.readline():
                pass
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    own.write(b"PING\r\n")
    own.write(b"PING\r\n")
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(own.wait_closed(), 30)
    assert raised == []
