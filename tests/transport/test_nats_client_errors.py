"""An error that nothing expects, anywhere in the task of the bus, leaves no caller waiting and no bus that is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from remaphore.errors import ConnectionLostError, TransportError
from remaphore.tasks import spawn
from remaphore.transport import nats_client, nats_connection
from remaphore.transport.dialer import Dialer
from remaphore.transport.nats_client import NatsBus
from remaphore.transport.nats_connection import Connection
from remaphore.transport.nats_reader import ReadingClient
from remaphore.transport.outage import OutageReporter
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.nats_server import NO_LOGIN, NatsServer, connected
from tests.harness.waiting import until

SUBJECT = "remaphore.all"
PATIENCE = 20.0  # seconds; a caller that is forgotten waits forever

# Of each step between the queue and the caller's future, and of the way back to a connection.
STEPS = [
    (nats_client, "move_batch"),
    (nats_client, "exchange"),
    (Connection, "publish"),
    (Connection, "confirm"),
    (Connection, "pop_denied"),
    (ReadingClient, "flush"),
    (ReadingClient, "listen"),
    (Connection, "discovered"),
    (Connection, "dial"),
    (OutageReporter, "end"),
    (Dialer, "round"),
    (Dialer, "learn"),
]


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> Callable[[], bool]:
    """Let a step raise the next time; return a function that returns whether it has."""
    step, raised = getattr(owner, name), []

    def failing(*args: Any, **options: Any) -> Any:
        if raised:
            return step(*(args[1:] if owner is Connection and name == "dial" else args), **options)
        raised.append(error)
        raise error

    monkeypatch.setattr(owner, name, classmethod(failing) if name == "dial" else failing)
    return lambda: bool(raised)


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
async def test_an_unexpected_error_settles_what_waits_and_the_bus_works_again(
    owner: Any, name: str, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[bytes] = []
    lines: list[str] = []
    bus = await NatsBus.connect(
        [server.url], auth=NO_LOGIN, on_notice=lambda _line: None, on_protocol_error=lines.append
    )
    try:
        await bus.subscribe(SUBJECT, got.append)
        raised = fails_once(monkeypatch, owner, name, KeyError("no such step"))
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionLostError):
                await bus.publish(SUBJECT, b"x")
            await server.restart()
            await until(raised)
            with suppress(ConnectionLostError):
                await bus.publish(SUBJECT, b"x")
            await until(lambda: bus.connected)
            del got[:]
            await bus.publish(SUBJECT, b"alive")
            await until(lambda: got == [b"alive"])
        assert any("KeyError('no such step')" in line for line in lines) or name == "dial", lines
    finally:
        await bus.close()


async def test_an_unexpected_error_is_reported_as_such_with_a_hint(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    async with connected(server, notices=lines) as bus:
        fails_once(monkeypatch, ReadingClient, "publish", ValueError("bad value"))
        with pytest.raises(ConnectionLostError, match=r"ValueError\('bad value'\)"):
            await bus.publish(SUBJECT, b"x")
    assert lines == ["the connection's task failed: ValueError('bad value'); connecting again; hint: report this bug"]


async def test_an_operation_that_cannot_be_carried_out_ends_itself_and_no_other(server: NatsServer) -> None:
    async with connected(server) as bus:
        with pytest.raises(TransportError):
            async with asyncio.timeout(PATIENCE):
                await bus.publish(SUBJECT, None)  # type: ignore[arg-type]
        with pytest.raises(TransportError):
            async with asyncio.timeout(PATIENCE):
                await bus.subscribe(None, lambda _data: None)  # type: ignore[arg-type]
        await bus.publish(SUBJECT, b"x")


async def test_an_error_while_a_lost_connection_is_settled_leaves_no_caller_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nats_client, "CONFIRM_TIMEOUT", 0.1)
    monkeypatch.setattr(nats_connection, "CLOSE_LIMIT", 0.1)
    async with fake_server(FakeServer()) as fake, connected(fake.url) as bus:
        raised = fails_once(monkeypatch, nats_client, "fail_unconfirmed", KeyError("x"))
        fake.close_after = "PUB"
        with pytest.raises(ConnectionLostError):
            async with asyncio.timeout(PATIENCE):
                await bus.publish(SUBJECT, b"x")
        assert raised()


async def test_a_task_that_is_cancelled_from_outside_leaves_no_caller_waiting(server: NatsServer) -> None:
    async with connected(server) as bus:
        server.kill()
        await until(lambda: not bus.connected)
        waiting = spawn(bus.publish(SUBJECT, b"x"), name="waiting")
        await until(lambda: bus._queue)
        bus._task.cancel()
        with pytest.raises(ConnectionLostError):
            async with asyncio.timeout(PATIENCE):
                await waiting
