"""Pinging: every answer with its times, the missing peers by name, and an immediate stop."""

import asyncio
import time

import pytest

from remaphore.diagnostics.pinger import Pinger, reported_version
from remaphore.errors import NoReceiversError, SubjectDeniedError
from remaphore.protocol import wire
from remaphore.protocol.duration import SECOND
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import make_encoded_reply
from tests.harness.nodes import NAMES, make_config

LONG = 30.0  # seconds; never reached if every peer replies
BRIEF = 0.05  # if a peer does not reply
TWO, THREE = NAMES[2], NAMES[3]


class PingSite:
    """Node 1 pings on a bus in memory, where tests let other nodes answer."""

    def __init__(self):
        self.broker = MemoryBroker()
        self.pinger = None

    async def respond(self, number, *, off=0, only=None, **fields):
        """Let node *number*, whose clock is *off* seconds ahead, answer each ping, or only this one."""
        bus = self.broker.connect()
        seen = []

        def answer(raw):
            seen.append(raw)
            if only in (None, len(seen)):
                time_ns = time.time_ns() + off * SECOND
                reply = make_encoded_reply(number, wire.decode(raw).message(), **({"time_ns": time_ns} | fields))
                spawn(bus.publish(f"remaphore.{wire.digest(raw).hex()}", reply), name="reply")

        await bus.subscribe("remaphore.all", answer)

    async def ping(self, *, count=1, timeout=LONG, interval=0.001, stop_after=None):
        """Ping; return number and answer of all that came."""
        bus = self.broker.connect()
        self.pinger = Pinger(bus, make_config(1), to="**", count=count, interval=interval, timeout=timeout)
        came = []
        async for number, answer in self.pinger.answers():
            came.append((number, answer))
            if len(came) == stop_after:
                self.pinger.stop()
        return came


@pytest.fixture
def site():
    return PingSite()


async def test_each_answer_comes_with_its_round_trip_and_clock(site):
    await site.respond(2, payload=b"0,hello")
    await site.respond(3, off=-40)
    came = {answer.reply.peer: answer for _, answer in await site.ping()}
    assert set(came) == {TWO, THREE}
    assert came[TWO].reply.output == b"hello"
    assert all(0 < answer.round_trip_ns < LONG * SECOND for answer in came.values())
    # The error of the skew is at most half of the round trip.
    assert came[TWO].least_skew_ns == 0
    assert abs(came[THREE].skew_ns + 40 * SECOND) <= came[THREE].round_trip_ns


async def test_pings_are_counted_and_numbered(site):
    await site.respond(2)
    await site.respond(3)
    came = await site.ping(count=3)
    assert sorted((number, answer.reply.peer) for number, answer in came) == [
        (number, name) for number in (1, 2, 3) for name in sorted((TWO, THREE))
    ]
    stats = site.pinger.stats
    assert (stats.pings, stats.asked, stats.answered, stats.missing) == (3, {TWO: 3, THREE: 3}, stats.asked, {})
    least, total, most = stats.round_trips_ns
    assert 0 < least <= total / 6 <= most


async def test_missing_answers_are_counted_by_peer(site):
    await site.respond(3, only=2)
    await site.ping(count=3, timeout=BRIEF)
    assert site.pinger.stats.missing == {TWO: 3, THREE: 2}


async def test_stopping_is_immediate_and_outstanding_answers_are_missing(site):
    await site.respond(2)
    came = await site.ping(count=None, stop_after=3)
    stats = site.pinger.stats
    assert stats.answered == {TWO: len(came)}
    assert stats.missing[THREE] == stats.pings >= 3


async def test_stopping_does_not_wait_for_the_next_ping(site):
    await site.respond(2)
    await site.ping(count=None, stop_after=1, interval=3600)
    assert site.pinger.stats.pings == 1


async def test_leaving_the_loop_leaves_nothing_running(site):
    await site.respond(2)
    pinger = Pinger(site.broker.connect(), make_config(1), to="**", count=None, interval=0.001, timeout=LONG)
    answers = pinger.answers()
    assert await anext(answers)
    await answers.aclose()
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ping")]
    assert left == []


async def test_a_denied_subject_ends_it_with_the_error_of_the_broker(site):
    bus = site.broker.connect()

    async def reject(subject, data):
        raise SubjectDeniedError("no permission")

    bus.publish = reject
    pinger = Pinger(bus, make_config(1), to="**", count=None, interval=0.001, timeout=LONG)
    with pytest.raises(SubjectDeniedError):
        [answer async for answer in pinger.answers()]


def test_a_pattern_that_matches_no_peer_is_an_error(site):
    with pytest.raises(NoReceiversError):
        Pinger(site.broker.connect(), make_config(1), to="org.**", count=1, interval=1, timeout=1)


@pytest.mark.parametrize(
    ("output", "version"),
    [
        (b"hello from two, up 5 s, remaphore 0.1.0\n", "0.1.0"),
        (b"remaphore 1.2.3rc1+local, ready", "1.2.3rc1+local"),
        (b"hello from two, up 5 s, remaphore, not in this PATH", None),
        (b"notremaphore 0.1.0", None),
        (b"NO_DATA", None),
    ],
)
def test_a_version_is_found_in_the_output_of_a_handler(output, version):
    assert reported_version(output) == version
