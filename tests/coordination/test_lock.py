"""Locks on a real JetStream: who gets them, in which order, and what ends a lease."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from remaphore.coordination import streams
from remaphore.coordination.guardian import boottime
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Lock, Waiting
from remaphore.coordination.lock_states import evict
from remaphore.coordination.setup import make_streams
from remaphore.errors import (
    BrokerUnavailableError,
    CoordinationUnavailableError,
    LeaseLostError,
    NotPermittedError,
    TransportError,
    UsageError,
)
from remaphore.protocol.lease import CLOCK_RATE, HISTORY, MARGIN, Lease
from remaphore.protocol.line import HANDOVER
from remaphore.protocol.record import Entry
from remaphore.tasks import spawn
from tests.coordination.test_jetstream import StreamsOf
from tests.harness.factories import make_key
from tests.harness.locks import lock_config, lock_of, record_of, slot_of
from tests.harness.nats_server import NatsServer, connected, jetstream_config, running
from tests.harness.proxies import Proxy, proxied
from tests.harness.waiting import until


async def held(lock: Lock, *, wait: float | None = 30) -> Lease:
    lease = await lock.take(wait=wait)
    assert lease is not None
    return lease


@asynccontextmanager
async def kept(lock: Lock, lease: Lease) -> AsyncIterator[asyncio.Task[None]]:
    task = spawn(lock.keep(lease), name="keep")
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, LeaseLostError):
            await task


async def test_one_holds_and_tokens_grow(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        left, right = lock_of(js, 1), lock_of(js, 2)
        heard: list[Waiting] = []
        tokens = []
        for lock, other in ((left, right), (right, left), (left, right)):
            lease = await held(lock, wait=0)
            tokens.append(lease.token)
            assert await other.take(wait=0, on_waiting=heard.append) is None
            assert await lock.release(lease)
        assert tokens == sorted(set(tokens))
        (holder,) = heard[0].holders
        assert (holder.who, holder.token, heard[0].ahead, heard[0].problems) == ("com.node1", tokens[0], 0, ())
        other_name = lock_of(js, 2, "b")
        assert await other_name.release(await held(other_name, wait=0))


@pytest.mark.parametrize("slots", [1, pytest.param(3, marks=pytest.mark.long), pytest.param(5, marks=pytest.mark.long)])
async def test_thirty_waiters_get_it_in_the_order_in_which_they_came(
    slots: int, streams_of: StreamsOf, server: NatsServer
) -> None:
    async with streams_of() as (js, _, root), connected(server) as other:
        connections = js, JetStream(other, root)
        first = [lock_of(js, 30 + number, ttl=30, slots=slots) for number in range(slots)]
        leases = [await held(lock) for lock in first]
        order: list[int] = []
        waiting: set[int] = set()

        async def wait(number: int) -> None:
            lock = lock_of(connections[number % 2], number, ttl=30, slots=slots)
            found = await lock.take(wait=None, on_waiting=lambda _waiting: waiting.add(number))
            assert found is not None
            order.append(number)
            if slots > 1:
                await asyncio.sleep(number % 4 * 0.05)
            assert await lock.release(found)

        tasks = []
        for number in range(30):
            tasks.append(spawn(wait(number), name="waiter"))
            await until(lambda number=number: number in waiting)
        for lock, lease in zip(first, leases, strict=True):
            assert await lock.release(lease)
        await asyncio.gather(*tasks)
        # Slots that are free at one time are taken at one time, by as many.
        behind = [
            number - other for place, number in enumerate(order) for other in order[place + 1 :] if other < number
        ]
        assert len(order) == 30
        assert max(behind, default=0) < slots


async def test_a_semaphore_has_as_many_holders_as_slots(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        locks = [lock_of(js, number, slots=3, ttl=30) for number in range(5)]
        leases = await asyncio.gather(*(held(lock) for lock in locks[:3]))
        assert sorted(lease.slot for lease in leases) == [0, 1, 2]
        assert await locks[3].take(wait=0) is None
        waiter = spawn(held(locks[4]), name="waiter")
        await locks[1].release(leases[1])
        assert (await waiter).slot == leases[1].slot
        assert len({lease.token for lease in leases}) == 3


async def test_another_number_of_slots_is_an_error_that_names_who_defined_it(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        await held(lock_of(js, 1, slots=2))
        await js.publish(slot_of(js, last="def"), b"junk")  # takes no definition away
        with pytest.raises(UsageError, match=r"has 2 slots, defined by com.node1; not 1"):
            await lock_of(js, 2).take(wait=0)


@pytest.mark.parametrize(
    "raw", [b"junk", record_of(35, "define", None, slots=7), record_of(1, "define", None, slots=0)]
)
async def test_a_definition_that_means_nothing_is_written_again(raw: bytes, streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        await js.publish(slot_of(js, last="def"), raw)
        known = lock_config(1, knows=range(30), root=root)
        await held(lock_of(js, 1, config=known))
        with pytest.raises(UsageError, match=r"defined by com.node1"):
            await lock_of(js, 2, slots=7).take(wait=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "list"}, "list is an action"),
        ({"name": "a.b"}, "cannot be the name"),
        ({"slots": 0}, "0 slots"),
        ({"slots": 101}, "101 slots"),
        ({"ttl": 0.5}, "0.5 s"),
        ({"ttl": 3601}, "3601 s"),
    ],
)
async def test_what_no_lock_can_be_is_an_error(options: dict, message: str, streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, _):
        with pytest.raises(UsageError, match=message):
            lock_of(js, 1, **options)


async def test_a_holder_that_is_gone_is_followed_after_its_time_to_live(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        gone = await held(lock_of(js, 1, ttl=1.5))
        next_one = await held(lock_of(js, 2, ttl=30))
        taken = boottime()
        assert taken >= gone.deadline + 1.5 * (CLOCK_RATE - 1) + MARGIN
        assert taken < gone.deadline + 5
        assert next_one.token > gone.token


async def test_a_lease_that_is_renewed_outlasts_its_time_to_live(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        lock, other = lock_of(js, 1), lock_of(js, 2)
        lease = await held(lock)
        begin, renewed = lease.deadline, []
        task = spawn(lock.keep(lease, on_renewed=renewed.append), name="keep")
        assert await other.take(wait=2.5) is None
        task.cancel()
        assert len(renewed) >= 4
        assert renewed == sorted(renewed)
        assert renewed[0] > begin
        assert lease.deadline == renewed[-1]
        assert await lock.release(lease)


async def test_a_dead_waiter_costs_the_next_one_a_moment(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        lock = lock_of(js, 1, ttl=30)
        lease = await held(lock)
        raw = record_of(3, "wait", None, session="dead", place=1)
        await js.publish(f"{js.root}.queue.lock.a.dead", raw, ttl=15)
        heard: list[Waiting] = []
        waiter = spawn(lock_of(js, 2).take(wait=30, on_waiting=heard.append), name="waiter")
        await until(lambda: heard)
        assert heard[0].ahead == 1
        freed = boottime()
        await lock.release(lease)
        assert await waiter is not None
        assert freed + HANDOVER <= boottime() < freed + 5


async def test_who_takes_no_wait_still_waits_for_its_turn_at_a_free_slot(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        raw = record_of(3, "wait", None, session="dead", place=1)
        await js.publish(f"{js.root}.queue.lock.a.dead", raw, ttl=15)
        began = boottime()
        await held(lock_of(js, 2), wait=0)
        assert boottime() >= began + HANDOVER
        unfair = lock_of(js, 2, "b", fair=False)
        await js.publish(f"{js.root}.queue.lock.b.dead", raw.replace(b":a", b":b"), ttl=15)
        began = boottime()
        await held(unfair, wait=0)


async def test_who_is_cancelled_while_it_waits_leaves_the_line(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        lock = lock_of(js, 1, ttl=30)
        lease = await held(lock)
        heard: list[Waiting] = []
        waiter = spawn(lock_of(js, 2, ttl=30).take(wait=None, on_waiting=heard.append), name="waiter")
        await until(lambda: heard)
        third = spawn(lock_of(js, 3, ttl=30).take(wait=None, on_waiting=heard.append), name="waiter")
        await until(lambda: heard[-1].ahead == 1)
        waiter.cancel()
        await until(lambda: heard[-1].ahead == 0, limit=10)  # it would be forgotten later
        await lock.release(lease)
        assert await third is not None


async def test_an_eviction_ends_a_lease_and_its_release_lets_the_next_one_in(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        lock = lock_of(js, 1, ttl=30)
        lease = await held(lock)
        waiter = spawn(held(lock_of(js, 2, ttl=30)), name="waiter")
        async with kept(lock, lease) as keeping:
            (ended,) = await evict(js, lock_config(3, root=root), "a")
            assert ended.holder is not None
            assert ended.holder.who == "com.node1"
            with pytest.raises(LeaseLostError, match=r"lock a lost: evicted by com.node3") as caught:
                await asyncio.wait_for(keeping, 10)
            assert caught.value.by == make_key(3).public
        assert await lock_of(js, 4).take(wait=0.3) is None  # its command may still run
        assert await lock.release(lease)
        assert (await waiter).token > lease.token
        assert not await lock.release(lease)  # it is another's


async def test_an_eviction_with_now_frees_the_slot_and_still_ends_the_lease(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        lock = lock_of(js, 1, ttl=30)
        lease = await held(lock)
        await evict(js, lock_config(3, root=root), "a", now=True)
        await held(lock_of(js, 2, ttl=30), wait=0)
        async with kept(lock, lease) as keeping:
            with pytest.raises(LeaseLostError, match=r"evicted by com.node3"):
                await asyncio.wait_for(keeping, 30)
        assert not await lock.release(lease)


async def test_who_may_not_evict_ends_nothing(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        await held(lock_of(js, 1))
        config = lock_config(2, root=root, verbs={"lock:*"})
        with pytest.raises(NotPermittedError):
            await evict(js, config, "a")


async def test_junk_ends_no_lease_and_pushes_none_out(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        lock = lock_of(js, 1, ttl=3)
        lease = await held(lock)
        for number in range(HISTORY + 1):
            await js.publish(slot_of(js), b"junk %d" % number)
        assert await js.at(lease.last.sequence) is None
        renewed: list[float] = []
        task = spawn(lock.keep(lease, on_renewed=renewed.append), name="keep")
        await until(lambda: len(renewed) > 1)
        task.cancel()
        assert await lock.release(lease)
        await held(lock_of(js, 2), wait=0)


async def test_a_flood_of_junk_ends_no_lease(streams_of: StreamsOf, server: NatsServer) -> None:
    async with streams_of() as (js, _, root), connected(server) as other:
        lock = lock_of(js, 1, ttl=5)
        lease = await held(lock)
        first = lease.last.sequence

        async def flood() -> None:
            while True:
                await JetStream(other, root).publish(slot_of(js), b"junk")

        flooding = [spawn(flood(), name="flood") for _ in range(4)]
        renewed: list[float] = []
        keeping = spawn(lock.keep(lease, on_renewed=renewed.append), name="keep")
        await until(lambda: len(renewed) > 1 or keeping.done())
        keeping.cancel()
        assert len(renewed) > 1
        assert lease.last.sequence > first + 200
        for task in flooding:
            task.cancel()
        assert await lock.release(lease)


async def test_a_node_that_does_not_know_the_holder_waits(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        lock = lock_of(js, 1)
        lease = await held(lock)
        heard: list[Waiting] = []
        stranger = lock_of(js, 2, config=lock_config(2, knows=(3,), root=root))
        async with kept(lock, lease):
            assert await stranger.take(wait=2.5, on_waiting=heard.append) is None
        assert "its sender may not use lock:a" in heard[0].problems[0]
        freed = boottime()
        await lock.release(lease)
        assert await stranger.take(wait=30) is not None
        assert boottime() >= freed + 1.0  # what it says about the slot counts for nothing


class Behind(JetStream):
    """Asks a replica that has only got so far: *known* records of each slot."""

    known = 10**18

    async def history(self, where: str, *, first: int = 1) -> list[Entry]:
        return [
            entry for entry in await super().history(where) if entry.sequence <= self.known and entry.sequence >= first
        ]


async def test_the_leader_is_asked_where_a_replica_is_behind_an_event(
    streams_of: StreamsOf, server: NatsServer
) -> None:
    async with streams_of() as (js, bus, root):
        lock = lock_of(js, 1, ttl=30)
        lease = await held(lock)
        behind = Behind(bus, root)
        heard: list[Waiting] = []
        waiter = spawn(lock_of(behind, 2, ttl=30).take(wait=None, on_waiting=heard.append), name="waiter")
        await until(lambda: heard)
        behind.known = lease.last.sequence
        await lock.release(lease)
        assert await asyncio.wait_for(waiter, 15) is not None


async def test_a_conflict_is_understood_where_a_replica_is_behind(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, bus, root):
        behind = Behind(bus, root)
        lock = lock_of(behind, 1, ttl=30)
        lease = await held(lock)
        behind.known = lease.last.sequence
        await js.publish(slot_of(js), b"junk")
        assert await lock.release(lease)
        await held(lock_of(js, 2), wait=0)


class Deaf(JetStream):
    """Gets no answer to the *lost* next records that it writes; they are stored all the same."""

    lost = 0
    wire: Proxy

    async def publish(self, where: str, raw: bytes, *, after: int | None = None, ttl: int | None = None) -> int:
        if not self.lost or ".coord." not in where:
            return await super().publish(where, raw, after=after, ttl=ttl)
        self.lost -= 1
        self.wire.mute()
        try:
            return await super().publish(where, raw, after=after, ttl=ttl)
        finally:
            self.wire.restore()


@asynccontextmanager
async def deaf(server: NatsServer, root: str) -> AsyncIterator[Deaf]:
    async with proxied(server) as wire, connected(wire.url) as bus:
        found = Deaf(bus, root, timeout=0.4)
        found.wire = wire
        yield found


async def test_records_are_found_whose_answer_was_lost_and_count_from_their_first_sending(
    streams_of: StreamsOf, server: NatsServer
) -> None:
    async with streams_of() as (js, _, root), deaf(server, root) as broken:
        lock = lock_of(broken, 1, ttl=20)
        await lock.release(await held(lock))
        broken.lost = 1
        began = boottime()
        lease = await held(lock)
        assert began <= lease.deadline - 20 <= boottime() - 0.4
        assert (broken.lost, len(await js.history(slot_of(js)))) == (0, 3)  # one hold alone

        broken.lost = 1
        began = boottime()
        with pytest.raises(TransportError):
            await lock._holding.renew(lease)
        renewed = boottime()
        await until_done(lambda: lock._holding.renew(lease))
        assert began <= lease.deadline - 20 <= renewed

        broken.lost = 1
        assert await lock.release(lease)
        assert await lock_of(js, 2).take(wait=0) is not None


async def until_done(act: Callable[[], Awaitable[None]]) -> None:
    """Call *act* until it gets an answer."""
    while True:
        with suppress(TransportError):
            return await act()


async def test_what_was_stored_for_who_gives_up_is_taken_back(streams_of: StreamsOf, server: NatsServer) -> None:
    async with streams_of() as (js, _, root), deaf(server, root) as broken:
        await js.publish(slot_of(js, last="def"), record_of(1, "define", None), after=0)
        broken.lost = 1
        assert await lock_of(broken, 1, ttl=600).take(wait=0) is None
        assert await lock_of(js, 2).take(wait=10) is not None


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[NatsServer, JetStream, JetStream]]:
    """A server that can be killed, and two connections to it."""
    config = jetstream_config(folder / "data")
    async with running(folder, config) as server, connected(server) as one, connected(server) as two:
        await make_streams(JetStream(one, "remaphore"), "remaphore")
        yield server, JetStream(one, "remaphore", timeout=0.5), JetStream(two, "remaphore", timeout=0.5)


async def test_a_broker_that_is_killed_and_comes_back_costs_neither_lease_nor_place(tmp_path: Path) -> None:
    async with site(tmp_path) as (server, one, two):
        lock = lock_of(one, 1, ttl=120)
        lease = await held(lock)
        heard: list[Waiting] = []
        waiters = []
        for number in (2, 3):
            waiters.append(spawn(held(lock_of(two, number, ttl=120), wait=None), name="waiter"))
            first = spawn(lock_of(two, 9).take(wait=0, on_waiting=heard.append), name="look")
            await first
            await until(lambda: heard)
        renewed: list[float] = []
        keeping = spawn(lock.keep(lease, on_renewed=renewed.append), name="keep")
        await server.stop(signal.SIGKILL)
        await server.start()
        await until(lambda: renewed)  # at once, not after a third of the time to live
        assert lease.deadline > boottime() + 100
        assert not any(waiter.done() for waiter in waiters)
        keeping.cancel()
        assert await lock.release(lease)
        second = await asyncio.wait_for(waiters[0], 60)
        assert not waiters[1].done()
        assert second.token > lease.token
        assert await lock_of(two, 2, ttl=120).release(second)
        assert (await asyncio.wait_for(waiters[1], 60)).token > second.token


async def test_without_a_broker_a_lease_is_lost_at_its_deadline_and_the_next_one_waits_for_the_broker(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as (server, one, two):
        lock = lock_of(one, 1, ttl=1.5)
        lease = await held(lock)
        heard: list[Waiting] = []
        waiter = spawn(lock_of(two, 2, ttl=30).take(wait=None, on_waiting=heard.append), name="waiter")
        keeping = spawn(lock.keep(lease), name="keep")
        await until(lambda: heard)
        await server.stop(signal.SIGKILL)
        with pytest.raises(LeaseLostError, match="lock a lost: not renewed in time"):
            await asyncio.wait_for(keeping, 30)
        assert boottime() == pytest.approx(lease.deadline, abs=1)
        assert not waiter.done()
        assert not await lock.release(lease, limit=0.3)
        await until(lambda: heard[-1].failure)
        assert heard[-1].holders == heard[0].holders != ()
        await server.start()
        second = await asyncio.wait_for(waiter, 60)
        assert second is not None
        assert second.token > lease.token


async def test_data_that_was_set_back_ends_a_lease_before_it_is_renewed_over_another_one(tmp_path: Path) -> None:
    async with site(tmp_path) as (server, one, two):
        first = lock_of(one, 1, ttl=20)
        await first.release(await held(first))
        await server.stop()
        shutil.copytree(tmp_path / "data", tmp_path / "backup")
        await server.start()
        lease = await until_held(first)
        await server.stop(signal.SIGKILL)
        shutil.rmtree(tmp_path / "data")
        shutil.copytree(tmp_path / "backup", tmp_path / "data")
        await server.start()
        second = await until_held(lock_of(two, 2, ttl=20))
        assert second.last.sequence == lease.last.sequence  # compare-and-set on it would succeed
        with pytest.raises(LeaseLostError, match="set back"):
            await until_renewed(first, lease)
        assert not await first.release(lease)
        assert (await two.history(slot_of(two)))[-1] == second.last


async def until_renewed(lock: Lock, lease: Lease) -> None:
    while True:  # the connection may still be away
        with suppress(TransportError):
            return await lock._holding.renew(lease)


async def until_held(lock: Lock) -> Lease:
    while True:
        with suppress(TransportError):
            return await held(lock, wait=10)


async def test_a_holder_notices_at_once_that_the_data_was_set_back_while_it_was_idle(tmp_path: Path) -> None:
    async with site(tmp_path) as (server, one, _):
        lock = lock_of(one, 1, ttl=600)
        lease = await held(lock)
        async with kept(lock, lease) as keeping:
            await server.stop()
            shutil.rmtree(tmp_path / "data")
            await server.start()
            async with connected(server) as bus:
                await make_streams(JetStream(bus, "remaphore"), "remaphore")
            with pytest.raises(LeaseLostError, match="set back"):
                await asyncio.wait_for(keeping, 30)


@pytest.mark.parametrize("wait", [0, 0.3])
async def test_without_a_broker_to_begin_with_it_is_an_error(wait: float, tmp_path: Path) -> None:
    async with site(tmp_path) as (server, one, _):
        lock = lock_of(one, 1)
        await server.stop()
        with pytest.raises(BrokerUnavailableError):
            await lock.take(wait=wait)


async def test_who_may_not_use_the_lock_or_has_no_streams_gets_an_error(streams_of: StreamsOf, tmp_path: Path) -> None:
    async with streams_of(made=False) as (js, _, root):
        with pytest.raises(CoordinationUnavailableError, match=f"no stream {root}-coord") as caught:
            await lock_of(js, 1).take(wait=None)
        assert "coordination init" in caught.value.hint
        config = lock_config(2, verbs={"lock:b"})
        with pytest.raises(NotPermittedError, match="lock:a"):
            lock_of(js, 2, config=config)
    async with running(tmp_path) as server, connected(server) as bus:
        with pytest.raises(CoordinationUnavailableError, match="JetStream is off"):
            await lock_of(JetStream(bus, "r"), 1).take(wait=None)


LOGIN = """
accounts: {{ A: {{ jetstream: enabled, users: [ {{ user: admin, password: x }}, {{ user: node, password: x,
  permissions: {{ publish: {{ allow: [{publish}] }}, subscribe: {{ allow: [{subscribe}] }} }} }} ] }} }}
"""


@pytest.mark.parametrize("missing", ["r.coord.>", "r.queue.>", "STREAM.MSG.GET", "r.happened.>"])
async def test_a_missing_permission_is_an_error_that_names_it(missing: str, tmp_path: Path) -> None:
    publish = [each for each in (*streams.reads("r"), "r.coord.>", "r.queue.>") if missing not in each]
    subscribe = [each for each in ("r.inbox.>", "r.queue.>", "r.happened.>") if each != missing or "queue" in each]
    login = LOGIN.format(publish=json.dumps(publish)[1:-1], subscribe=json.dumps(subscribe)[1:-1])
    config = f'jetstream {{ store_dir: "{tmp_path}/data" }}\n{login}'
    async with running(tmp_path, config) as server:
        async with connected(server.url.replace("//", "//admin:x@")) as bus:
            admin = JetStream(bus, "r")
            await make_streams(admin, "r")
            lease = await held(lock_of(admin, 1, ttl=30))
            if "coord" in missing:
                await lock_of(admin, 1).release(lease)
        async with connected(server.url.replace("//", "//node:x@")) as bus:
            with pytest.raises(CoordinationUnavailableError, match=f"no permission for .*{missing.rstrip('>')}") as e:
                await lock_of(JetStream(bus, "r"), 2).take(wait=None)
            assert "--print" in e.value.hint
