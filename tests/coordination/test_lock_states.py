"""What an administrator sees of locks, and what ends them."""

from __future__ import annotations

import pytest

from remaphore.coordination import lock_states
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock_states import LockState, SlotState, evict, states
from remaphore.errors import SequenceConflictError, UsageError
from remaphore.tasks import spawn
from tests.coordination.test_jetstream import StreamsOf
from tests.harness.factories import make_key
from tests.harness.locks import lock_config, lock_of, record_of, slot_of
from tests.harness.waiting import until


async def state_of(js: JetStream, name: str = "a", **options: object) -> LockState:
    (found,) = await states(js, lock_config(9, root=js.root, **options), name)  # type: ignore[arg-type]
    return found


async def test_holders_and_waiters_are_listed_in_order(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        assert await states(js, lock_config(9, root=root)) == []
        locks = [lock_of(js, number, "b", slots=2, ttl=30, note="deploy v42") for number in (1, 2)]
        leases = [await lock.take(wait=0) for lock in locks]
        tasks = []
        for number in (3, 4):
            heard: list[object] = []
            waiting = lock_of(js, number, "b", slots=2, ttl=30).take(wait=None, on_waiting=heard.append)
            tasks.append(spawn(waiting, name="waiter"))
            await until(lambda heard=heard: heard)
        await lock_of(js, 1, "a").take(wait=0)
        first, second = await states(js, lock_config(9, root=root))
        assert (first.name, second.name, second.problem) == ("a", "b", "")
        holders = [slot.holder for slot in second.slots]
        assert [holder and (holder.who, holder.known, holder.ttl, holder.note) for holder in holders] == [
            ("com.node1", True, 30, "deploy v42"),
            ("com.node2", True, 30, "deploy v42"),
        ]
        assert [holder and holder.token for holder in holders] == [lease and lease.token for lease in leases]
        assert [(waiter.who, waiter.known) for waiter in second.waiters] == [("com.node3", True), ("com.node4", True)]
        for task in tasks:
            task.cancel()


async def test_a_free_lock_and_slots_that_were_never_taken_are_listed(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        lock = lock_of(js, 1, slots=3)
        lease = await lock.take(wait=0)
        assert lease is not None
        await lock.release(lease)
        found = await state_of(js)
        assert found.slots == (SlotState(0, None), SlotState(1, None), SlotState(2, None))
        with pytest.raises(UsageError):
            await states(js, lock_config(9, root=js.root), "a b")
        assert await states(js, lock_config(9, root=js.root), "other") == []


async def test_who_is_not_among_our_peers_is_shown_by_its_key(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        await lock_of(js, 1).take(wait=0)
        heard: list[object] = []
        waiting = spawn(lock_of(js, 2).take(wait=None, on_waiting=heard.append), name="waiter")
        await until(lambda: heard)
        found = await state_of(js, knows=())
        (slot,) = found.slots
        assert slot.holder is not None
        assert (slot.holder.who, slot.holder.known) == (make_key(1).public, False)
        assert "may not use lock:a" in slot.problem
        assert found.problem == f"defined by {make_key(1).public}, which may not use lock:a here"
        assert found.waiters == ()
        waiting.cancel()


async def test_junk_is_shown_with_who_held_the_lock_before_it(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _):
        await lock_of(js, 1).take(wait=0)
        await js.publish(slot_of(js), b"junk")
        await js.publish(slot_of(js, last="def"), b"junk")
        await js.publish(slot_of(js, last="x"), b"junk")
        await js.publish(slot_of(js, "b", last="def"), b"junk")
        await js.publish(f"{js.root}.coord.lock.list.0", b"junk")
        found, other = await states(js, lock_config(9, root=js.root))
        (slot,) = found.slots
        assert slot.holder is not None
        assert (slot.holder.who, slot.problem) == ("com.node1", "it is no record, or its signature is invalid")
        assert (found.problem, other.problem) == ("", "no record defines the number of slots")


async def test_an_eviction_that_waits_for_the_holder_is_shown(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        config = lock_config(3, root=root)
        assert await evict(js, config, "a") == []
        await lock_of(js, 1, slots=2).take(wait=0)
        await lock_of(js, 2, slots=2).take(wait=0)
        ended = await evict(js, config, "a")
        assert [(slot.index, slot.holder and slot.holder.who) for slot in ended] == [(0, "com.node1"), (1, "com.node2")]
        assert [(slot.evicted, slot.problem) for slot in (await state_of(js)).slots] == [("com.node3", "")] * 2
        assert [slot.index for slot in await evict(js, config, "a", now=True)] == [0, 1]
        assert [slot.holder for slot in (await state_of(js)).slots] == [None, None]
        assert await evict(js, config, "a", now=True) == []


async def test_a_session_that_we_do_not_know_is_evicted_by_what_it_says(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        lock = lock_of(js, 1, ttl=30)
        lease = await lock.take(wait=0)
        assert lease is not None
        await evict(js, lock_config(3, root=root, knows=()), "a")
        with pytest.raises(Exception, match="evicted"):
            await lock.keep(lease)


class Renewing(JetStream):
    """Another record comes before each one that is written."""

    async def publish(self, where: str, raw: bytes, *, after: int | None = None, ttl: int | None = None) -> int:
        await super().publish(where, b"junk")
        return await super().publish(where, raw, after=after, ttl=ttl)


async def test_an_eviction_that_others_do_not_let_through_is_an_error(
    streams_of: StreamsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_states, "_TRIES", 3)
    async with streams_of() as (js, bus, root):
        await js.publish(slot_of(js), record_of(1, "hold", None))
        with pytest.raises(SequenceConflictError, match="faster than the eviction"):
            await evict(Renewing(bus, root), lock_config(3, root=root), "a")
