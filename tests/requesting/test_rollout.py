"""A request in batches: which destinations are asked when, what ends it, and which were not asked."""

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

import pytest

from remaphore.errors import PayloadTooLargeError
from remaphore.node import Node
from remaphore.protocol.peers import Peer
from remaphore.protocol.quorum import ReplyQuorum
from remaphore.requesting.rollout import OPENING, BatchPlan, Rollout
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import make_key
from tests.harness.nodes import clock, make_config
from tests.harness.waiting import until

NAMES = {2: "com.two", 3: "com.three", 4: "com.four", 5: "com.five"}
DESTINATIONS = tuple(NAMES.values())
PEERS = tuple(
    Peer(destination=name, key=make_key(number).public, verbs=frozenset("*")) for number, name in NAMES.items()
)


class RolloutSite:
    """Node 1 asks nodes 2 to 5, which answer with the codes of *codes*; a node without one is silent."""

    def __init__(self, **codes):
        self.codes = codes
        self.asked = []
        self.broker = MemoryBroker()
        self.node = Node(self.broker.connect(), make_config(1, peers=PEERS), clock=clock)
        self._tasks = []

    async def __aenter__(self):
        self._tasks = [spawn(self._respond(number), name=name) for number, name in NAMES.items()]
        async with asyncio.timeout(10):
            while len(self.broker.subscribers["remaphore.all"]) < len(NAMES):
                await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_error):
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _respond(self, number):
        requester = Peer(destination="com.one", key=make_key(1).public, verbs=frozenset("*"))
        config = make_config(1, peers=(requester,))
        key = make_key(number)
        identity = type(config.identities[0])(key=key.public, verbs=frozenset("*"), load=lambda: key)
        config = type(config)(
            source="", destination=NAMES[number], servers=config.servers, auth=config.auth,
            identities=(identity,), peers=(requester,), allow_skew_ns=config.allow_skew_ns,
        )  # fmt: skip
        node = Node(self.broker.connect(), config, clock=clock)
        async with aclosing(node.receive()) as messages:
            async for message in messages:
                name = NAMES[number].removeprefix("com.")
                self.asked.append(name)
                if name in self.codes:
                    await node.reply(message, self.codes[name])

    def rollout(self, *, timeout=10.0, destinations=DESTINATIONS, to="com.*", **options):
        return Rollout(partial(self.node.request, "deploy"), destinations, timeout=timeout, to=to, **options)


async def events_of(rollout):
    async with aclosing(rollout.events()) as events:
        return [(event.request.expected, event.reply and event.reply.peer, event.ended) async for event in events]


@pytest.mark.parametrize(
    ("plan", "sizes"),
    [
        (BatchPlan(size=1), [1, 1, 1, 1]),
        (BatchPlan(size=3), [3, 1]),
        (BatchPlan(size=9), [4]),
        (BatchPlan(size=50, percent=True), [2, 2]),
        (BatchPlan(size=26, percent=True), [2, 2]),
        (BatchPlan(size=1, percent=True), [1, 1, 1, 1]),
        (BatchPlan(size=100, percent=True), [4]),
    ],
)
def test_batches_hold_the_number_or_the_share_rounded_up_in_the_order_of_the_configuration(plan, sizes):
    batches = plan.batches(DESTINATIONS)
    assert [len(batch) for batch in batches] == sizes
    assert tuple(name for batch in batches for name in batch) == DESTINATIONS


@pytest.mark.parametrize("to", ["com.*", ""])
async def test_an_event_that_another_one_follows_at_once_says_so(to):
    async with RolloutSite(two=0, three=0, four=1, five=0) as site:
        rollout = site.rollout(to=to)
        async with aclosing(rollout.events()) as events:
            more = [(await anext(events)).more]
            for request in rollout.requests:
                await until(lambda request=request: not request.missing)  # nothing is read meanwhile
            more += [event.more async for event in events]
    assert sum(more) >= len(DESTINATIONS) - 1
    assert not more[-1]  # the end, after which nothing arrives


async def test_without_a_plan_one_message_asks_all():
    async with RolloutSite(two=0, three=0, four=1, five=0) as site:
        names = tuple(sorted(DESTINATIONS))
        rollout = site.rollout(destinations=names)
        seen = await events_of(rollout)
        assert seen[0] == (names, None, False)
        assert {peer for _, peer, _ in seen[1:-1]} == set(names)
        assert seen[-1] == (names, None, True)
        assert len(rollout.requests) == 1
        assert rollout.summary() == rollout.requests[0].summary()


async def test_without_a_pattern_for_all_each_destination_gets_a_message_at_once():
    async with RolloutSite(two=0, three=1, four=0) as site:
        rollout = site.rollout(to="", destinations=DESTINATIONS[:3])
        seen = await events_of(rollout)
        assert {expected for expected, _, _ in seen[:3]} == {(name,) for name in DESTINATIONS[:3]}
        assert sorted(site.asked) == ["four", "three", "two"]
        assert rollout.summary().failed == ("com.three",)


async def test_a_limited_number_of_messages_is_signed_before_the_earlier_ones_are_sent():
    names = [f"com.n{number}" for number in range(3 * OPENING)]
    opening, most = 0, 0

    @asynccontextmanager
    async def ask(*, to, timeout):
        nonlocal opening, most
        opening += 1
        most = max(most, opening)
        for _ in range(3):  # the other tasks come first
            await asyncio.sleep(0)
        opening -= 1
        async with node.request("deploy", to=to, timeout=timeout) as request:
            yield request

    peers = tuple(Peer(destination=name, key=make_key(n).public, verbs=frozenset()) for n, name in enumerate(names))
    node = Node(MemoryBroker().connect(), make_config(1, peers=peers), clock=clock)
    rollout = Rollout(ask, names, timeout=0)
    await events_of(rollout)
    assert most == OPENING
    assert rollout.summary().missing == tuple(names)


async def test_without_a_broker_a_large_batch_ends_at_its_timeout():
    names = [f"com.n{number}" for number in range(3 * OPENING)]
    limits = []

    @asynccontextmanager
    async def ask(*, to, timeout):
        limits.append(timeout)
        await asyncio.sleep(timeout)  # as it waits for a connection
        async with node.request("deploy", to=to, timeout=0) as request:
            yield request

    peers = tuple(Peer(destination=name, key=make_key(n).public, verbs=frozenset()) for n, name in enumerate(names))
    node = Node(MemoryBroker().connect(), make_config(1, peers=peers), clock=clock)
    await events_of(Rollout(ask, names, timeout=0.2, plan=BatchPlan(size=len(names))))
    assert len(limits) == len(names)
    assert max(limits[:OPENING]) <= 0.2
    assert max(limits[OPENING:]) < 0.1, "the time that the first ones have used is not there for the others"


async def test_a_batch_begins_when_all_of_the_last_have_answered():
    async with RolloutSite(two=0, three=0, four=0, five=0) as site:
        rollout = site.rollout(plan=BatchPlan(size=2))
        await events_of(rollout)
        assert set(site.asked[:2]) == {"two", "three"}
        assert sorted(site.asked) == sorted(["two", "three", "four", "five"])  # each is asked once, by its own message
        assert [request.message.destination for request in rollout.requests] == list(DESTINATIONS)
        assert rollout.summary().ok == DESTINATIONS


async def test_a_batch_begins_at_the_timeout_of_the_last():
    async with RolloutSite() as site:
        rollout = site.rollout(plan=BatchPlan(size=1), timeout=0.05)
        await events_of(rollout)
        assert site.asked == ["two", "three", "four", "five"]
        assert rollout.summary().missing == DESTINATIONS


@pytest.mark.parametrize(
    ("codes", "stop_after", "asked"),
    [
        ({"two": 1, "three": 0, "four": 0, "five": 0}, 1, 1),
        ({"two": 0, "three": 1, "four": 0, "five": 0}, 1, 2),
        ({"two": 1, "three": 0, "four": 1, "five": 0}, 2, 3),
        ({"two": 1, "three": 1, "four": 1, "five": 0}, None, 4),
        ({"two": 0, "three": 0, "four": 0, "five": 0}, 1, 4),
        ({"three": 0, "four": 0, "five": 0}, 1, 1),  # silence is not a success either
    ],
)
async def test_it_stops_after_so_many_without_success_and_lists_the_destinations_not_asked(codes, stop_after, asked):
    async with RolloutSite(**codes) as site:
        rollout = site.rollout(plan=BatchPlan(size=1, stop_after=stop_after), timeout=10.0 if "two" in codes else 0.2)
        await events_of(rollout)
        summary = rollout.summary()
        assert len(site.asked) == asked
        assert summary.not_asked == DESTINATIONS[asked:]
        assert summary.expected == DESTINATIONS


async def test_leaving_the_loop_ends_the_requests_and_the_rest_is_not_asked():
    async with RolloutSite(two=0) as site:
        rollout = site.rollout(plan=BatchPlan(size=2), timeout=None)
        async with aclosing(rollout.events()) as events:
            async for event in events:
                if event.reply:
                    break
        summary = rollout.summary()
        assert (summary.ok, summary.missing, summary.not_asked) == (("com.two",), ("com.three",), DESTINATIONS[2:])
        assert not any(
            subscribers for where, subscribers in site.broker.subscribers.items() if where != "remaphore.all"
        )


async def test_being_cancelled_leaves_no_subscription_and_no_task():
    async with RolloutSite() as site:
        rollout = site.rollout(plan=BatchPlan(size=4), timeout=None)
        running = spawn(events_of(rollout), name="rollout")
        async with asyncio.timeout(10):
            while len(rollout.requests) < 4:
                await asyncio.sleep(0)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert not any(
            subscribers for where, subscribers in site.broker.subscribers.items() if where != "remaphore.all"
        )
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("request to")]


async def test_an_error_of_one_request_is_raised_and_ends_the_others():
    async with RolloutSite(two=0) as site:
        site.broker.max_payload = 10
        with pytest.raises(PayloadTooLargeError):
            await events_of(site.rollout(plan=BatchPlan(size=2)))
        assert not any(
            subscribers for where, subscribers in site.broker.subscribers.items() if where != "remaphore.all"
        )


@pytest.mark.parametrize("options", [{}, {"to": ""}, {"plan": BatchPlan(size=4)}], ids=["one message", "each", "batch"])
async def test_a_quorum_that_is_met_ends_the_request_although_others_are_silent(options):
    async with RolloutSite(two=0, four=0) as site:
        quorum = ReplyQuorum(2, 4, fail_fast=False)
        rollout = site.rollout(timeout=None, quorum=quorum, **options)
        events = await events_of(rollout)
    assert quorum.met
    assert {reply for _, reply, _ in events if reply} == {"com.two", "com.four"}
    assert sum(ended for *_, ended in events) == len(rollout.requests)
    assert rollout.summary().ok == ("com.two", "com.four")
    assert rollout.summary().missing == ("com.three", "com.five")


async def test_a_quorum_that_is_met_ends_the_batches_and_the_others_are_not_asked():
    async with RolloutSite(two=0, three=0, four=0, five=0) as site:
        rollout = site.rollout(plan=BatchPlan(size=1), quorum=ReplyQuorum(2, 4, fail_fast=False))
        await events_of(rollout)
    assert site.asked == ["two", "three"]
    assert rollout.summary().not_asked == ("com.four", "com.five")


@pytest.mark.parametrize("options", [{}, {"to": ""}, {"plan": BatchPlan(size=4)}], ids=["one message", "each", "batch"])
async def test_with_fail_fast_a_request_ends_once_too_few_can_succeed(options):
    async with RolloutSite(two=0, four=3) as site:
        quorum = ReplyQuorum(4, 4, fail_fast=True)
        rollout = site.rollout(timeout=None, quorum=quorum, **options)
        await events_of(rollout)
    assert (quorum.met, quorum.decided, quorum.timed_out) == (False, True, 0)
    assert rollout.summary().failed == ("com.four",)


@pytest.mark.parametrize(("needed", "asked", "met"), [(2, 4, True), (3, 2, False)])
async def test_what_is_not_asked_yet_may_still_succeed_and_a_timeout_may_not(needed, asked, met):
    async with RolloutSite(four=0, five=0) as site:

        def ask(*, to, timeout):
            return site.node.request("deploy", to=to, timeout=0.01 if to in {"com.two", "com.three"} else timeout)

        quorum = ReplyQuorum(needed, 4, fail_fast=True)
        rollout = Rollout(ask, DESTINATIONS, timeout=10, plan=BatchPlan(size=1), quorum=quorum)
        await events_of(rollout)
    assert (len(rollout.requests), quorum.met, quorum.decided, quorum.timed_out) == (asked, met, True, 2)
    assert rollout.summary().not_asked == DESTINATIONS[asked:]


async def test_without_fail_fast_all_may_reply_even_if_too_few_can_succeed():
    async with RolloutSite(two=1, three=2, four=0, five=0) as site:
        rollout = site.rollout(plan=BatchPlan(size=1), quorum=ReplyQuorum(3, 4, fail_fast=False))
        await events_of(rollout)
    assert rollout.summary().answered == DESTINATIONS


async def test_what_arrived_before_the_decision_is_reported_and_nothing_after_it_is_accepted():
    async with RolloutSite(two=0, three=0, four=0, five=0) as site:
        rollout = site.rollout(quorum=ReplyQuorum(1, 4, fail_fast=False))
        replies = []
        async with aclosing(rollout.events()) as events:
            async for event in events:
                if event.reply is None and not event.ended:  # it is sent: all may reply before the first is shown
                    await until(lambda request=event.request: len(request.summary().answered) == 4)
                replies += [event.reply.peer] if event.reply else []
    assert len(replies) == 4 == len(rollout.summary().ok)


async def test_those_that_wait_to_be_opened_are_not_asked_once_it_is_decided(monkeypatch):
    monkeypatch.setattr("remaphore.requesting.rollout.OPENING", 1)
    async with RolloutSite(two=0, three=0, four=0, five=0) as site:
        opened = []

        @asynccontextmanager
        async def ask(*, to, timeout):
            opened.append(to)
            async with site.node.request("deploy", to=to, timeout=timeout) as request:
                if len(opened) == 1:
                    yield request
                    return
                await until(lambda: rollout.summary().ok)
                yield request

        rollout = Rollout(ask, DESTINATIONS, timeout=10, quorum=ReplyQuorum(1, 4, fail_fast=False))
        await events_of(rollout)
    assert opened in (["com.two"], ["com.two", "com.three"])
    assert rollout.summary().not_asked == DESTINATIONS[len(opened) :]
    assert rollout.summary().ok[0] == "com.two"
