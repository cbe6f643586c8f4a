"""A clock that steps by a minute, either way: nothing starts twice, and what is timely again is served again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from remaphore import Message, Reply, hookimpl
from remaphore.node import Node
from remaphore.protocol.drop import Drop
from remaphore.protocol.duration import SECOND
from remaphore.protocol.gate import Filters
from remaphore.receiving.gates import make_gate
from remaphore.receiving.inline import InlineAdmission
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.factories import NOW, make_encoded, sign_again
from tests.harness.nodes import make_config
from tests.harness.plugins import plugin_manager

MINUTE = 60 * SECOND
SUBJECT = "remaphore.all"


class Clock:
    """A clock that a test can set, in nanoseconds."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Recorder:
    """The plugin under the daemon: it notes every payload that it is started with."""

    def __init__(self) -> None:
        self.started: list[bytes] = []

    @hookimpl
    def remaphore_message(self, message: Message) -> Reply:
        self.started.append(message.payload)
        return Reply(0)


@asynccontextmanager
async def daemon(folder: Path, broker: MemoryBroker, clock: Clock) -> AsyncIterator[Recorder]:
    """Node 2 as a daemon, on its ledger in *folder*."""
    recorder = Recorder()
    created = clock() - 10 * MINUTE  # it is an old one
    plugins = plugin_manager(recorder=recorder)
    async with running_daemon(broker.connect(), folder, plugins=plugins, clock=clock, created=created):
        yield recorder


async def ask(broker: MemoryBroker, clock: Clock, payload: str) -> str:
    """Return the answer to a request that is signed by *clock*; both of its sides see the same time at its end."""
    node = Node(broker.connect(), make_config(1), clock=clock)
    async with node.request("do", to="com.two", payload=payload, timeout=10) as exchange:
        async for reply in exchange:
            return reply.output.decode() or "done"
    return "lost"


async def again(broker: MemoryBroker, number: int) -> None:
    """Send what was sent as the *number*th message once more, as an attacker would, and then let it be judged.

    With another signature first: the ledger alone, without the window, would take that for another message.
    """
    where, raw = [entry for entry in broker.published if entry[0] == SUBJECT][number]
    await broker.connect().publish(where, sign_again(raw))
    await broker.connect().publish(where, raw)


@pytest.mark.parametrize("step", [MINUTE, -MINUTE], ids=["forward and back", "back and forward"])
async def test_nothing_starts_twice_while_the_daemons_clock_steps_to_and_fro(step: int, tmp_path: Path) -> None:
    broker, clock, right = MemoryBroker(), Clock(), Clock()
    async with daemon(tmp_path, broker, clock) as recorder:
        assert await ask(broker, right, "before") == "done"
        clock.now = NOW + step
        await again(broker, 0)
        right.now += SECOND
        node = Node(broker.connect(), make_config(1), clock=right)
        await node.send("do", to="com.two", payload="while it is wrong")
        wrong = Clock()
        wrong.now = clock.now
        assert await ask(broker, wrong, "wrong like it") == "done"
        clock.now = right.now = NOW + 2 * SECOND
        for number in range(3):
            await again(broker, number)
        right.now += SECOND
        assert await ask(broker, right, "after") == "done"
    # What was rejected while the clock was wrong is accepted when it is sent again in time: it had not started.
    assert sorted(recorder.started) == sorted(set(recorder.started))
    assert {b"before", b"wrong like it", b"after"} <= set(recorder.started)


@pytest.mark.parametrize("step", [MINUTE, -MINUTE], ids=["forward", "back"])
async def test_nothing_starts_twice_when_the_clock_has_stepped_over_a_restart(step: int, tmp_path: Path) -> None:
    broker, clock = MemoryBroker(), Clock()
    async with daemon(tmp_path, broker, clock) as recorder:
        assert await ask(broker, clock, "before") == "done"
        clock.now += 1
        assert await ask(broker, clock, "second") == "done"
        assert recorder.started == [b"before", b"second"]
    clock.now += step
    async with daemon(tmp_path, broker, clock) as recorder:
        await again(broker, 0)  # which is rejected, and remembered as that; the second one is not seen now
        assert await ask(broker, clock, "after") == "done"
        clock.now -= step
        await again(broker, 0)
        await again(broker, 1)
        clock.now += SECOND
        assert await ask(broker, clock, "last") == "done"  # messages of one verb are handled in the order of arrival
        assert recorder.started == [b"after", b"last"]


@pytest.mark.parametrize("step", [MINUTE, -MINUTE], ids=["forward and back", "back and forward"])
async def test_a_receiver_accepts_nothing_twice_while_its_clock_steps_back_and_forth(step: int) -> None:
    clock, accepted, dropped = Clock(), list[Message](), list[Drop]()
    gate = make_gate(make_config(2), Filters(), subject=SUBJECT)
    admission = InlineAdmission(gate, on_accept=accepted.extend, on_drop=dropped.append, clock=clock)
    sent = make_encoded(destination="com.two")
    for now in (NOW, NOW + step, NOW):
        clock.now = now
        admission.deliver([sent])
        admission.deliver([make_encoded(destination="com.two", payload=b"%d" % now, time_ns=now)])
        await admission.join()
    assert [message.payload for message in accepted] == [b"", b"%d" % NOW, b"%d" % (NOW + step)]
    assert len(dropped) == 3
