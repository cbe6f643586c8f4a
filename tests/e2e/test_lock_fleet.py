"""Sixteen real processes use a lock and a semaphore for ten minutes while brokers, networks and they themselves fail.

Never two commands at one time, no token that goes back, no process of an older command beside a new one; and leases are
taken again after each fault. `make test-long` runs all; run one with -s to see its figures.
"""

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.setup import make_streams
from tests.e2e.lock_fleet import COMMAND, NAMES, SLOTS, Account, Fleet
from tests.harness import nats_cluster
from tests.harness.nats_server import NatsServer, connected, jetstream_config
from tests.harness.proxies import proxied

SECONDS = 600.0
# Seconds from the end of a fault to the next lease: a ttl if the holder is gone, 8 s to elect a leader, and the time in
# which the next faults interfere. Under load.
MOST = 60.0
CLUSTER_TTL = 6.0  # shorter than what docs/coordination.md advises, so that leases are lost


@asynccontextmanager
async def one_broker(folder):
    server = NatsServer(folder / "server", jetstream_config(folder / "data"))
    await server.start()
    try:
        async with connected(server) as bus:
            await make_streams(JetStream(bus, "r"), "r", replicas=1)
        yield server
    finally:
        await server.stop(signal.SIGKILL)


@asynccontextmanager
async def broker_killed(folder):
    async with one_broker(folder) as server:
        fleet = Fleet(folder / "fleet", servers=lambda _number: [server.url], seed=11)

        async def trouble():
            await asyncio.sleep(fleet.dice.uniform(2, 6))
            await server.stop(signal.SIGKILL)
            await asyncio.sleep(fleet.dice.uniform(0.1, 2))
            await server.start()

        yield fleet, trouble


@asynccontextmanager
async def broker_stopped(folder):
    async with one_broker(folder) as server:
        fleet = Fleet(folder / "fleet", servers=lambda _number: [server.url], seed=12)

        async def trouble():
            await asyncio.sleep(fleet.dice.uniform(2, 8))
            await server.pause()
            await asyncio.sleep(fleet.dice.uniform(0.5, 2 * fleet.ttl))
            server.resume()

        yield fleet, trouble


@asynccontextmanager
async def network_cut(folder):
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(one_broker(folder))
        wires = [await stack.enter_async_context(proxied(server)) for _ in range(4)]
        fleet = Fleet(folder / "fleet", servers=lambda number: [wires[number % 4].url], seed=13)

        async def trouble():
            await asyncio.sleep(fleet.dice.uniform(1, 6))
            cut = fleet.dice.sample(wires, fleet.dice.choice((1, 2, 3, 4)))
            how = fleet.dice.choice(("cut", "mute", "reset"))
            for wire in cut:
                wire.mute() if how == "mute" else wire.cut()
            await asyncio.sleep(0 if how == "reset" else fleet.dice.uniform(0.5, 2 * fleet.ttl))
            for wire in cut:
                wire.restore()

        yield fleet, trouble


@asynccontextmanager
async def leader_lost(folder, *, stops):
    async with nats_cluster.cluster(folder) as servers:
        urls = [server.url for server in servers]
        fleet = Fleet(folder / "fleet", servers=lambda n: urls[n % 3 :] + urls[: n % 3], ttl=CLUSTER_TTL, seed=14)

        async def trouble():
            await asyncio.sleep(fleet.dice.uniform(3, 8))
            found = await nats_cluster.leader(servers)
            await (found.pause() if stops else found.stop(signal.SIGKILL))
            await asyncio.sleep(fleet.dice.uniform(3, 6))
            if stops:
                found.resume()
            else:
                await found.start()

        yield fleet, trouble


FAULTS = {
    "the broker is killed": broker_killed,
    "the broker is stopped": broker_stopped,
    "the network is cut": network_cut,
    "the leader of a cluster is killed": lambda folder: leader_lost(folder, stops=False),
    "the leader of a cluster is stopped": lambda folder: leader_lost(folder, stops=True),
}


def figures(line):
    """Show a line of figures with `pytest -s`."""
    sys.stdout.write(f"{line}\n")


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("fault", FAULTS)
async def test_never_two_commands_at_one_time_while(fault, tmp_path):
    async with FAULTS[fault](tmp_path) as (fleet, trouble):
        await fleet.run(SECONDS, trouble)
    figures(f"{fault}: {SECONDS:g} s, {len(fleet.faults)} faults, exit codes {dict(fleet.codes)}")
    for kind in NAMES:
        account = fleet.account(kind)
        longest = account.longest_after(fleet.faults)
        overlaps, back = account.overlaps(), account.tokens_back()
        figures(f"  {kind}: {account.leases} leases, {len(overlaps)} overlaps, {back} tokens back, {account.old}")
        figures(
            f"  longest without a lease after a fault {longest:.1f} s, longest wait {fleet.longest_waits[kind]:.1f} s"
        )
        assert (overlaps, back, account.old) == ([], 0, [])
        assert set(account.begins) == set(range(SLOTS if kind == "semaphore" else 1))
        assert longest < MOST
        assert account.leases > SECONDS / 20
    assert fleet.problems == []


def run_commands(folder, *, slots=("0", "0"), tokens=("1", "2"), beside=True):
    """Run the command of a fleet twice, one *beside* the other, and return what is to be seen of it."""
    file, running = folder / "signs", []
    for slot, token in zip(slots, tokens, strict=True):
        own = {"LOCK_RUN": str(folder), "REMAPHORE_LOCK": "deploy", "REMAPHORE_LOCK_SLOT": slot}
        line = [sys.executable, "-S", "-c", COMMAND, str(file), "0.5" if beside else "0.05"]
        environment = {**own, "REMAPHORE_LOCK_TOKEN": token}
        running.append(subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True))
        assert running[-1].stdout.readline()
        if not beside:
            running[-1].wait()
    for each in running:
        each.wait()
        each.stdout.close()
    return Account(file), running


def test_the_account_finds_commands_that_run_at_one_time_and_tokens_that_go_back(tmp_path):
    def seen(name, **how):
        (tmp_path / name).mkdir()
        account, running = run_commands(tmp_path / name, **how)
        assert account.leases == 2
        return (
            len(account.overlaps()) > 2,
            account.old == [(int(how["tokens"][1]), running[0].pid)],
            account.tokens_back(),
        )

    assert seen("beside", tokens=("1", "2")) == (True, True, 0)
    assert seen("beside in another slot", tokens=("1", "2"), slots=("0", "1")) == (False, False, 0)
    assert seen("after", tokens=("1", "2"), beside=False) == (False, False, 0)
    assert seen("back", tokens=("2", "1"), beside=False) == (True, False, 1)


def test_the_account_measures_the_time_without_leases(tmp_path):
    file = tmp_path / "signs"
    moments = (1.0, 4.0, 4.5, 9.0)
    file.write_text("".join(f"begin 0 {token} {int(t * 1e9)} 1\n" for token, t in enumerate(moments)))
    assert Account(file).longest_after([0.5, 2.0, 4.0, 4.2]) == 2.0
    assert Account(file).longest_after([8.0, 10.0]) > time.monotonic() - 11
