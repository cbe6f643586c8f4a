"""A request has its response, or an error that says whether it may have been carried out; and it is never sent late."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg

from remaphore.errors import (
    BrokerUnavailableError,
    ConnectionLostError,
    NoRespondersError,
    NoResponseError,
    SubjectDeniedError,
    TransportError,
)
from remaphore.tasks import spawn
from remaphore.transport import nats_connection, pending, requests
from remaphore.transport.memory import MemoryBroker
from remaphore.transport.nats_client import NatsBus
from tests.harness.nats_server import NatsServer, Realm, connected, credentials, running, serving
from tests.harness.waiting import until

INBOX = "remaphore.inbox"
LONG = 30.0  # seconds; never reached


@pytest.fixture(params=["ours", "another nats-py"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both readers: ours, and nats-py's by its public names."""
    if request.param == "another nats-py":
        monkeypatch.setattr(nats_connection, "missing_names", lambda: ("_read_loop",))
    return


@asynccontextmanager
async def responder(server: NatsServer, subject: str = "service.>") -> AsyncIterator[list[Msg]]:
    """A client that echoes requests; `.many` in three parts, `.empty` with a status; on `.silent` it keeps them."""
    kept: list[Msg] = []
    client = await nats.connect(server.url)

    async def answer(message: Msg) -> None:
        kept.append(message)
        if message.subject.endswith("silent"):
            return
        if message.subject.endswith("many"):
            for number in range(3):
                await client.publish(message.reply, b"%d" % number, headers={"Nats-Sequence": str(number)})
            await client.publish(message.reply, b"", headers={"Status": "204", "Description": "EOB"})
        else:
            await client.publish(message.reply, message.data, headers=message.headers)

    await client.subscribe(subject, cb=answer)
    await client.flush()
    try:
        yield kept
    finally:
        await client.close()


async def ask(bus: NatsBus, subject: str = "service.echo", data: bytes = b"x", timeout: float = LONG) -> bytes:
    (response,) = await bus.request(subject, data, inbox=INBOX, timeout=timeout)
    return response.data


@pytest.mark.usefixtures("reader")
async def test_responses_reach_their_requests_with_subject_and_headers(tmp_path: Path) -> None:
    async with running(tmp_path) as server, connected(server) as bus, responder(server) as got:
        answers = await asyncio.gather(*(ask(bus, data=b"%d" % number) for number in range(50)))
        assert answers == [b"%d" % number for number in range(50)]
        replies = {message.reply for message in got}
        assert len(replies) == 50
        assert len({reply.rpartition(".")[0] for reply in replies}) == 1, "one subscription for all requests"
        (echo,) = await bus.request(
            "service.echo", b"\r\n", inbox=INBOX, timeout=LONG, headers={"Nats-TTL": "1", "Other": "a: b"}
        )
        assert (echo.status, echo.headers, echo.data) == (0, {"Nats-TTL": "1", "Other": "a: b"}, b"\r\n")
        assert echo.subject.startswith(f"{INBOX}.")
        parts = await bus.request(
            "service.many",
            b"",
            inbox=INBOX,
            timeout=LONG,
            complete=lambda found: found[-1].headers.get("Status") == "204",
        )
        assert [(part.headers.get("Nats-Sequence"), part.data) for part in parts[:3]] == [
            ("0", b"0"),
            ("1", b"1"),
            ("2", b"2"),
        ]
        with pytest.raises(NoRespondersError, match=r"no responders on other\.subject"):
            await ask(bus, "other.subject")


async def test_a_bus_in_memory_has_no_responders() -> None:
    with pytest.raises(NoRespondersError):
        await MemoryBroker().connect().request("a", b"", inbox=INBOX, timeout=LONG)


async def test_a_request_without_a_response_may_have_been_carried_out(tmp_path: Path) -> None:
    async with running(tmp_path) as server, connected(server) as bus, responder(server) as got:
        with pytest.raises(NoResponseError, match="may or may not"):
            await ask(bus, "service.silent", timeout=0.2)
        waiting = spawn(ask(bus, "service.silent"), name="request")
        await until(lambda: len(got) == 2)
        await got[0].respond(b"late")  # the first request has ended
        assert await ask(bus) == b"x"
        await server.stop(signal.SIGKILL)
        with pytest.raises(ConnectionLostError, match="may or may not"):
            await waiting


@pytest.mark.parametrize("when", ["away", "cancelled", "suspended"])
async def test_a_request_is_never_sent_late(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as server, connected(server) as bus, responder(server) as first:
        assert await ask(bus) == b"x"
        if when == "away":
            await server.stop()
            await until(lambda: not bus.connected)
            with pytest.raises(BrokerUnavailableError, match="not sent in time"):
                await ask(bus, timeout=0.2)
            await server.start()
        elif when == "cancelled":  # by its caller, while it is queued
            await server.stop()
            await until(lambda: not bus.connected)
            task = spawn(ask(bus), name="request")
            await until(lambda: bool(bus._queue))
            task.cancel()
            await asyncio.wait({task})
            await server.start()
        else:  # the clock that counts it advances while the timers of the loop stand still
            now = pending.boot_time()
            monkeypatch.setattr(requests, "boot_time", lambda: now - 2 * LONG)
            with pytest.raises(BrokerUnavailableError, match="not sent in time"):
                await ask(bus)
            monkeypatch.undo()
        async with responder(server) as second:
            assert await ask(bus, data=b"later") == b"later"
            assert [message.data for message in (*first, *second) if message.data != b"later"] == [b"x"]


async def test_what_the_broker_denies_is_said_at_once(tmp_path: Path) -> None:
    realm = Realm()
    async with serving(realm, tmp_path) as server:
        realm.write_login(tmp_path / "node.creds", allow="remaphore.>")
        realm.write_login(tmp_path / "other.creds", allow="$JS.API.>")
        async with connected(server, auth=credentials(tmp_path / "node.creds")) as bus:
            with pytest.raises(SubjectDeniedError, match=r"publish to \$JS\.API\.INFO"):
                await ask(bus, "$JS.API.INFO")
            with pytest.raises(NoRespondersError):
                await ask(bus, "remaphore.nothing")
        async with connected(server, auth=credentials(tmp_path / "other.creds")) as bus:
            for _ in range(2):  # also the second time: the denied inbox is not waited for
                with pytest.raises(SubjectDeniedError, match=r"subscription to remaphore\.inbox\."):
                    await ask(bus, "$JS.API.INFO")


async def test_an_inbox_outlives_a_reconnect(tmp_path: Path) -> None:
    async with running(tmp_path) as server, connected(server) as bus:
        async with responder(server):
            assert await ask(bus) == b"x"
        await server.restart()
        async with responder(server):
            await until(lambda: bus.reconnects == 1)
            assert await ask(bus) == b"x"


async def test_a_flood_of_an_inbox_ends_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_RESPONSE_BYTES", 1000)
    async with running(tmp_path) as server, connected(server) as bus, responder(server) as got:
        asked = spawn(
            bus.request("service.silent", b"", inbox=INBOX, timeout=LONG, complete=lambda _found: False),
            name="request",
        )
        await until(lambda: bool(got))
        for _ in range(3):
            await got[0].respond(b"x" * 400)
        with pytest.raises(NoResponseError, match="more than 1000 bytes"):
            await asked


async def test_a_closed_bus_takes_no_request(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        async with connected(server) as bus, responder(server):
            waiting = spawn(ask(bus, "service.silent"), name="request")
            assert await ask(bus) == b"x"
        with pytest.raises(ConnectionLostError):
            await waiting
        with pytest.raises(TransportError):
            await ask(bus)
