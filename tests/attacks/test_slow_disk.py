"""Sending faster than the disk can record, so that what waits to be written fills the memory.

Attacker: a permitted peer gone bad; or a disk that has become slow. What must happen: no more than a bounded number is
accepted; what was dropped was not recorded, so it starts if it is sent again once the disk has caught up.
"""

import asyncio
import threading

from remaphore.protocol.drop import DropReason
from remaphore.receiving.ledger import ledger
from remaphore.receiving.ledger.store import Store
from tests.harness.factories import NOW, make_encoded

LIMIT = 20


async def test_a_slow_disk_bounds_what_is_accepted_and_loses_nothing_of_it(target, monkeypatch):
    monkeypatch.setattr(ledger, "MAX_BEHIND", LIMIT)
    apply, disk = Store.apply, threading.Event()

    def slow(self, *batch):
        assert disk.wait(20)
        return apply(self, *batch)

    monkeypatch.setattr(Store, "apply", slow)
    raws = [make_encoded(verb=f"v{number}", payload=b"%d" % number, time_ns=NOW + number) for number in range(300)]
    disk.set()
    async with target() as daemon:
        disk.clear()
        bus = daemon.broker.connect()
        for raw in raws:
            await bus.publish("remaphore.all", raw)
            while daemon.daemon._admission.checking:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert daemon.status.dropped[DropReason.BUSY] > 200
        assert len(daemon.daemon._ledger._pending) < 3 * LIMIT
        disk.set()
        await daemon.quiet()
        accepted = len(daemon.ran)
        assert 0 < accepted < 100
        await daemon.hit(*raws[-LIMIT // 4 :])
        assert len(daemon.ran) == accepted + LIMIT // 4
