"""What every bus promises, in memory and over NATS: a plugin tested on the first behaves the same on the second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from remaphore.errors import ConnectionLostError, PayloadTooLargeError
from remaphore.transport import nats_connection
from remaphore.transport.bus import Bus, Incoming
from remaphore.transport.memory import MemoryBroker
from tests.harness.nats_server import connected, running
from tests.harness.waiting import until

Connect = Callable[[], Awaitable[Bus]]
END = b"end"


@pytest_asyncio.fixture(params=["memory", "nats", "another nats-py"])
async def connect(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connect]:
    """Makes connections to one broker, and ends them."""
    if request.param == "another nats-py":
        monkeypatch.setattr(nats_connection, "missing_names", lambda: ("_read_loop",))
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            broker = MemoryBroker()

            async def make() -> Bus:
                return broker.connect()
        else:
            server = await stack.enter_async_context(running(tmp_path / "server"))

            async def make() -> Bus:
                return await stack.enter_async_context(connected(server))

        yield make


async def test_what_is_published_reaches_the_subscriber_unchanged(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    got: list[bytes] = []
    await receiver.subscribe("a.b", got.append)
    sent = [b"", bytes(range(256)), b"\r\nPUB x 0\r\n", b"x" * 100_000]
    for data in sent:
        await sender.publish("a.b", data)
    await until(lambda: len(got) == len(sent))
    assert got == sent


async def test_messages_arrive_in_the_order_in_which_they_were_published(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    got: list[int] = []
    await receiver.subscribe("a", lambda data: got.append(int(data)))
    for number in range(500):
        await sender.publish("a", b"%d" % number)
    await until(lambda: len(got) == 500)
    assert got == list(range(500))


async def test_every_subscriber_gets_every_message(connect: Connect) -> None:
    sender, one, two = await connect(), await connect(), await connect()
    got: list[list[bytes]] = [[], []]
    await one.subscribe("a", got[0].append)
    await two.subscribe("a", got[1].append)
    await sender.publish("a", b"x")
    await until(lambda: got == [[b"x"], [b"x"]])


async def test_two_subscriptions_of_one_connection_both_get_the_message(connect: Connect) -> None:
    bus = await connect()
    got: list[list[bytes]] = [[], []]
    await bus.subscribe("a", got[0].append)
    await bus.subscribe("a", got[1].append)
    await bus.publish("a", b"x")
    await until(lambda: got == [[b"x"], [b"x"]])


async def test_a_connection_gets_what_it_publishes_itself(connect: Connect) -> None:
    bus = await connect()
    got: list[bytes] = []
    await bus.subscribe("a", got.append)
    await bus.publish("a", b"x")
    await until(lambda: got == [b"x"])


async def test_only_the_subject_itself_is_received(connect: Connect) -> None:
    bus = await connect()
    got: list[bytes] = []
    await bus.subscribe("a.b", got.append)
    for subject in ("a", "a.b.c", "A.B", "a.c"):
        await bus.publish(subject, b"no")
    await bus.publish("a.b", END)
    await until(lambda: got)
    assert got == [END]


async def test_what_was_published_before_subscribing_is_not_received(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    got: list[bytes] = []
    await sender.publish("a", b"early")
    await receiver.subscribe("a", got.append)
    await sender.publish("a", END)
    await until(lambda: got)
    assert got == [END]


async def test_after_unsubscribing_nothing_is_received_and_the_others_still_are_served(connect: Connect) -> None:
    sender, leaver, stayer = await connect(), await connect(), await connect()
    gone: list[bytes] = []
    stayed: list[bytes] = []
    other: list[bytes] = []
    for bus, subject, deliver in (
        (leaver, "a", gone.append),
        (leaver, "b", other.append),
        (stayer, "a", stayed.append),
    ):
        await bus.subscribe(subject, deliver)
    await leaver.unsubscribe("a")
    await sender.publish("a", b"x")
    await sender.publish("b", END)
    await until(lambda: stayed and other)
    assert (gone, stayed, other) == ([], [b"x"], [END])


async def test_unsubscribing_ends_every_subscription_of_that_connection_to_the_subject(connect: Connect) -> None:
    bus, witness = await connect(), await connect()
    got: list[bytes] = []
    seen: list[bytes] = []
    await bus.subscribe("a", got.append)
    await bus.subscribe("a", got.append)
    await witness.subscribe("a", seen.append)
    await bus.unsubscribe("a")
    await bus.subscribe("b", got.append)
    await bus.publish("a", b"x")
    await bus.publish("b", END)
    await until(lambda: seen and got)
    assert got == [END]


async def test_unsubscribing_from_what_was_not_subscribed_does_nothing(connect: Connect) -> None:
    bus = await connect()
    await bus.unsubscribe("never")
    assert bus.connected


async def test_a_subscription_can_be_made_again(connect: Connect) -> None:
    bus = await connect()
    got: list[bytes] = []
    await bus.subscribe("a", got.append)
    await bus.unsubscribe("a")
    await bus.subscribe("a", got.append)
    await bus.publish("a", b"x")
    await until(lambda: got)
    assert got == [b"x"]


async def test_the_largest_message_passes_and_one_byte_more_is_refused(connect: Connect) -> None:
    bus = await connect()
    got: list[int] = []
    await bus.subscribe("a", lambda data: got.append(len(data)))
    with pytest.raises(PayloadTooLargeError, match=f"{bus.max_payload + 1} bytes.* {bus.max_payload}"):
        await bus.publish("a", b"x" * (bus.max_payload + 1))
    await bus.publish("a", b"x" * bus.max_payload)
    await until(lambda: got)
    assert got == [bus.max_payload]


async def test_after_closing_nothing_is_received(connect: Connect) -> None:
    sender, closing, staying = await connect(), await connect(), await connect()
    gone: list[bytes] = []
    stayed: list[bytes] = []
    await closing.subscribe("a", gone.append)
    await staying.subscribe("a", stayed.append)
    await closing.close()
    await sender.publish("a", b"x")
    await until(lambda: stayed)
    assert gone == []


async def test_closing_twice_does_nothing_and_connected_is_false(connect: Connect) -> None:
    bus = await connect()
    assert bus.connected
    await bus.close()
    await bus.close()
    assert not bus.connected
    assert bus.reconnects == 0


async def test_after_closing_publishing_and_subscribing_are_errors_and_unsubscribing_is_not(connect: Connect) -> None:
    bus = await connect()
    await bus.subscribe("a", lambda _data: None)
    await bus.close()
    with pytest.raises(ConnectionLostError, match="closed"):
        await bus.publish("a", b"x")
    with pytest.raises(ConnectionLostError, match="closed"):
        await bus.subscribe("a", lambda _data: None)
    await bus.unsubscribe("a")


async def test_a_receiver_that_raises_disturbs_neither_the_sender_nor_what_comes_next(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    told: list[object] = []
    got: list[bytes] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))

    def picky(data: bytes) -> None:
        if data == b"bad":
            raise ValueError("a bug")
        got.append(data)

    await receiver.subscribe("a", picky)
    await sender.publish("a", b"bad")
    await sender.publish("a", END)
    await until(lambda: got)
    assert got == [END]
    assert [str(error) for error in told] == ["a bug"]


async def test_of_messages_that_arrive_together_an_error_costs_one(
    connect: Connect,
) -> None:
    sender, receiver = await connect(), await connect()
    told: list[str] = []
    got: list[bytes] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(str(context["exception"])))

    def picky(messages: Iterator[bytes]) -> None:
        for data in messages:
            if data.endswith(b"5"):
                raise ValueError(data.decode())
            got.append(data)

    await receiver.subscribe_batches("a", picky)
    await asyncio.gather(*(sender.publish("a", b"%d" % number) for number in range(20)))
    await sender.publish("a", END)
    await until(lambda: got[-1:] == [END])
    assert got == [b"%d" % number for number in range(20) if number % 10 != 5] + [END]
    assert told == ["5", "15"]
    await receiver.unsubscribe("a")
    await sender.publish("a", b"late")
    await sender.publish("a", b"later")
    assert got[-1] == END


async def test_a_receiver_can_answer_on_another_subject(connect: Connect) -> None:
    asking, answering = await connect(), await connect()
    questions = asyncio.Queue[bytes]()
    got: list[bytes] = []
    await answering.subscribe("question", questions.put_nowait)
    await asking.subscribe("answer", got.append)
    await asking.publish("question", b"?")
    await answering.publish("answer", await questions.get() + b"!")
    await until(lambda: got)
    assert got == [b"?!"]


async def test_a_listener_gets_the_subject_and_ends_alone(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    first: list[Incoming] = []
    second: list[Incoming] = []
    end = await receiver.listen("a.b", first.append)
    await receiver.listen("a.b", second.append)
    await sender.publish("a.b", b"one")
    await until(lambda: first and second)
    end()
    end()
    await receiver.subscribe("c", lambda _data: None)  # what was written before has arrived
    await sender.publish("a.b", b"two")
    await until(lambda: len(second) == 2)
    assert [(each.subject, each.status, each.data) for each in second] == [("a.b", 0, b"one"), ("a.b", 0, b"two")]
    assert len(first) == 1
