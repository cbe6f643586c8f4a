"""Closing is quick and complete at any moment, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from remaphore.errors import ConnectionLostError
from remaphore.transport import nats_client, nats_connection
from remaphore.transport.nats_client import NatsBus
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.nats_server import NO_LOGIN, NatsServer, open_sockets
from tests.harness.waiting import until

PATIENCE = 30.0  # seconds; far below what the limits of the transport are set to here


@pytest.fixture(autouse=True)
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but the end of the bus end what waits for a server."""
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT", 600)
    monkeypatch.setattr(nats_connection, "DIAL_LIMIT", 600)
    monkeypatch.setattr(nats_client, "CONFIRM_TIMEOUT", 600)


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before


async def connect(url: str) -> NatsBus:
    return await NatsBus.connect([url], auth=NO_LOGIN, limit=10, on_notice=lambda _line: None)


async def close(bus: NatsBus) -> None:
    """Close *bus*; fail unless that is quick and leaves neither task nor socket."""
    async with asyncio.timeout(PATIENCE):
        await bus.close()
    assert not bus.connected
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("nats-")] == []
    for _turn in range(5):  # nats-py's own tasks have been cancelled and need a turn to end
        await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "nats" in repr(task.get_coro())] == []


async def test_closing_ends_every_task_and_socket(server: NatsServer) -> None:
    before = open_sockets()
    bus = await connect(server.url)
    await bus.subscribe("a", lambda _data: None)
    await bus.publish("a", b"x")
    await close(bus)
    assert open_sockets() <= before


async def test_closing_twice_or_at_the_same_time_does_nothing_more(server: NatsServer) -> None:
    bus = await connect(server.url)
    await asyncio.gather(bus.close(), bus.close())
    await close(bus)


async def test_closing_while_the_broker_is_away_is_quick(server: NatsServer) -> None:
    bus = await connect(server.url)
    server.kill()
    await until(lambda: not bus.connected)
    await close(bus)


async def test_closing_while_the_broker_is_frozen_is_quick_even_with_data_on_the_way(server: NatsServer) -> None:
    server.config = "max_payload: 32MB"  # more than the buffers of the sockets hold
    await server.restart()
    before = open_sockets()
    bus = await connect(server.url)
    await server.pause()
    publishing = [asyncio.get_running_loop().create_task(bus.publish("a", b"x" * 30_000_000)) for _ in range(2)]
    await until(lambda: bus._sending)
    await asyncio.sleep(0)
    await close(bus)
    done = await asyncio.gather(*publishing, return_exceptions=True)
    assert {type(error) for error in done} == {ConnectionLostError}
    assert open_sockets() <= before


async def test_closing_while_a_silent_server_is_dialled_is_quick() -> None:
    async with fake_server() as fake:
        bus = await connect(fake.url)
        fake.greeting, fake.close_after = None, "PUB"
        with pytest.raises(ConnectionLostError):
            await bus.publish("a", b"x")
        await until(lambda: fake.connections == 2)
        await close(bus)


async def test_callers_that_wait_when_the_bus_is_closed_get_an_error(server: NatsServer) -> None:
    bus = await connect(server.url)
    await server.stop()
    await until(lambda: not bus.connected)
    waiting = asyncio.get_running_loop().create_task(bus.publish("a", b"x"))
    await asyncio.sleep(0)
    await close(bus)
    with pytest.raises(ConnectionLostError, match="broker is closed"):
        await waiting


async def test_a_closed_bus_accepts_no_operation(server: NatsServer) -> None:
    bus = await connect(server.url)
    await bus.close()
    with pytest.raises(ConnectionLostError):
        await bus.publish("a", b"x")
    with pytest.raises(ConnectionLostError):
        await bus.subscribe("a", lambda _data: None)
    await bus.unsubscribe("a")


async def test_closing_after_the_server_has_closed_is_quick() -> None:
    async with fake_server(FakeServer()) as fake:
        bus = await connect(fake.url)
        fake.greeting, fake.close_after = b"", "PUB"
        with pytest.raises(ConnectionLostError):
            await bus.publish("a", b"x")
        await close(bus)
