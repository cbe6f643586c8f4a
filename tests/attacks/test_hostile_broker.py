"""The broker, which sees all and delivers what it likes: twice, late, in another order, changed, or nothing at all.

Attacker: the administrator of the broker, or an intruder there. What must happen: it starts nothing twice, nothing
changed and nothing late; it can drop messages, and read them: neither is promised against it.
"""

from remaphore.protocol.duration import SECOND
from tests.harness.factories import NOW, SKEW, make_encoded, sign_again

BATCH = [make_encoded(1, payload=b"%d" % number, time_ns=NOW + number) for number in range(20)]


async def test_what_is_delivered_many_times_starts_once(target):
    async with target() as daemon:
        for _ in range(5):
            await daemon.hit(*BATCH, *reversed(BATCH), *map(sign_again, BATCH))
        assert sorted(daemon.ran) == sorted(("ping", b"%d" % number) for number in range(20))


async def test_what_is_held_back_until_the_window_has_closed_does_not_start(target):
    async with target() as daemon:
        daemon.clock.set(NOW + SKEW + SECOND)
        await daemon.hit(*BATCH)
        assert daemon.ran == []


async def test_parts_of_different_messages_make_no_other(target):
    other = make_encoded(1, verb="deploy", payload=b"other")
    async with target() as daemon:
        for raw in BATCH[:5]:
            fields, others = raw.split(b",", 7), other.split(b",", 7)
            mixed = (b",".join([*fields[:place], others[place], *fields[place + 1 :]]) for place in range(1, 8))
            await daemon.hit(*(message for message in mixed if message not in (raw, other)))
        assert daemon.ran == []


async def test_what_a_restart_forgets_in_memory_does_not_start_again(target):
    async with target() as daemon:
        await daemon.hit(*BATCH)
        assert len(daemon.ran) == 20
    async with target() as daemon:
        # Those with another signature first: after a copy of its own, the window would know what was signed again.
        await daemon.hit(*map(sign_again, BATCH), *BATCH)
        assert daemon.ran == []


async def test_a_clock_that_is_set_back_starts_nothing_again(target):
    async with target() as daemon:
        await daemon.hit(*BATCH)
        daemon.clock.set(NOW + 10 * SKEW)
        await daemon.hit(make_encoded(1, payload=b"later", time_ns=NOW + 10 * SKEW))
        daemon.clock.set(NOW)
        await daemon.hit(*BATCH)
        assert len(daemon.ran) == 21
