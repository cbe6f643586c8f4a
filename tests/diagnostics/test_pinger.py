"""Pinging: every answer with its times, the missing peers by name, and an immediate stop."""

import asyncio
import time

import pytest

from remaphore.diagnostics import pinger as module
from remaphore.diagnostics.findings import Code
from remaphore.diagnostics.pinger import Pinger, reported_version
from remaphore.errors import NoReceiversError, SubjectDeniedError
from remaphore.protocol import wire
from remaphore.protocol.duration import SECOND
from remaphore.protocol.ping import Invocation, format_reply
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import make_encoded_reply
from tests.harness.nodes import NAMES, make_config
from tests.harness.waiting import until

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

    async def ping(self, *, to=("**",), count=1, timeout=LONG, interval=0.001, stop_after=None):
        """Ping, until *stop_after* answers have come; return number and answer of all that came."""
        bus = self.broker.connect()
        self.pinger = Pinger(bus, make_config(1), to=to, count=count, interval=interval, timeout=timeout)
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
    came = {answer.reply.peer: answer for _, answer in await site.ping(stop_after=2)}
    assert set(came) == {TWO, THREE}
    assert came[TWO].reply.output == b"hello"
    assert all(0 < answer.round_trip_ns < LONG * SECOND for answer in came.values())
    # The error of the skew is at most half of the round trip.
    assert came[TWO].least_skew_ns == 0
    assert abs(came[THREE].skew_ns + 40 * SECOND) <= came[THREE].round_trip_ns


async def test_pings_are_counted_and_numbered(site):
    await site.respond(2)
    await site.respond(3)
    came = await site.ping(count=3, stop_after=6)
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
    pinger = Pinger(site.broker.connect(), make_config(1), to=["**"], count=None, interval=0.001, timeout=LONG)
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
    pinger = Pinger(bus, make_config(1), to=["**"], count=None, interval=0.001, timeout=LONG)
    with pytest.raises(SubjectDeniedError):
        [answer async for answer in pinger.answers()]


def line(number, instance="main"):
    """Return the payload of a built-in reply of a daemon."""
    return b"0," + format_reply(Invocation(f"{number:016x}", instance), version="1", uptime_seconds=1)


# The payloads of several replies of one peer, and what they show.
SEVERAL = {
    "two machines": ([line(1), line(2)], Code.PEER_SEVERAL_MACHINES),
    "two instances": ([line(1, "a"), line(2, "b")], Code.PEER_SEVERAL_INSTANCES),
    "two instances on two machines": ([line(1, "a"), line(2, "b"), line(3, "a")], Code.PEER_SEVERAL_MACHINES),
    "a handler with a constant text on both": ([b"0,hello", b"0,hello"], Code.PEER_SEVERAL_RECEIVERS),
    "a handler on one of them": ([line(1), b"0,hello"], Code.PEER_SEVERAL_RECEIVERS),
    "no handler in an older version": ([b"127,no handler\n", b"127,no handler\n"], Code.PEER_SEVERAL_RECEIVERS),
    "a rejection of both": ([b"77,remaphore: refused: x", b"77,remaphore: refused: x"], Code.PEER_SEVERAL_RECEIVERS),
    "the same reply again": ([line(1), line(1)], None),
}


@pytest.mark.parametrize(("payloads", "code"), SEVERAL.values(), ids=SEVERAL)
async def test_several_replies_of_a_peer_to_one_ping_are_judged(site, payloads, code):
    for payload in payloads:
        await site.respond(2, payload=payload)
    await site.respond(3)
    shown = len(payloads) + 1 if code else 2
    came = await site.ping(stop_after=shown)
    stats = site.pinger.stats
    assert len(came) == shown
    assert [answer.further for _, answer in came if answer.reply.peer == TWO].count(False) == 1
    assert [finding.code for finding in stats.findings.values()] == ([code] if code else [])
    assert not any("run remaphore ping" in finding.hint for finding in stats.findings.values()), "it did not tell"
    assert (stats.asked, stats.answered) == ({TWO: 1, THREE: 1}, {TWO: 1, THREE: 1})


async def test_a_daemon_that_was_restarted_between_two_pings_is_one_machine(site):
    await site.respond(2, payload=line(1), only=1)
    await site.respond(2, payload=line(2), only=2)
    await site.respond(3)
    await site.ping(count=2, stop_after=4)
    assert site.pinger.stats.findings == {}


async def test_the_worst_finding_about_a_peer_is_kept(site):
    await site.respond(2, payload=line(1, "a"))
    await site.respond(2, payload=line(2, "b"))
    await site.respond(2, payload=line(3, "a"), only=1)
    await site.respond(3)
    await site.ping(count=2, stop_after=7)
    (finding,) = site.pinger.stats.findings.values()
    assert (finding.where, finding.code) == (TWO, Code.PEER_SEVERAL_MACHINES)


async def test_a_ping_with_all_answers_listens_until_its_timeout(site):
    await site.respond(2, payload=line(1))
    await site.respond(3)
    bus, late = site.broker.connect(), []

    def answer(raw):
        reply = make_encoded_reply(2, wire.decode(raw).message(), time_ns=time.time_ns(), payload=line(2))

        async def publish():
            await until(lambda: site.pinger.stats.answered.total() == 2)
            for _ in range(100):  # turns of the loop, in which the ping could end
                await asyncio.sleep(0)
            await bus.publish(f"remaphore.{wire.digest(raw).hex()}", reply)

        late.append(spawn(publish(), name="late"))

    await bus.subscribe("remaphore.all", answer)
    came = await site.ping(stop_after=3)
    assert came[-1][1].further


async def test_few_pings_listen_at_the_same_time(site, monkeypatch):
    monkeypatch.setattr(module, "MAX_LISTENING", 3)
    await site.respond(2)
    await site.respond(3)
    most = 0
    pinger = Pinger(site.broker.connect(), make_config(1), to=["**"], count=20, interval=0.001, timeout=LONG)
    async for number, _ in pinger.answers():
        most = max(most, sum(task.get_name().startswith("ping ") for task in asyncio.all_tasks()))
        if number == 20:
            break
    assert 0 < most < 10


async def test_a_ping_to_several_destinations_is_one_message_to_each(site):
    addressed = []
    await site.broker.connect().subscribe("remaphore.all", lambda raw: addressed.append(wire.decode(raw).destination))
    await site.respond(2)
    await site.respond(3)  # it answers the message to the other one as well, and that answer does not count
    came = await site.ping(count=2, to=[NAMES[3], NAMES[2]], stop_after=4)
    assert sorted(addressed) == sorted([NAMES[2], NAMES[3]] * 2)
    assert sorted((number, answer.reply.peer) for number, answer in came) == [
        (number, name) for number in (1, 2) for name in sorted([NAMES[2], NAMES[3]])
    ]
    stats = site.pinger.stats
    assert (stats.pings, stats.missing, stats.asked) == (2, {}, {NAMES[2]: 2, NAMES[3]: 2})


async def test_missing_answers_of_several_destinations_are_counted(site):
    await site.ping(count=2, timeout=BRIEF, to=[NAMES[2], NAMES[3]])
    assert site.pinger.stats.pings == 2
    assert site.pinger.stats.missing == {NAMES[2]: 2, NAMES[3]: 2}


def test_a_pattern_that_matches_no_peer_is_an_error(site):
    with pytest.raises(NoReceiversError):
        Pinger(site.broker.connect(), make_config(1), to=["org.**"], count=1, interval=1, timeout=1)


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
