"""Floods that are to fill the memory or the disk: large messages, unknown senders, many verbs, slow handlers.

Attacker: every client that may publish on the subject, and a permitted peer gone bad. What must happen: the resident
memory of the process stays bounded, its log has a bounded number of lines for what was dropped, and it serves a true
message afterwards.
"""

import asyncio
import time
from functools import lru_cache

import pytest

from remaphore.protocol import subject, wire
from tests.attacks.floods import flood
from tests.harness.factories import NOW, SECOND, make_encoded, make_key
from tests.harness.fleet import bus_of
from tests.harness.processes import MIB, peak_mib, resident_mib

SECONDS = [0.2, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]  # of each flood
# What may wait is 64 MiB in the queues and 32 MiB for its check, and one sender fills 15 MiB of the replay window; the
# rest is what NATS delivers in one turn, and what the allocator keeps.
MOST_MIB = 256
LEAST = 300  # large messages: more than that in MiB
# One kind of drop is one line at first and one each 15 seconds.
MOST_LINES = 60

LARGE = b"x" * (MIB - 4096)


# To sign takes longer than to send. Both floods are dropped before anything remembers them: the same bytes come again.
@lru_cache(maxsize=2)
def signed_by_unknown(second):
    return make_encoded(9, payload=LARGE, time_ns=second * SECOND)


def large_from_unknown(number):
    return signed_by_unknown(int(time.time()))


def large_forgery(number):
    return make_key(1).public.encode() + b"," + signed_by_unknown(NOW // SECOND).split(b",", 1)[1]


def many_claimed_keys(number):
    return b"%d" % number + make_encoded(9, time_ns=time.time_ns())


def many_verbs(number):
    return make_encoded(1, verb=f"v{number}", payload=b"x" * 1000, time_ns=time.time_ns())


def large_from_a_peer(number):
    return make_encoded(1, verb="slow", payload=LARGE, wants_reply=True, time_ns=time.time_ns())


def garbage(number):
    return LARGE


# One after the other at one daemon: what is kept of each adds up.
FLOODS = {
    "outsiders": [large_from_unknown, large_forgery, many_claimed_keys, garbage],
    "a peer": [many_verbs, large_from_a_peer],
}


@pytest.fixture
def daemon(fleet):
    """A daemon with a slow handler that accepts payloads of any size, and its configuration."""
    slow = fleet.folder / "hooks.d" / "slow"
    slow.mkdir(parents=True)
    script = slow / "10-sleep"
    script.write_text("#!/bin/sh\nexec sleep 300\n")
    script.chmod(0o755)
    state = f'state_dir = "{fleet.folder / "state"}"\nhooks = ["{fleet.folder / "hooks.d"}"]\n'
    path = fleet.config("two", extra='[verbs.slow]\npayload = "stdin"\nqueue = 100000\n')
    path.write_text(state + path.read_text())
    return fleet.start("run", "-c", path)


def served(fleet, path):
    """Check that a true request is answered: what a permitted peer has sent before comes first, so not at once."""
    for _ in range(6):
        done = fleet.run("request", "-c", path, "--to", "com.example.two", "--verb", "other", "--timeout", "10s")
        if done.stdout == "com.example.two,127,no handler\n":
            return
    pytest.fail(done.stderr)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("attacker", FLOODS)
async def test_a_daemon_under_a_flood_keeps_its_memory_and_its_log_small(fleet, daemon, attacker, seconds):
    one = fleet.config("one")
    before = resident_mib(daemon.popen.pid)
    async with bus_of(fleet) as bus:
        for make in FLOODS[attacker]:
            await flood(bus, make, seconds=seconds, least=LEAST)
    await asyncio.to_thread(served, fleet, one)
    assert peak_mib(daemon.popen.pid) - before < MOST_MIB
    drops = [line for line in daemon.lines if "message_dropped" in line]
    assert len(drops) < MOST_LINES
    assert max(map(len, daemon.lines)) < 2_000


@pytest.mark.parametrize("make", [large_from_a_peer, pytest.param(large_from_unknown, marks=pytest.mark.long)])
async def test_a_receiver_with_a_slow_script_keeps_its_memory_small(fleet, nodes, make):
    receiver = fleet.start("receive", "-c", nodes["two"], "sh", "-c", "exec sleep 300")
    # The first one occupies the script; a payload of this size could not be an argument, so it is a small one.
    fleet.run("send", "-c", nodes["one"], "--to", "com.example.two", "--verb", "slow")
    receiver.wait_for("message_received")
    before = resident_mib(receiver.popen.pid)
    async with bus_of(fleet) as bus:
        await flood(bus, make, seconds=0.2, least=LEAST)
    assert peak_mib(receiver.popen.pid) - before < MOST_MIB
    assert len([line for line in receiver.lines if "message_dropped" in line]) < MOST_LINES


async def test_a_requester_under_a_flood_of_replies_keeps_its_memory_small_and_says_so_in_one_line(fleet, nodes):
    async with bus_of(fleet) as bus:
        seen = asyncio.Queue()
        await bus.subscribe("remaphore.all", seen.put_nowait)
        asking = fleet.start("request", "-c", nodes["one"], "--to", "com.example.two", "--timeout", "5s", ready=None)
        where = subject.for_replies("remaphore", wire.digest(await seen.get()))
        before = resident_mib(asking.popen.pid)
        await flood(bus, garbage, seconds=1, where=where)
        assert peak_mib(asking.popen.pid) - before < MOST_MIB
    code, out = asking.finish()
    assert (code, out) == (1, "")
    # The broker may have ended a connection that is too slow for this, and there is a new one: those are other lines.
    summary = [line for line in asking.lines if line.endswith(" dropped; --verbose shows why")]
    assert len(summary) == 1
    assert len([line for line in asking.lines if "nats://" not in line]) == 3  # with the two of the request's summary
