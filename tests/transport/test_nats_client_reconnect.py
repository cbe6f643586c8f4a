"""Whatever ends the connection, the bus makes a new one and its subscriptions live on."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from remaphore.errors import ConnectionLostError
from remaphore.transport import nats_client, nats_connection, nats_reader, outage
from remaphore.transport.addresses import literal
from remaphore.transport.dialer import DISCOVERED_A_ROUND
from remaphore.transport.nats_client import NatsBus
from tests.harness.fake_server import INFO, FakeServer, fake_server
from tests.harness.nats_server import NO_LOGIN, NatsServer, Realm, connected, credentials, running, serving
from tests.harness.waiting import until

SUBJECT = "remaphore.all"
CLUSTER = 'cluster {{ name: c, listen: "127.0.0.1:-1", routes: [{routes}] }}\nlame_duck_grace_period: "50ms"\n'


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let silence be noticed, and said, within fractions of a second."""
    monkeypatch.setattr(nats_client, "CONFIRM_TIMEOUT", 0.2)
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(outage, "NOTICE_AFTER", 0.05)
    monkeypatch.setattr(outage, "NOTICE_AGAIN", 0.2)


async def alive(bus: NatsBus, got: list[bytes]) -> None:
    """Fail unless what is published arrives, once."""
    del got[:]
    await bus.publish(SUBJECT, b"alive")
    await until(lambda: got)
    await bus.publish(SUBJECT, b"end")
    await until(lambda: b"end" in got)
    assert got == [b"alive", b"end"]


async def restart(server: NatsServer) -> None:
    await server.restart()


async def kill_and_start(server: NatsServer) -> None:
    server.kill()
    await server.start()


@pytest.mark.parametrize("end", [restart, kill_and_start])
async def test_subscriptions_survive_a_restart_on_the_same_port(
    end: Callable[[NatsServer], Awaitable[None]], server: NatsServer
) -> None:
    got: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, got.append)
        await alive(bus, got)
        await end(server)
        await until(lambda: bus.reconnects == 1 and bus.connected)
        await alive(bus, got)
        await end(server)
        await until(lambda: bus.reconnects == 2 and bus.connected)
        await alive(bus, got)


async def test_what_is_published_while_the_broker_is_away_waits_for_it(server: NatsServer) -> None:
    got: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, got.append)
        await server.stop()
        await until(lambda: not bus.connected)
        waiting = asyncio.get_running_loop().create_task(bus.publish(SUBJECT, b"waited"))
        subscribing = asyncio.get_running_loop().create_task(bus.subscribe("remaphore.other", got.append))
        await asyncio.sleep(0)
        assert not waiting.done()
        await server.start()
        await waiting
        await subscribing
        await until(lambda: got == [b"waited"])


async def test_what_is_unsubscribed_while_the_broker_is_away_stays_so(server: NatsServer) -> None:
    got: list[bytes] = []
    ended: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, got.append)
        await bus.subscribe("remaphore.other", ended.append)
        await server.stop()
        await until(lambda: not bus.connected)
        await bus.unsubscribe("remaphore.other")
        await server.start()
        await bus.publish("remaphore.other", b"x")
        await alive(bus, got)
        assert ended == []
        assert bus.reconnects == 1


async def test_a_wait_for_the_broker_can_be_given_up_and_then_sends_nothing(server: NatsServer) -> None:
    got: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, got.append)
        await server.stop()
        await until(lambda: not bus.connected)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bus.publish(SUBJECT, b"given up"), 0.01)
        await server.start()
        await alive(bus, got)


async def test_a_broker_that_freezes_during_a_publish_leaves_no_zombie(server: NatsServer, quick: None) -> None:
    got: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, got.append)
        await server.pause()
        with pytest.raises(ConnectionLostError, match="did not confirm in time"):
            await bus.publish(SUBJECT, b"frozen")
        server.resume()
        await until(lambda: bus.reconnects >= 1 and bus.connected)
        await alive(bus, got)


async def test_an_idle_connection_to_a_frozen_broker_is_given_up(
    server: NatsServer, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nats_connection.PING_INTERVAL <= 10
    monkeypatch.setattr(nats_connection, "PING_INTERVAL", 0.1)
    got: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, got.append)
        await server.pause()
        await until(lambda: not bus.connected)
        server.resume()
        await until(lambda: bus.connected)
        await alive(bus, got)


async def test_a_large_message_to_a_frozen_broker_ends_in_time_and_its_socket_is_given_back(
    server: NatsServer, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_client, "SLOWEST_LINK", 1e9)
    async with connected(server) as bus:
        await server.pause()
        with pytest.raises(ConnectionLostError, match="did not confirm in time"):
            await bus.publish(SUBJECT, b"x" * 1_000_000)
        server.resume()
        await bus.publish(SUBJECT, b"x")


async def test_an_expired_login_comes_back_with_a_renewed_file(tmp_path: Path, quick: None) -> None:
    realm, file, got, notices = Realm(), tmp_path / "x.creds", list[bytes](), list[str]()
    realm.write_login(file, expires=int(time.time()) + 2)
    async with serving(realm, tmp_path) as server, connected(server, auth=credentials(file), notices=notices) as bus:
        await bus.subscribe(SUBJECT, got.append)
        await until(lambda: any("Authorization Violation" in notice for notice in notices))
        assert bus.connected is False
        realm.write_login(file)
        await until(lambda: bus.connected)
        await alive(bus, got)
        assert notices[-1] == f"connected to {server.url}"


async def test_a_revoked_login_comes_back_with_a_renewed_file(tmp_path: Path, quick: None) -> None:
    realm, file, got, notices = Realm(), tmp_path / "x.creds", list[bytes](), list[str]()
    user = realm.write_login(file)
    async with serving(realm, tmp_path) as server, connected(server, auth=credentials(file), notices=notices) as bus:
        await bus.subscribe(SUBJECT, got.append)
        server.reload(realm.server_config(**{user: int(time.time())}))
        await until(lambda: any(str(file) in notice for notice in notices))
        realm.write_login(file)
        await until(lambda: bus.connected)
        await alive(bus, got)


async def test_a_creds_file_that_vanishes_later_does_not_end_the_bus(tmp_path: Path, quick: None) -> None:
    realm, file, got, notices = Realm(), tmp_path / "x.creds", list[bytes](), list[str]()
    realm.write_login(file)
    async with serving(realm, tmp_path) as server, connected(server, auth=credentials(file), notices=notices) as bus:
        await bus.subscribe(SUBJECT, got.append)
        file.unlink()
        await server.restart()
        await until(lambda: any("no such file" in notice for notice in notices))
        realm.write_login(file)
        await alive(bus, got)


async def test_a_receiver_that_may_no_longer_subscribe_reports_it_and_keeps_trying(tmp_path: Path, quick: None) -> None:
    realm, file, got, notices = Realm(), tmp_path / "x.creds", list[bytes](), list[str]()
    realm.write_login(file)
    async with serving(realm, tmp_path) as server, connected(server, auth=credentials(file), notices=notices) as bus:
        await bus.subscribe(SUBJECT, got.append)
        realm.write_login(file, allow="other.>")
        await server.restart()
        await until(lambda: any(f"no permission for subscription to {SUBJECT}" in notice for notice in notices))
        assert not bus.connected
        realm.write_login(file)
        await alive(bus, got)


async def test_an_outage_is_reported_once_and_so_is_its_end(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "NOTICE_AFTER", 0.05)
    notices: list[str] = []
    async with connected(server, notices=notices) as bus:
        await server.stop()
        await until(lambda: len(notices) == 1)
        assert re.fullmatch(
            r"no broker yet: nats://127.0.0.1:\d+: connection (refused|lost .*); still trying", notices[0]
        )
        await server.start()
        await until(lambda: bus.connected)
        assert notices[1:] == [f"connected to {server.url}"]


async def test_a_server_that_keeps_closing_is_not_hammered() -> None:
    async with fake_server() as fake, connected(fake.url) as bus:
        fake.close_after = "PUB"
        for _ in range(6):
            with pytest.raises(ConnectionLostError):
                await bus.publish(SUBJECT, b"x")
        assert bus._tries >= 5  # the upper bound of the next pause doubles with each


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[NatsServer, NatsServer]]:
    """Two servers that know each other."""
    async with running(folder / "one", CLUSTER.format(routes="")) as one:
        route = f'"nats://127.0.0.1:{one.ports["cluster"]}"'
        async with running(folder / "two", CLUSTER.format(routes=route)) as two:
            yield one, two


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2], ids=["killed", "lame duck"])
async def test_the_bus_moves_to_a_server_that_the_broker_reported(number: int, tmp_path: Path) -> None:
    got: list[bytes] = []
    async with cluster(tmp_path) as (one, two), connected(one) as bus:
        await bus.subscribe(SUBJECT, got.append)
        assert bus._connection is not None
        await until(lambda: any(server.url == two.url for server in bus._connection.discovered()))
        one.signal(number)
        await until(lambda: bus.reconnects and bus._connection is not None and bus._connection.server.url == two.url)
        await alive(bus, got)


async def test_servers_that_a_broker_made_up_do_not_prevent_a_reconnect_to_the_configured_one() -> None:
    places = [f"127.0.0.{host}:1" for host in range(2, 202)]
    greeting = b"INFO %b\r\n" % json.dumps({**INFO, "connect_urls": places}).encode()
    async with fake_server(FakeServer(greeting=greeting)) as fake, connected(fake.url) as bus:
        fake.close_after = "PUB"
        with pytest.raises(ConnectionLostError):
            await bus.publish(SUBJECT, b"x")
        await until(lambda: bus.connected and bus.reconnects)
        assert len(bus._dialer._discovered) == nats_reader.MAX_DISCOVERED
        for _ in range(20):
            servers = bus._dialer.servers()
            assert len(servers) == 1 + DISCOVERED_A_ROUND
            order = [server.at(literal(server.host, server.port)) for server in servers]
            bus._dialer._arrange(order)
            assert order[-1].url == fake.url  # the one just lost
        assert len({server for _ in range(200) for server in bus._dialer.servers()}) > 2 * DISCOVERED_A_ROUND


async def test_every_reconnect_is_reported_with_the_server_and_the_time_away(server: NatsServer) -> None:
    lines: list[str] = []
    bus = await NatsBus.connect([server.url], auth=NO_LOGIN, on_notice=lambda _line: None, on_reconnect=lines.append)
    try:
        assert lines == []  # the first connection is none that came back
        await server.restart()
        await until(lambda: lines)
        assert re.fullmatch(rf"connected to {server.url} after \d+\.\d s", lines[0])
    finally:
        await bus.close()


async def test_a_connection_that_comes_and_goes_is_reported_once_and_then_in_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    throttle = outage.ReconnectThrottle(lines.append)
    for number in range(100):
        throttle.add(f"back {number}", at_once=False)
    assert lines == ["back 0"]
    throttle.close()
    assert lines == ["back 0", "back 99; disconnected 99 times since the last line"]
    monkeypatch.setattr(outage, "FLAPPING_AGAIN", 0.01)
    throttle.add("back again", at_once=False)
    throttle.add("and again", at_once=False)
    await until(lambda: "and again" in lines)  # without another interruption
    throttle.close()


async def test_a_connection_that_comes_and_goes_for_more_than_a_second_is_reported_as_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "NOTICE_AFTER", 0.01)
    lines: list[str] = []
    reporter = outage.OutageReporter(lines.append, lines.append)
    reporter.begin()
    reporter.end("first")
    for _ in range(10):
        reporter.begin()
        await asyncio.sleep(0.02)  # longer than what is lines at once
        reporter.end("nats://x")
    assert [line.partition(" after")[0] for line in lines] == [
        "no broker yet: no answer yet; still trying",
        "connected to nats://x",
    ]
    reporter.close()
    assert lines[-1].endswith("disconnected 9 times since the last line")


async def test_a_line_that_cannot_be_reported_ends_nothing() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    error = BrokenPipeError("stderr has gone")

    def reject(_line: str) -> None:
        raise error

    server = FakeServer(answers={"PING": b"PONG\r\n", "PUB": b"MSG a x 1\r\nx\r\n"})
    async with fake_server(server):
        bus = await NatsBus.connect([server.url], auth=NO_LOGIN, on_notice=reject)
        await bus.subscribe("a", lambda _data: None)
        for _ in range(3):
            await bus.publish("a", b"x")
        assert (bus.reconnects, server.connections) == (0, 1)
        await bus.close()
    assert reported == [error] * 2  # the first, and the rest of them at the end


async def test_the_end_of_a_reported_outage_is_reported_at_once() -> None:
    lines: list[str] = []
    throttle = outage.ReconnectThrottle(lines.append)
    for line in ("short", "another", "long"):
        throttle.add(line, at_once=line == "long")
    throttle.close()
    assert lines == ["short", "long; disconnected 2 times since the last line"]
