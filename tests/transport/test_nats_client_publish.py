"""What publish() and subscribe() promise once they have returned, and which errors they raise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.errors import ConnectionClosedError

from remaphore.embedded.broker import Broker
from remaphore.errors import BrokerUnavailableError, ConnectionLostError, PayloadTooLargeError, SubjectDeniedError
from remaphore.transport import nats_client
from remaphore.transport.addresses import literal
from remaphore.transport.nats_client import NatsBus
from remaphore.transport.nats_connection import Connection
from remaphore.transport.servers import parse
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.nats_server import NatsServer, Realm, connected, credentials, running, serving
from tests.harness.waiting import until


@pytest_asyncio.fixture
async def bus(broker: Broker) -> AsyncIterator[NatsBus]:
    async with connected(broker.url, auth=credentials(broker.credentials)) as bus:
        yield bus


async def test_the_broker_has_the_message_before_it_is_asked_to_confirm() -> None:
    async with fake_server() as fake, connected(fake.url) as bus:
        del fake.lines[:]
        await bus.publish("a", b"one")
        assert fake.lines == ["PUB a  3", "PING"]


async def test_publishing_at_the_same_time_shares_round_trips() -> None:
    async with fake_server() as fake, connected(fake.url) as bus:
        del fake.lines[:]
        await asyncio.gather(*(bus.publish("a", b"one") for _ in range(100)))
        assert fake.lines == ["PUB a  3"] * 100 + ["PING"]


async def test_a_message_comes_back_to_every_subscription_unchanged(bus: NatsBus) -> None:
    first: list[bytes] = []
    second: list[bytes] = []
    await bus.subscribe("remaphore.all", first.append)
    await bus.subscribe("remaphore.all", second.append)
    data = bytes(range(256)) + b"\r\nPUB x 0\r\n"
    await bus.publish("remaphore.all", data)
    await until(lambda: first == [data] == second)


async def test_what_is_not_permitted_is_denied_by_name_and_the_rest_continues(bus: NatsBus) -> None:
    got: list[bytes] = []
    with pytest.raises(SubjectDeniedError, match=r"publish to secret.Subject"):
        await bus.publish("secret.Subject", b"x")
    with pytest.raises(SubjectDeniedError, match=r"subscription to secret.Subject"):
        await bus.subscribe("secret.Subject", got.append)
    await bus.subscribe("remaphore.all", got.append)
    await bus.publish("remaphore.all", b"x")
    await until(lambda: got == [b"x"])
    assert bus.reconnects == 0


async def test_a_denial_affects_only_the_denied_operations(bus: NatsBus) -> None:
    subjects = ["remaphore.a", "secret.a", "remaphore.b", "secret.a", "secret.b"] * 3
    results = await asyncio.gather(*(bus.publish(subject, b"") for subject in subjects), return_exceptions=True)
    assert [isinstance(result, SubjectDeniedError) for result in results] == [
        subject.startswith("secret") for subject in subjects
    ]


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0\r\n"])
async def test_an_invalid_subject_is_never_written(subject: str) -> None:
    async with fake_server() as fake, connected(fake.url) as bus:
        del fake.lines[:]
        with pytest.raises(SubjectDeniedError, match="not a NATS subject"):
            await bus.publish(subject, b"")
        with pytest.raises(SubjectDeniedError, match="not a NATS subject"):
            await bus.subscribe(subject, lambda _data: None)
        assert set(fake.lines) == {"PING"}


async def test_a_message_over_the_servers_limit_is_refused_with_both_numbers(tmp_path: Path) -> None:
    async with running(tmp_path, "max_payload: 1000") as server, connected(server) as bus:
        assert bus.max_payload == 1000
        await bus.publish("a", b"x" * 1000)
        with pytest.raises(PayloadTooLargeError, match=r"1001 bytes .* at most 1000"):
            await bus.publish("a", b"x" * 1001)
        assert bus.connected


async def test_a_message_over_the_limit_of_the_login_is_refused_and_the_bus_comes_back(tmp_path: Path) -> None:
    realm = Realm()
    file = tmp_path / "x.creds"
    realm.write_login(file, payload=500)
    async with serving(realm, tmp_path) as server, connected(server, auth=credentials(file)) as bus:
        with pytest.raises(PayloadTooLargeError, match=r"501 bytes .* more than the credentials allow"):
            await bus.publish("remaphore.all", b"x" * 501)
        await bus.publish("remaphore.all", b"x" * 500)
        assert bus.reconnects == 1


async def test_a_connection_that_ends_before_the_confirmation_leaves_the_outcome_open() -> None:
    async with fake_server() as fake, connected(fake.url) as bus:
        fake.close_after = "PUB"
        with pytest.raises(ConnectionLostError, match="may or may not have been delivered"):
            await bus.publish("a", b"x")
        fake.close_after = ""
        await bus.publish("a", b"y")
        assert bus.reconnects >= 1


async def test_a_broker_that_does_not_confirm_in_time_leaves_the_outcome_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_client, "CONFIRM_TIMEOUT", 0.1)
    async with fake_server() as fake, connected(fake.url) as bus:
        fake.answers = {}
        with pytest.raises(ConnectionLostError, match="did not confirm in time"):
            await bus.publish("a", b"x")
        fake.answers = {"PING": b"PONG\r\n"}
        await bus.publish("a", b"y")
        assert fake.connections >= 2


async def test_a_broker_that_dies_before_a_message_is_written_is_not_waited_for_longer_than_the_timeout(
    server: NatsServer,
) -> None:
    got: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe("a", got.append)
        server.kill()
        await until(lambda: not bus.connected)
        with pytest.raises(BrokerUnavailableError, match=r"no broker within 0\.05 s, message not sent: "):
            await bus.publish("a", b"given up", timeout=0.05)
        await server.start()
        await bus.publish("a", b"waited for", timeout=30.0)
        await until(lambda: got == [b"waited for"])


async def test_a_message_that_was_written_in_time_is_confirmed_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_server() as fake, connected(fake.url) as bus:
        await bus.publish("a", b"x", timeout=0.0)
        monkeypatch.setattr(nats_client, "CONFIRM_TIMEOUT", 0.1)
        fake.answers = {}
        with pytest.raises(ConnectionLostError, match=r"did not confirm .* may or may not have been delivered"):
            await bus.publish("a", b"x", timeout=0.0)


async def test_a_message_behind_others_is_not_waited_for_longer_than_the_timeout(server: NatsServer) -> None:
    async with connected(server) as bus:
        await server.pause()
        before = asyncio.get_running_loop().create_task(bus.publish("a", b"x"))
        await until(lambda: bus._sending)
        with pytest.raises(BrokerUnavailableError, match=r"message not sent within 0\.01 s: other messages are queued"):
            await bus.publish("a", b"y", timeout=0.01)
        server.resume()
        await before


async def test_a_caller_that_gives_up_does_no_harm_to_the_connection(bus: NatsBus) -> None:
    got: list[bytes] = []
    await bus.subscribe("remaphore.all", got.append)
    for turns in range(12):  # at each point of the way, from not yet written to already confirmed
        publishing = asyncio.get_running_loop().create_task(bus.publish("remaphore.all", b"given up"))
        for _ in range(turns):
            await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait({publishing})
        await bus.publish("remaphore.all", b"%d" % turns)
    await until(lambda: [data for data in got if data != b"given up"] == [b"%d" % turns for turns in range(12)])
    assert bus.reconnects == 0


@pytest.mark.parametrize("turns", range(8))  # at each point of the way
async def test_a_subscription_whose_caller_gave_up_delivers_nothing_and_is_ended(turns: int) -> None:
    lost: list[bytes] = []
    kept: list[bytes] = []
    async with fake_server() as fake, connected(fake.url) as bus:
        fake.answers["PUB"] = b"MSG a 1 1\r\nx\r\nMSG a 2 1\r\nx\r\n"
        subscribing = asyncio.get_running_loop().create_task(bus.subscribe("a", lost.append))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not subscribing.cancel():
            return  # it was quicker: a subscription like any other
        await asyncio.wait({subscribing})
        await bus.subscribe("a", kept.append)
        await bus.publish("a", b"x")
        await until(lambda: kept)
        words = [line.split()[0] for line in fake.lines]
        assert words.count("UNSUB") == words.count("SUB") - 1
        assert len(bus._subscriptions) == 1
        assert bus.reconnects == 0
    assert lost == []


async def test_nothing_is_delivered_after_unsubscribing(server: NatsServer) -> None:
    got: list[bytes] = []
    other: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe("a", got.append)
        await bus.subscribe("b", other.append)
        await bus.unsubscribe("a")
        await bus.unsubscribe("never subscribed")
        await bus.publish("a", b"x")
        await bus.publish("b", b"y")
        await until(lambda: other == [b"y"])
        assert got == []


async def test_the_server_forgets_what_was_unsubscribed() -> None:
    async with fake_server() as fake, connected(fake.url) as bus:
        await bus.subscribe("a", lambda _data: None)
        await bus.unsubscribe("a")
        await until(lambda: any(line.startswith("UNSUB 1") for line in fake.lines))


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError()])
async def test_an_exception_in_a_delivery_is_reported_and_the_next_message_still_comes(
    error: BaseException, bus: NatsBus
) -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    got: list[bytes] = []

    def deliver(data: bytes) -> None:
        got.append(data)
        if data == b"bad":
            raise error

    await bus.subscribe("remaphore.all", deliver)
    for data in (b"bad", b"good"):
        await bus.publish("remaphore.all", data)
    await until(lambda: got == [b"bad", b"good"])
    assert [context["exception"] for context in reported] == [error]


async def test_the_brokers_own_no_responders_message_is_not_delivered() -> None:
    got: list[bytes] = []
    async with fake_server() as fake, connected(fake.url) as bus:
        await bus.subscribe("a", got.append)
        fake.answers["PUB"] = b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nMSG a 1 4\r\nreal\r\n"
        await bus.publish("b", b"x")
        await until(lambda: got)
    assert got == [b"real"]


async def test_a_connection_whose_reader_has_died_confirms_nothing() -> None:
    async with fake_server() as fake:
        server = parse(fake.url)
        server = server.at(literal(server.host, server.port))
        connection = await Connection.dial(server, login={}, source="", context=None, require_tls=False)
        await asyncio.sleep(0)  # let the reader begin
        assert connection._client._reading_task is not None
        connection._client._reading_task.cancel()
        await connection.ended
        with pytest.raises(ConnectionClosedError):
            await connection.confirm()
        await connection.close()


async def test_a_flood_is_delivered_whole_and_in_order(server: NatsServer) -> None:
    count = 20_000
    got: list[bytes] = []
    async with connected(server) as receiver, connected(server) as sender:
        await receiver.subscribe("flood", got.append)
        await asyncio.gather(*(sender.publish("flood", b"%d" % number) for number in range(count)))
        await until(lambda: len(got) == count)
    assert got == [b"%d" % number for number in range(count)]


async def test_large_messages_at_the_same_time_all_arrive(server: NatsServer) -> None:
    got: list[int] = []
    async with connected(server) as bus:
        await bus.subscribe("large", lambda data: got.append(len(data)))
        await asyncio.gather(*(bus.publish("large", b"x" * 1_000_000) for _ in range(10)))
        await until(lambda: got == [1_000_000] * 10)


async def test_a_server_that_violates_the_protocol_is_left_for_a_new_connection() -> None:
    got: list[bytes] = []
    async with fake_server(FakeServer()) as fake, connected(fake.url) as bus:
        await bus.subscribe("a", got.append)
        fake.answers = {"PUB": b"HTTP/1.1 400 Bad Request\r\n", "PING": b"PONG\r\n"}
        with pytest.raises(ConnectionLostError):
            await bus.publish("a", b"x")
        fake.answers = {"PUB": b"", "PING": b"PONG\r\n"}
        await bus.publish("a", b"x")
        assert bus.reconnects >= 1
