"""Order within a verb, no waiting between verbs, and bounds on what may wait."""

import asyncio
from dataclasses import replace

import pytest

from remaphore.config.settings import VerbSettings
from remaphore.receiving import queues
from remaphore.receiving.queues import VerbQueues
from remaphore.tasks import spawn
from tests.harness.factories import make_message
from tests.harness.waiting import until

ONE = VerbSettings()


class Handler:
    """Handles messages when a gate opens, and notes their order."""

    def __init__(self):
        self.started, self.done, self.expired, self.evicted = [], [], [], []
        self.gates: dict[str, asyncio.Event] = {}
        self.most = 0

    async def handle(self, message):
        self.started.append((message.verb, message.payload))
        self.most = max(self.most, len(self.started) - len(self.done))
        if message.verb in self.gates:
            await self.gates[message.verb].wait()
        self.done.append((message.verb, message.payload))

    def expire(self, message):
        self.expired.append(message.payload)


def in_task(handle):
    """Return what begins the turn of a message with a task that runs *handle*, whose result it gives to the queue."""

    async def run(message, end):
        after = None
        try:
            after = await handle(message)
        finally:
            end(after)

    return lambda message, end: spawn(run(message, end), name="turn")


def make_queues(handler, **settings):
    return VerbQueues(
        lambda verb: settings.get(verb, ONE),
        on_message=in_task(handler.handle),
        on_expired=handler.expire,
        on_evicted=lambda message: handler.evicted.append(message.payload),
    )


def put(own, verb, *payloads):
    return [own.put(make_message(verb=verb, payload=payload)) for payload in payloads]


async def test_a_message_whose_handling_raises_costs_itself_and_not_the_worker():
    class Failing(Handler):
        async def handle(self, message):
            await super().handle(message)
            if message.payload == b"2":
                raise RuntimeError("broken on purpose")

    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    handler = Failing()
    own = make_queues(handler)
    put(own, "a", b"1", b"2", b"3")
    async with asyncio.timeout(10):
        await own.join()
    assert [payload for _, payload in handler.done] == [b"1", b"2", b"3"]
    assert [str(error) for error in reported] == ["broken on purpose"]
    assert own.state() == {}


async def test_within_a_verb_messages_are_handled_one_at_a_time_in_order():
    handler = Handler()
    own = make_queues(handler)
    put(own, "a", *(b"%d" % number for number in range(50)))
    await own.join()
    assert handler.done == [("a", b"%d" % number) for number in range(50)]
    assert handler.most == 1


class Unfinished(Handler):
    """Leaves something to do of each message, which ends with `finish`."""

    def __init__(self):
        super().__init__()
        self.finish = asyncio.Event()
        self.finished = []

    async def handle(self, message):
        await super().handle(message)
        return lambda: spawn(self.rest(message), name="rest")

    async def rest(self, message):
        await self.finish.wait()
        self.finished.append(message.payload)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (4, 2)])
async def test_another_concurrency_applies_to_what_waits_already(before, after):
    settings = {"a": replace(ONE, concurrency=before)}
    handler = Handler()
    own = VerbQueues(settings.get, on_message=in_task(handler.handle), on_expired=print, on_evicted=print)
    gate = handler.gates["a"] = asyncio.Event()
    put(own, "a", *(b"%d" % number for number in range(12)))
    await until(lambda: len(handler.started) == before)
    settings["a"] = replace(ONE, concurrency=after)
    own.apply_settings()
    await until(lambda: len(handler.started) == max(before, after))
    handler.gates["a"] = asyncio.Event()
    gate.set()
    await until(lambda: len(handler.started) - len(handler.done) == after and len(handler.done) == max(before, after))
    handler.gates.pop("a").set()
    async with asyncio.timeout(10):
        await own.join()
    assert handler.most == max(before, after)
    assert sorted(handler.done) == sorted(handler.started)


async def test_new_settings_wake_no_more_workers_than_one_sender_may_have(monkeypatch):
    monkeypatch.setattr(queues, "MAX_WORKERS_PER_SENDER", 2)
    settings = {"a": ONE}
    handler = Handler()
    handler.gates["a"] = asyncio.Event()
    own = VerbQueues(settings.get, on_message=in_task(handler.handle), on_expired=print, on_evicted=print)
    put(own, "a", b"1", b"2", b"3", b"4")
    await until(lambda: len(handler.started) == 1)
    settings["a"] = replace(ONE, concurrency=8)
    own.apply_settings()
    await until(lambda: len(handler.started) == 2)
    await asyncio.sleep(0)
    assert own.state()["a"].running == 2
    handler.gates["a"].set()
    await own.join()


@pytest.mark.parametrize("step", ["_count", "_retire", "_wait_for"])
async def test_no_memory_for_a_step_of_a_worker_leaves_no_queue_without_one(monkeypatch, step):
    owner = queues._Worker if step == "_wait_for" else VerbQueues
    original, failing = getattr(owner, step), [b"2"]

    def fail(self, *arguments):
        if failing and handler.done[-1:] == [("a", b"2")]:
            failing.clear()
            raise MemoryError
        return original(self, *arguments)

    monkeypatch.setattr(owner, step, fail)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    handler = Unfinished()
    handler.finish.set()
    own = make_queues(handler)
    put(own, "a", b"1", b"2", *([] if step == "_retire" else [b"3"]))
    await until(lambda: len(handler.done) == (2 if step == "_retire" else 3))
    put(own, "a", b"4")
    async with asyncio.timeout(10):
        await own.join()
    assert handler.done[-1] == ("a", b"4")
    assert not failing


async def test_while_a_message_is_completed_one_more_is_handled_and_not_all():
    handler = Unfinished()
    own = make_queues(handler)
    put(own, "a", b"1", b"2", b"3")
    joined = spawn(own.join(), name="join")
    await until(lambda: len(handler.done) == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [payload for _, payload in handler.done] == [b"1", b"2"]
    assert own.state()["a"].running == 0
    handler.finish.set()
    await joined
    assert handler.finished == [b"1", b"2", b"3"]


@pytest.mark.parametrize("error", [RuntimeError("broken on purpose"), asyncio.CancelledError("broken on purpose")])
@pytest.mark.parametrize("part", ["handling", "after its turn", "completion"])
async def test_whatever_fails_costs_its_message_and_not_the_worker(error, part):
    async def fail(*_message):
        raise error

    def after_turn():
        if part == "after its turn":
            raise RuntimeError("broken on purpose")
        return spawn(fail(), name="rest")

    def handle(message, end):
        handled.append(message.payload)
        if part == "handling":
            raise RuntimeError("broken on purpose")
        end(after_turn)

    handled, reported = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    own = VerbQueues(lambda _verb: ONE, on_message=handle, on_expired=fail, on_evicted=fail)
    put(own, "a", b"1", b"2", b"3")
    async with asyncio.timeout(10):
        await own.join()
    assert handled == [b"1", b"2", b"3"]
    assert [str(error) for error in reported] == ["broken on purpose"] * 3
    assert own.state() == {}


async def test_after_its_turn_a_message_does_not_count_as_running():
    states = []

    def handle(_message, end):
        states.append(own.state()["a"].running)
        end(lambda: states.append(own.state()["a"].running))

    own = VerbQueues(lambda _verb: ONE, on_message=handle, on_expired=print, on_evicted=print)
    put(own, "a", b"1")
    await own.join()
    assert states == [1, 0]


async def test_a_message_that_comes_while_the_last_one_is_completed_is_handled():
    handler = Unfinished()
    own = make_queues(handler)
    put(own, "a", b"1")
    await until(lambda: handler.done)
    put(own, "a", b"2")
    handler.finish.set()
    await own.join()
    assert handler.finished == [b"1", b"2"]


async def test_a_verb_that_hangs_delays_no_other():
    handler = Handler()
    handler.gates["slow"] = asyncio.Event()
    own = make_queues(handler)
    put(own, "slow", b"1", b"2")
    put(own, "fast", b"1", b"2")
    while len(handler.done) < 2:
        await asyncio.sleep(0)
    assert handler.done == [("fast", b"1"), ("fast", b"2")]
    assert own.state()["slow"].waiting == 1
    assert own.state()["slow"].running == 1
    assert "fast" not in own.state()
    handler.gates["slow"].set()
    await own.join()
    assert own.state() == {}


async def test_concurrency_is_how_many_run_at_a_time():
    handler = Handler()
    handler.gates["a"] = asyncio.Event()
    own = make_queues(handler, a=replace(ONE, concurrency=3))
    put(own, "a", *(b"%d" % number for number in range(7)))
    while len(handler.started) < 3:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(handler.started) == 3
    handler.gates["a"].set()
    await own.join()
    assert handler.most == 3


async def test_a_full_queue_states_it_and_accepts_again_when_there_is_room():
    handler = Handler()
    handler.gates["a"] = asyncio.Event()
    own = make_queues(handler, a=replace(ONE, queue=2))
    put(own, "a", b"runs")
    while not handler.started:
        await asyncio.sleep(0)
    assert put(own, "a", b"1", b"2", b"3") == [None, None, "messages of this verb that are already waiting: 2"]
    handler.gates["a"].set()
    await own.join()
    assert put(own, "a", b"4") == [None]
    await own.join()
    assert [payload for _, payload in handler.done] == [b"runs", b"1", b"2", b"4"]


@pytest.mark.parametrize(("limit", "value"), [("MAX_WAITING", 3), ("MAX_WAITING_BYTES", 350)])
async def test_what_waits_in_all_is_bounded_in_number_and_bytes_whatever_the_verbs(monkeypatch, limit, value):
    monkeypatch.setattr(queues, limit, value)
    handler = Handler()
    own = make_queues(handler)
    rejected = [own.put(make_message(verb=f"v{number}", payload=b"x" * 100)) for number in range(10)]
    assert rejected[:3] == [None] * 3
    assert rejected[3:] == ["messages that are already waiting or being handled: 3"] * 7
    assert len(own.state()) == 3
    await own.join()
    assert len(handler.done) == 3
    assert put(own, "later", b"x" * 100) == [None]
    await own.join()


@pytest.mark.parametrize(("limit", "others"), [("MAX_WORKERS_PER_SENDER", None), ("MAX_WORKERS", "too many verbs")])
async def test_a_sender_that_invents_verbs_gets_a_limited_number_of_workers(monkeypatch, limit, others):
    monkeypatch.setattr(queues, limit, 3)
    handler = Handler()
    handler.gates = {f"v{number}": asyncio.Event() for number in range(11)}
    own = make_queues(handler)
    rejected = [own.put(make_message(verb=f"v{number}")) for number in range(10)]
    assert rejected == [None] * 3 + ["too many verbs are already being handled"] * 7
    assert own.put(make_message(verb="v0", payload=b"a verb that is awake")) is None
    other = own.put(make_message(2, verb="v10", payload=b"of another"))
    assert (other is None) == (others is None)
    assert set(own.state()) == {"v0", "v1", "v2"} | ({"v10"} if others is None else set())
    for gate in handler.gates.values():
        gate.set()
    await own.join()
    assert put(own, "v9", b"later") == [None]
    await own.join()
    assert ("v0", b"a verb that is awake") in handler.done


async def test_a_message_that_runs_counts_until_it_has_ended(monkeypatch):
    monkeypatch.setattr(queues, "MAX_WAITING_BYTES", 250)
    handler = Handler()
    handler.gates["a"] = asyncio.Event()
    own = make_queues(handler)
    put(own, "a", b"x" * 200)
    while not handler.started:
        await asyncio.sleep(0)
    assert put(own, "b", b"x" * 100) == ["messages that are already waiting or being handled: 1"]
    handler.gates["a"].set()
    await own.join()
    assert put(own, "b", b"x" * 100) == [None]
    await own.join()


async def test_a_message_that_has_waited_too_long_expires_and_is_not_handled():
    handler = Handler()
    handler.gates["a"] = asyncio.Event()
    own = make_queues(handler, a=replace(ONE, max_wait_seconds=0.0))
    put(own, "a", b"runs-or-expires", b"late")
    handler.gates["a"].set()
    await own.join()
    assert b"late" in handler.expired
    assert ("a", b"late") not in handler.done


async def test_messages_that_wait_can_be_popped():
    handler = Handler()
    handler.gates["a"] = asyncio.Event()
    own = make_queues(handler)
    put(own, "a", b"runs", b"1", b"2")
    while not handler.started:
        await asyncio.sleep(0)
    assert [message.payload for message in own.pop_all()] == [b"1", b"2"]
    handler.gates["a"].set()
    await own.join()
    assert handler.done == [("a", b"runs")]


async def test_the_age_of_the_oldest_that_waits_is_known():
    handler = Handler()
    handler.gates["a"] = asyncio.Event()
    own = make_queues(handler)
    put(own, "a", b"runs", b"waits")
    while own.state()["a"].oldest_seconds < 0.01:
        await asyncio.sleep(0)
    assert own.state()["a"].waiting >= 1
    handler.gates["a"].set()
    await own.join()
