"""The daemon and kill -9: whatever moment it dies at, no handler starts twice, and each that started has its record.

Handlers note their message in a file; an attacker that has captured everything sends it again after each start.
The moments are random: the seed is printed, and that of a failure can be given in REMAPHORE_TEST_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

import remaphore
from remaphore.protocol import subject, wire
from remaphore.protocol.duration import SECOND
from remaphore.protocol.message import Reply
from remaphore.receiving.ledger.ledger import FILE
from remaphore.receiving.ledger.rows import DONE, STARTED
from tests.harness.ledgers import WAL, states
from tests.harness.waiting import until

ALL = subject.for_messages("remaphore")
LOAD = 40
# What is sent again at one time: far fewer than a verb's queue holds, and than are answered at one time.
CHUNK = 20
# What has left the window of 30 seconds is rejected for its age, which is not what is tried here.
YOUNG = 20 * SECOND


class CrashSite:
    """A broker, a daemon that can be killed, and a client that sends, captures everything, and sends it again."""

    def __init__(self, fleet, nodes):
        self.fleet, self.nodes = fleet, nodes
        self.noted = fleet.folder / "noted"
        self.noted.touch()
        self.state = fleet.folder / "state" / "main"
        self.captured: dict[bytes, None] = {}  # in order
        self.replies: dict[str, list[Reply]] = {}
        self.daemon = None
        self.node = None
        _write_handler(fleet.folder, self.noted)
        config = nodes["two"]
        config.write_text(f'state_dir = "{fleet.folder}/state"\n' + config.read_text())

    async def start(self):
        words = ("run", "-c", self.nodes["two"], "--hooks", self.fleet.folder / "hooks.d")
        self.daemon = await asyncio.to_thread(self.fleet.start, *words)

    async def kill(self):
        """End it as the kernel does, and wait until it is gone."""
        self.daemon.popen.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self.daemon.popen.wait)

    def compose(self, verb):
        return self.node._signer.compose(verb, to="com.example.two", payload=b"", wants_reply=True)

    async def load(self, count=LOAD, verb="note"):
        """Send *count* requests without waiting for what comes of them; return their reply subjects."""
        sent = [self.compose(verb) for _ in range(count)]
        asked = [subject.for_replies("remaphore", outgoing.message.digest) for outgoing in sent]
        await asyncio.gather(*map(self.listen, asked))
        await asyncio.gather(*(self.node.bus.publish(ALL, outgoing.raw) for outgoing in sent))
        return asked

    async def flood(self, count=LOAD):
        """Send *count* messages on which nothing acts, and that want no reply."""
        sent = [
            self.node._signer.compose("idle", to="com.example.two", payload=b"", wants_reply=False)
            for _ in range(count)
        ]
        await asyncio.gather(*(self.node.bus.publish(ALL, outgoing.raw) for outgoing in sent))

    def idle_states(self):
        """Return in which states the ledger has the messages on which nothing acts."""
        with closing(sqlite3.connect(self.state / FILE)) as database:
            return {state for (state,) in database.execute("SELECT DISTINCT state FROM messages WHERE verb = 'idle'")}

    async def listen(self, where):
        heard = self.replies[where] = []
        await self.node.bus.subscribe(where, lambda data: heard.append(Reply.parse(wire.decode(data).payload)))

    async def answered(self, asked):
        """Return the first reply to each, once all have one."""
        deadline = time.monotonic() + 30
        while missing := sum(not self.replies[where] for where in asked):
            assert self.daemon.popen.poll() is None, self.daemon.lines
            assert time.monotonic() < deadline, (missing, len(asked), self.daemon.lines)
            await asyncio.sleep(0)
        return [self.replies[where][0] for where in asked]

    async def replay(self):
        """Send all again that was ever captured and is still in the window; return the reply to a new message."""
        captured = tuple(self.captured)
        replies = await self.answered(await self.load(1))
        for first in range(0, len(captured), CHUNK):
            await asyncio.gather(*(self.node.bus.publish(ALL, raw) for raw in captured[first : first + CHUNK]))
            # Messages of one verb are handled in the order of their arrival: after this one all those have been.
            replies = await self.answered(await self.load(1))
        return replies

    def starts(self):
        """Return how often each message's handler was started, by uuid."""
        return Counter(self.noted.read_text().split())

    def unrecorded(self):
        """Return which of the captured messages were started and are not in the ledger as that."""
        known = {digest for digest, state in states(self.state).items() if state in {STARTED, DONE}}
        started = self.starts()
        return [
            frame.uuid.hex()
            for raw in self.captured
            if (frame := wire.decode(raw)).uuid.hex() in started and wire.digest(raw) not in known
        ]

    def forget_the_old(self):
        newest = max((wire.decode(raw).time_ns for raw in self.captured), default=0)
        for raw in tuple(self.captured):
            if wire.decode(raw).time_ns < newest - YOUNG:
                del self.captured[raw]


def _write_handler(folder, noted):
    for part in (folder, folder.parent):  # every directory on the way must be its owner's alone to be trusted
        part.chmod(0o755)
    for verb, then in {"note": "", "hold": "exec sleep 20"}.items():
        handler = folder / "hooks.d" / verb / "10-note"
        handler.parent.mkdir(parents=True)
        handler.write_text(f'#!/bin/sh\necho "$REMAPHORE_UUID" >> {noted}\n{then}\n')
        handler.chmod(0o755)


@pytest_asyncio.fixture
async def site(fleet, nodes):
    site = CrashSite(fleet, nodes)
    async with remaphore.connect(nodes["one"]) as site.node:
        await site.node.bus.subscribe(ALL, site.captured.setdefault)
        yield site


def randomness():
    seed = int(os.environ.get("REMAPHORE_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REMAPHORE_TEST_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    return random.Random(seed)


async def be_killed(site, rounds):
    """Kill the daemon *rounds* times under load; return how many kills found it with something under way."""
    moments, busy = randomness(), 0
    for _ in range(rounds):
        await site.start()
        await site.replay()
        await site.flood()
        asked = await site.load()
        await site.flood()
        await site.answered(asked[: moments.randrange(LOAD)])
        for _ in range(moments.randrange(200)):  # turns of the loop, in which a little time passes for the daemon
            await asyncio.sleep(0)
        answered = sum(bool(site.replies[where]) for where in asked)
        await site.kill()
        busy += answered < len(asked)
        assert site.unrecorded() == []
        assert site.idle_states() <= {DONE}  # never seen as accepted only: none of them is abandoned at the next start
        site.forget_the_old()
    await site.start()
    await site.replay()
    twice = {uuid: count for uuid, count in site.starts().items() if count > 1}
    assert twice == {}
    return busy


@pytest.mark.timeout(240)  # ten daemons start and die
async def test_no_handler_starts_twice_over_ten_kills(site):
    assert await be_killed(site, 10) >= 5


@pytest.mark.long
async def test_no_handler_starts_twice_over_200_kills(site):
    assert await be_killed(site, 200) >= 100


async def test_what_waited_when_the_daemon_was_killed_never_starts_and_is_answered_at_the_next_start(site):
    await site.start()
    asked = await site.load(verb="hold")
    await site.answered(await site.load(1))  # by then those before have arrived
    await until(lambda: sum(site.starts().values()) == 2)
    await until(lambda: len(states(site.state)) == LOAD + 1)
    await site.kill()
    await site.start()
    replies = await site.answered(asked)
    assert Counter(reply.exit_code for reply in replies) == {75: LOAD - 1, 143: 1}
    outputs = {reply.output for reply in replies if reply.exit_code == 75}
    assert outputs == {b"remaphore: refused: abandoned: the daemon ended before it started"}
    assert f"verb=hold count={LOAD - 1}" in site.daemon.wait_for("messages_abandoned")
    await site.replay()
    held = {frame.uuid.hex() for frame in map(wire.decode, site.captured) if frame.verb == "hold"}
    assert (len(held), len(held & site.starts().keys()), max(site.starts().values())) == (LOAD, 1, 1)


NO_LEDGER = b"remaphore: refused: ledger: the ledger cannot be written, see the log of the daemon"


async def test_on_a_full_disk_nothing_starts_without_a_record_and_each_requester_is_told(site):
    await site.start()
    resource.prlimit(site.daemon.popen.pid, resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
    replies = [reply for _ in range(5) for reply in await site.answered(await site.load())]
    ran = sum(reply.exit_code == 0 for reply in replies)
    rejected = sum((reply.exit_code, reply.output) == (75, NO_LEDGER) for reply in replies)
    assert (ran + rejected, ran > 0, rejected > 0) == (len(replies), True, True)
    await site.kill()
    assert sum(site.starts().values()) == ran
    assert site.unrecorded() == []
    await site.start()  # there is room again
    await site.replay()
    assert max(site.starts().values()) == 1


@pytest.mark.parametrize("damage", ["junk", "page"])
async def test_with_a_ledger_that_was_damaged_nothing_starts(site, damage):
    await site.start()
    await site.answered(await site.load())
    await asyncio.to_thread(site.daemon.stop)
    before = site.starts()
    _damage(site.state / FILE, damage)
    await site.start()
    for reply in [*await site.replay(), *await site.answered(await site.load())]:
        assert (reply.exit_code, reply.output) == (75, NO_LEDGER)
    assert site.starts() == before
    assert "move the file away" in site.daemon.wait_for("ledger_failed")


async def test_after_a_lost_ledger_nothing_that_was_captured_starts(site):
    await site.start()
    await site.answered(await site.load())
    await site.kill()
    for name in (FILE, WAL):
        (site.state / name).unlink()
    await site.start()
    assert [reply.exit_code for reply in await site.replay()] == [0]
    assert max(site.starts().values()) == 1


def _damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.write_bytes(b"junk" * 5000 if how == "junk" else whole[:4096] + b"x" * 4096 + whole[8192:])
