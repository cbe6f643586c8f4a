"""Forged, copied and misplaced records of a lock, and junk.

Attacker: a login at the broker with the permissions of a node, but without a key of ours, or with one that may not use
the lock. What must happen: it can delay a lock, but ends no lease, and no node gets a lock that another one holds; what
was blocked can be had again by an administrator.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from remaphore.coordination import streams
from remaphore.coordination.guardian import boottime
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Lock, Waiting
from remaphore.coordination.lock_states import evict, states
from remaphore.coordination.setup import make_streams
from remaphore.errors import CoordinationUnavailableError, LeaseLostError, SubjectDeniedError
from remaphore.protocol.lease import HISTORY, Lease
from remaphore.protocol.record import Entry
from remaphore.transport.nats_client import NatsBus
from tests.harness.locks import lock_config, lock_of, record_of, slot_of
from tests.harness.nats_server import connected, running

HOLDER, NEXT, ADMIN, STRANGER = 1, 2, 3, 35
ROOT = "remaphore"
TTL = 20.0  # seconds of the holder: longer than any test
KNOWN = range(1, 4)


@dataclass
class Site:
    """holder: its connection. attacker: one with the same permissions. admin: one that may all."""

    holder: JetStream
    attacker: JetStream
    attackers_bus: NatsBus
    admin: JetStream
    loose: NatsBus

    async def history(self, name: str = "a") -> list[Entry]:
        return await self.admin.history(slot_of(self.admin, name))

    async def held(self, name: str = "a") -> tuple[Lock, Lease]:
        lock = lock_of(self.holder, HOLDER, name, ttl=TTL, config=lock_config(HOLDER, knows=KNOWN))
        lease = await lock.take(wait=0)
        assert lease is not None
        return lock, lease

    async def send(self, *raw: bytes, name: str = "a") -> None:
        for each in raw:
            await self.attacker.publish(slot_of(self.attacker, name), each)

    async def is_free(
        self, *, wait: float = 0, name: str = "a", told: Callable[[Waiting], None] = lambda _w: None
    ) -> bool:
        """Return whether another node gets the lock."""
        lock = lock_of(self.attacker, NEXT, name, config=lock_config(NEXT, knows=KNOWN))
        lease = await lock.take(wait=wait, on_waiting=told)
        return lease is not None and await lock.release(lease)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[NatsBus, ...]]:
    """The connections of an administrator, two nodes, and a login whose permissions are too wide."""
    folder: Path = tmp_path_factory.mktemp("broker")
    node = json.dumps(streams.permissions(ROOT, frozenset({"*"})))
    config = f"""jetstream {{ store_dir: "{folder}/data" }}
accounts: {{ A: {{ jetstream: enabled, users: [ {{ user: admin, password: x }},
  {{ user: node, password: x, permissions: {node} }},
  {{ user: loose, password: x, permissions: {{ publish: ["{ROOT}.>"], subscribe: ["{ROOT}.>"] }} }} ] }} }}"""
    async with running(folder, config) as server, AsyncExitStack() as stack:
        buses = [
            await stack.enter_async_context(connected(server.url.replace("//", f"//{user}:x@")))
            for user in ("admin", "node", "node", "loose")
        ]
        yield tuple(buses)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def site(broker: tuple[NatsBus, ...]) -> Site:
    """New streams on that broker."""
    admin, holder, attacker, loose = broker
    await make_streams(JetStream(admin, ROOT), ROOT, recreate=True)
    return Site(JetStream(holder, ROOT), JetStream(attacker, ROOT), attacker, JetStream(admin, ROOT), loose)


async def test_the_permissions_of_a_node_are_enough(site: Site) -> None:
    lock, lease = await site.held()
    await lock._holding.renew(lease)
    assert await lock.release(lease)
    assert await site.is_free()


async def test_a_forged_hold_in_the_name_of_a_node_delays_by_one_time_to_live(site: Site) -> None:
    lock = lock_of(site.holder, HOLDER, config=lock_config(HOLDER, knows=KNOWN))
    lease = await lock.take(wait=0)
    assert lease is not None
    await lock.release(lease)
    (*_, free) = await site.history()
    await site.send(free.raw.replace(b'"do":"free"', b'"do":"hold"'))
    began, told = boottime(), []
    assert not await site.is_free(told=told.append)
    assert "signature is invalid" in told[0].problems[0]
    assert await site.is_free(wait=30)
    assert boottime() < began + 10


async def test_old_records_that_are_sent_again_free_nothing(site: Site) -> None:
    lock, lease = await site.held()
    await lock.release(lease)
    hold, free = await site.history()
    lock, lease = await site.held()
    for again in ([free], [hold, free], [free, hold, free], [hold, free] * HISTORY):
        await site.send(*(entry.raw for entry in again))
        told: list[Waiting] = []
        assert not await site.is_free(told=told.append)
        assert "another place" in told[0].problems[0]
        await lock._holding.renew(lease)  # and the holder stays the holder
    assert await lock.release(lease)
    assert await site.is_free()


async def test_records_of_another_lock_or_slot_free_nothing(site: Site) -> None:
    other, lease = await site.held("b")
    await other.release(lease)
    lock, lease = await site.held()
    free_of_other = (await site.history("b"))[-1].raw
    free_of_slot = record_of(HOLDER, "free", lease.last, slot=1, session=lease.session)
    for raw, problem in ((free_of_other, "no record"), (free_of_slot, "another slot")):
        await site.send(raw)
        told: list[Waiting] = []
        assert not await site.is_free(told=told.append)
        assert problem in told[0].problems[0]
        await lock._holding.renew(lease)


@pytest.mark.parametrize("do", ["hold", "free"])
async def test_well_formed_records_of_a_stranger_change_nothing(do: str, site: Site) -> None:
    lock, lease = await site.held()
    for session in ("ff", lease.session):
        await site.send(record_of(STRANGER, do, lease.last, session=session))
        told: list[Waiting] = []
        assert not await site.is_free(told=told.append)
        assert "may not use lock:a" in told[0].problems[0]
        await lock._holding.renew(lease)


@pytest.mark.parametrize("number", [STRANGER, 30])
@pytest.mark.parametrize("now", [False, True])
async def test_an_eviction_counts_only_of_who_may_evict_this_lock(number: int, *, now: bool, site: Site) -> None:
    lock, lease = await site.held()
    said = {"session": lease.session, "now": now}
    for raw in (
        record_of(number, "evict", lease.last, verb="evict:a", **said),
        record_of(ADMIN, "evict", lease.last, verb="evict:b", **said),
        record_of(ADMIN, "evict", lease.last, verb="lock:a", **said),
        record_of(ADMIN, "evict", None, verb="evict:a", **said),
    ):
        await site.send(raw)
        assert not await site.is_free()
        await lock._holding.renew(lease)
    await evict(site.admin, lock_config(ADMIN, knows=KNOWN), "a")
    with pytest.raises(LeaseLostError, match="evicted"):
        await lock._holding.renew(lease)


async def test_an_old_eviction_ends_no_later_lease(site: Site) -> None:
    _, lease = await site.held()
    await evict(site.admin, lock_config(ADMIN, knows=KNOWN), "a", now=True)
    old = (await site.history())[-1].raw
    lock, lease = await site.held()
    await site.send(old)
    assert not await site.is_free()
    await lock._holding.renew(lease)
    assert await lock.release(lease)


async def test_nobody_deletes_records(site: Site) -> None:
    _, lease = await site.held()
    records = site.admin.records
    calls = {f"STREAM.PURGE.{records}": {}, f"STREAM.MSG.DELETE.{records}": {"seq": lease.token}}
    for js in (site.admin, site.attacker):
        for name, body in calls.items():
            with pytest.raises(CoordinationUnavailableError, match=r"not permitted|no permission"):
                await js.api(name, body)
    for action in ("DELETE", "UPDATE", "CREATE"):
        with pytest.raises(CoordinationUnavailableError, match="no permission"):
            await site.attacker.api(f"STREAM.{action}.{records}", {})
    for headers in ({"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}, {"Nats-Incr": "1"}, {"Nats-Schedule": "@every 1s"}):
        (answer,) = await site.attackers_bus.request(
            slot_of(site.attacker), b"", inbox=f"{ROOT}.inbox", timeout=5, headers=headers
        )
        assert b'"error"' in answer.data, headers
    assert (await site.history())[-1] == lease.last


async def test_no_node_forges_what_the_broker_says(site: Site) -> None:
    """Who may read all below the root sees the names of inboxes; whoever may also publish there is as the operator."""
    seen: list[str] = []
    end = await site.loose.listen(f"{ROOT}.inbox.>", lambda response: seen.append(response.subject))
    lock, lease = await site.held()
    await lock.release(lease)
    end()
    assert seen
    for subject in (seen[0], f"{ROOT}.happened.lock.a.0"):
        with pytest.raises(SubjectDeniedError):
            await site.attackers_bus.publish(subject, b"{}")


async def test_forged_events_and_tickets_let_nobody_in(site: Site) -> None:
    lock, lease = await site.held()
    told: list[Waiting] = []
    waiter = asyncio.get_running_loop().create_task(site.is_free(wait=2.5, told=told.append))
    ticket = record_of(STRANGER, "wait", None, session="ff", place=1)
    for number in range(50):
        await site.loose.publish(f"{ROOT}.happened.lock.a.0", b"junk %d" % number)
        await site.loose.publish(f"{ROOT}.queue.lock.a.ff", ticket)
    await lock._holding.renew(lease)
    assert not await waiter
    assert {waiting.ahead for waiting in told} == {0}
    assert await lock.release(lease)
    began = boottime()
    assert await site.is_free()
    assert boottime() < began + 5


async def test_more_tickets_than_the_broker_lists_keep_no_node_out(site: Site) -> None:
    tickets = (f"{ROOT}.queue.lock.a.{number}" for number in range(1025))
    await asyncio.gather(*(site.attackers_bus.publish(where, b"junk") for where in tickets))
    lock, lease = await site.held()
    (state,) = await states(site.admin, lock_config(ADMIN, knows=KNOWN), "a")
    assert state.slots[0].holder is not None
    assert await lock.release(lease)
    assert await site.is_free()


async def test_more_junk_than_the_broker_lists_hides_no_holder_and_prevents_no_eviction(site: Site) -> None:
    lock, lease = await site.held()
    junk = (f"{ROOT}.coord.lock.a.{number:x>3000}" for number in range(400))  # whose names have more than a mebibyte
    await asyncio.gather(*(site.attackers_bus.publish(where, b"junk") for where in junk))
    config = lock_config(ADMIN, knows=KNOWN)
    (state,) = await states(site.admin, config, "a")
    assert state.slots[0].holder is not None
    with pytest.raises(CoordinationUnavailableError, match="more subjects than a response has room for"):
        await states(site.admin, config)
    await evict(site.admin, config, "a")
    with pytest.raises(LeaseLostError, match="evicted"):
        await lock._holding.renew(lease)


async def test_an_administrator_gets_back_a_lock_that_junk_blocks(site: Site) -> None:
    lock, lease = await site.held()
    await lock.release(lease)
    await site.send(*[b"junk"] * (HISTORY + 1))
    assert not await site.is_free(wait=1.5)  # who holds it may have been pushed out: it may be an hour
    (ended,) = await evict(site.admin, lock_config(ADMIN, knows=KNOWN), "a", now=True)
    assert "signature is invalid" in ended.problem
    assert await site.is_free()


async def test_a_stream_that_is_full_ends_a_lease_safely_and_making_it_again_gives_the_locks_back(site: Site) -> None:
    config = (await site.admin.info(site.admin.records))["config"]
    await site.admin.api(f"STREAM.UPDATE.{site.admin.records}", {**config, "max_bytes": 20_000})
    lock = lock_of(site.holder, HOLDER, ttl=1.5, config=lock_config(HOLDER, knows=KNOWN))
    lease = await lock.take(wait=0)
    assert lease is not None

    async def fill() -> None:
        for number in range(1000):
            await site.attacker.publish(f"{ROOT}.coord.lock.junk{number}.0", b"x" * 900)

    with pytest.raises(CoordinationUnavailableError, match="maximum"):
        await fill()
    with pytest.raises(LeaseLostError, match=r"not renewed in time \(.*maximum"):
        await asyncio.wait_for(lock.keep(lease), 30)
    assert boottime() < lease.deadline + 5
    await make_streams(site.admin, ROOT, recreate=True)
    _, later = await site.held()
    assert later.token > lease.token
