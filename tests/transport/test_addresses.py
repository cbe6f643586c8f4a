"""A server is its addresses: each is tried, none hides another, and a name is looked up without blocking anything."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from remaphore.config.settings import Auth, Tls
from remaphore.errors import BrokerRefusedError, BrokerUnavailableError
from remaphore.tasks import spawn
from remaphore.transport import addresses, dialer, outage
from remaphore.transport.addresses import Resolver, literal
from remaphore.transport.dialer import ADDRESSES_A_ROUND
from remaphore.transport.nats_client import NatsBus
from remaphore.transport.servers import DialError, summary
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.names import Names
from tests.harness.nats_server import CA_FILE, TLS_FILES, NatsServer, connected, running
from tests.harness.waiting import until

NAME = "broker.example.com"
PASSWORD = "authorization { user: joe, password: right }"
TLS_CONFIG = f'tls {{ cert_file: "{TLS_FILES}/server.pem", key_file: "{TLS_FILES}/server.key" }}'


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try addresses in the order of the name service, and the next one soon."""
    monkeypatch.setattr(dialer.random, "shuffle", lambda _servers: None)
    monkeypatch.setattr(dialer, "HEAD_START", 0.1)


def used(bus: NatsBus) -> str:
    """Return the address that *bus* is connected to."""
    assert bus._connection is not None
    return str(bus._connection.server.address)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1:4222"),
        ("::1", "[::1]:4222"),
        ("fe80::1%lo", "[fe80::1%lo]:4222"),
        ("fe80::1%25lo", "[fe80::1%lo]:4222"),  # as RFC 6874 writes it
        ("fe80::1%1", "[fe80::1%1]:4222"),
    ],
)
def test_an_ip_address_is_one_without_a_lookup(host: str, shown: str) -> None:
    address = literal(host, 4222)
    assert str(address) == shown
    assert address is not None
    assert address.sockaddr == socket.getaddrinfo(host.replace("%25", "%"), 4222, type=socket.SOCK_STREAM)[0][4]


def test_a_name_is_no_address_and_an_unknown_interface_has_a_hint() -> None:
    assert literal(NAME, 4222) is None
    with pytest.raises(DialError) as caught:
        literal("fe80::1%nowhere", 4222)
    assert caught.value.failure.text == "no network interface 'nowhere'"
    assert not caught.value.failure.final
    assert "bring that interface up" in caught.value.failure.hint


def resetting(port: int) -> AbstractAsyncContextManager[object]:
    """A server that asks for TLS, and resets the connection in its handshake."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"tls_required": true}\r\n')
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    @asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        async with await asyncio.start_server(reset, "127.0.0.2", port):
            yield

    return serving()


@asynccontextmanager
async def dropping(port: int) -> AsyncIterator[None]:
    """An address that drops SYNs: its queue of connections is full."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for client in (one, two):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield


def rejecting(port: int, folder: Path) -> AbstractAsyncContextManager[object]:
    """A server that rejects the login."""

    @asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        server = NatsServer(folder / "rejecting", PASSWORD, host="127.0.0.2")
        server.port = port
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    return serving()


KINDS = ["nothing", "closing", "silent", "dropping", "other protocol", "not NATS", "rejecting", "resetting"]


def bad_address(kind: str, port: int, folder: Path) -> AbstractAsyncContextManager[object]:
    """What is at the first address of the name."""
    greetings = {"closing": b"", "silent": None, "other protocol": b"SSH-2.0-x\r\n", "not NATS": b"INFO []\r\n"}
    if kind in greetings:
        return fake_server(FakeServer(greeting=greetings[kind]), host="127.0.0.2", port=port)
    if kind == "nothing":
        return AsyncExitStack()
    return {"dropping": dropping(port), "resetting": resetting(port)}.get(kind) or rejecting(port, folder)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_address_of_a_name_does_not_hide_a_working_one(
    kind: str, server: NatsServer, names: Names, in_order: None, tmp_path: Path
) -> None:
    names[NAME] = ["127.0.0.2", "127.0.0.1"]
    async with bad_address(kind, server.port, tmp_path), connected(f"nats://{NAME}:{server.port}") as bus:
        assert used(bus) == f"127.0.0.1:{server.port}"
        await bus.publish("remaphore.all", b"x")


async def test_silent_addresses_do_not_use_up_the_time_of_a_command(
    server: NatsServer, names: Names, in_order: None
) -> None:
    """Seven silent addresses with 2 s each would take longer than the limit of 10 s."""
    silent = [f"127.0.0.{host}" for host in range(2, 9)]
    names[NAME] = [*silent, "127.0.0.1"]
    async with AsyncExitStack() as stack:
        for host in silent:
            await stack.enter_async_context(fake_server(FakeServer(greeting=None), host=host, port=server.port))
        async with connected(f"nats://{NAME}:{server.port}", limit=10) as bus:
            assert used(bus) == f"127.0.0.1:{server.port}"


async def test_a_failure_names_each_address(names: Names, in_order: None, tmp_path: Path) -> None:
    names[NAME] = ["127.0.0.3", "127.0.0.2"]
    async with running(tmp_path, PASSWORD) as server, rejecting(server.port, tmp_path):
        with pytest.raises(BrokerUnavailableError) as caught:
            async with connected(f"nats://{NAME}:{server.port}", limit=0.5):
                pass
        assert f"{NAME} (127.0.0.3:{server.port}): connection refused; {NAME} (127.0.0.2:{server.port}): Auth" in str(
            caught.value
        )
        names[NAME] = ["127.0.0.1", "127.0.0.2"]
        with pytest.raises(BrokerRefusedError) as rejected:  # each address rejects us
            async with connected(f"nats://{NAME}:{server.port}", limit=10):
                pass
    assert f"{NAME} (127.0.0.1:{server.port}), {NAME} (127.0.0.2:{server.port}): Authorization" in str(rejected.value)


async def test_of_many_addresses_each_round_tries_others_until_all_were_tried(server: NatsServer, names: Names) -> None:
    tried: list[set[str]] = []
    names[NAME] = ["127.0.0.1"]
    async with connected(f"nats://{NAME}:{server.port}") as bus:
        names[NAME] = [f"127.0.0.{host}" for host in range(2, 42)]  # on which nothing listens
        for _ in range(5):
            failures: dict[str, dialer.Failure] = {}
            assert await bus._dialer.round(bus._restore, failures) is None
            tried.append({shown for shown, failure in failures.items() if failure.text == "connection refused"})
            assert len(failures) == 40
    assert [len(shown) for shown in tried] == [ADDRESSES_A_ROUND] * 5
    assert len(set.union(*tried)) == 40


async def test_rejections_by_the_addresses_tried_so_far_do_not_end_the_search(
    names: Names, in_order: None, tmp_path: Path, server: NatsServer
) -> None:
    rejecters = [f"127.0.0.{host}" for host in range(2, 2 + ADDRESSES_A_ROUND)]
    names[NAME] = [*rejecters, "127.0.0.1"]
    answers = {"PING": b"-ERR 'Authorization Violation'\r\n"}
    async with AsyncExitStack() as stack:
        for host in rejecters:
            await stack.enter_async_context(fake_server(FakeServer(answers=answers), host=host, port=server.port))
        async with connected(f"nats://{NAME}:{server.port}") as bus:
            assert used(bus) == f"127.0.0.1:{server.port}"


async def test_nodes_spread_over_the_servers_of_a_list(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(tmp_path / str(number))) for number in range(3)]
        found: Counter[str] = Counter()
        for _ in range(40):
            async with connected(*servers) as bus:
                found[used(bus)] += 1
    assert len(found) == 3, found  # by chance, one in seven million runs has fewer


async def test_nodes_spread_over_the_addresses_of_a_name(server: NatsServer, names: Names) -> None:
    names[NAME] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    found: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        for host in ("127.0.0.2", "127.0.0.3"):
            await stack.enter_async_context(fake_server(host=host, port=server.port))
        for _ in range(40):
            async with connected(f"nats://{NAME}:{server.port}") as bus:
                found[used(bus)] += 1
    assert len(found) == 3, found


async def test_the_certificate_is_checked_against_the_name_whatever_the_address(tmp_path: Path, names: Names) -> None:
    async with running(tmp_path, TLS_CONFIG) as server:
        for name, address in (("localhost", "127.0.0.1"), ("localhost.", "127.0.0.1")):
            names[name] = [address]
            async with connected(f"tls://{name}:{server.port}", tls=Tls(ca_file=CA_FILE)) as bus:
                assert used(bus) == f"127.0.0.1:{server.port}"
        names[NAME] = ["127.0.0.1"]
        with pytest.raises(BrokerRefusedError, match="Hostname mismatch"):
            async with connected(f"tls://{NAME}:{server.port}", tls=Tls(ca_file=CA_FILE)):
                pass


ERRORS = ["EAI_NONAME", "EAI_AGAIN", "EAI_FAIL", "EAI_NODATA", "EAI_SYSTEM"]


async def test_a_name_that_cannot_be_resolved_yet_is_waited_for(server: NatsServer, names: Names) -> None:
    async def wait_for(error: str) -> None:
        name = f"{error}.example.com".lower()
        names[name] = socket.gaierror(getattr(socket, error), error)
        url = f"nats://{name}:{server.port}"
        with pytest.raises(BrokerUnavailableError) as caught:
            async with connected(url, limit=1.0):
                pass
        assert str(caught.value) == f"no broker within 1 s: {url}: unknown host ({error})"
        assert caught.value.hint == "check the host name in servers, and the name service of this machine"
        before = names.asked.count(name)
        connecting = NatsBus.connect([url], auth=Auth(kind="none"), on_notice=lambda _line: None)
        waiting = spawn(connecting, name="waiting")
        await until(lambda: names.asked.count(name) > before + 1)
        names[name] = ["127.0.0.1"]
        bus = await waiting
        assert used(bus) == f"127.0.0.1:{server.port}"
        await bus.close()

    await asyncio.gather(*map(wait_for, ERRORS))


async def test_a_hanging_name_service_delays_no_other_server_and_holds_one_thread(
    server: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "RESOLVE_LIMIT", 600.0)
    monkeypatch.setattr(dialer, "HEAD_START", 0.05)
    names[NAME] = ["127.0.0.1"]
    url = f"nats://{NAME}:{server.port}"
    with names.hanging():
        async with connected(url, server, limit=10):
            pass
        monkeypatch.setattr(addresses, "RESOLVE_LIMIT", 0.1)
        with pytest.raises(BrokerUnavailableError) as caught:
            async with connected(url, limit=1.0):
                pass
        assert "host name not resolved within 0.1 s" in str(caught.value)
        assert "name service" in caught.value.hint
        assert names.asked == [NAME] * 2  # one for each connection, in however many rounds
        with pytest.raises(BrokerUnavailableError) as early:
            async with connected(url, limit=0.02):
                pass
        assert "host name not resolved yet" in str(early.value)


async def test_while_a_name_is_looked_up_again_the_causes_of_its_addresses_are_reported(names: Names) -> None:
    names[NAME] = ["127.0.0.1"]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        url = f"nats://{NAME}:{unused.getsockname()[1]}"
        bus = NatsBus.start([url], auth=Auth(kind="none"), on_notice=lambda _line: None)
        try:
            await until(lambda: "refused" in summary(bus._outage.failures))
            with names.hanging():
                before = len(names.asked)
                await until(lambda: len(names.asked) > before)
                with pytest.raises(BrokerUnavailableError, match="refused") as caught:
                    await bus.publish("remaphore.all", b"x", timeout=0.01)
            assert "name service" not in caught.value.hint
        finally:
            await bus.close()


async def test_a_broker_that_reports_names_that_hang_holds_few_threads(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "RESOLVE_LIMIT", 0.01)
    resolver = Resolver()
    reported = [f"{number}.example.com" for number in range(2 * addresses.MAX_LOOKUPS)]
    for name in reported:
        names[name] = ["127.0.0.1"]
    with names.hanging():
        for name in reported:
            with pytest.raises(DialError):
                await resolver.resolve(name, 4222)
    assert names.asked == reported[: addresses.MAX_LOOKUPS]


async def test_what_a_slow_name_service_finds_too_late_is_used_by_the_next_round(
    server: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "RESOLVE_LIMIT", 0.05)
    names[NAME] = ["127.0.0.1"]
    resolver = Resolver()
    with names.hanging(), pytest.raises(DialError):
        await resolver.resolve(NAME, 4222)
    (lookup,) = resolver._lookups.values()
    await until(lookup.done.done)
    assert [str(address) for address in await resolver.resolve(NAME, 4222)] == ["127.0.0.1:4222"]
    assert names.asked == [NAME]
    with names.hanging(), pytest.raises(DialError):
        await resolver.resolve(NAME, 4222)
    (lookup,) = resolver._lookups.values()
    await until(lookup.done.done)
    monkeypatch.setattr(addresses, "FRESH", 0.0)
    monkeypatch.setattr(addresses, "RESOLVE_LIMIT", 30.0)
    names[NAME] = ["127.0.0.2"]  # it has moved since
    assert [str(address) for address in await resolver.resolve(NAME, 4222)] == ["127.0.0.2:4222"]


async def test_without_a_thread_an_ip_address_works_and_a_name_is_waited_for(
    server: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "NOTICE_AFTER", 0.1)
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with connected(server):
        pass
    names[NAME] = ["127.0.0.1"]
    url = f"nats://{NAME}:{server.port}"
    with pytest.raises(BrokerUnavailableError) as caught:
        async with connected(url, limit=0.1):
            pass
    assert "can't start new thread" in str(caught.value)
    assert "TasksMax=" in caught.value.hint
    notices: list[str] = []
    waiting = spawn(NatsBus.connect([url], auth=Auth(kind="none"), on_notice=notices.append), name="waiting")
    await until(lambda: notices)
    monkeypatch.setattr(threading.Thread, "start", start)
    bus = await waiting
    await bus.close()


def refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
