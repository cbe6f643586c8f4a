"""The kit for plugin authors does what the host does, and raises errors that the host would log."""

import asyncio
import sys
from dataclasses import asdict, dataclass, replace

import pluggy
import pytest

from remaphore import Action, Drop, DropReason, PluginError, Receipt, Reply, Step, UsageError, hookimpl
from remaphore.hooks import specs
from remaphore.node import Node
from remaphore.protocol.exchange import Exchange
from remaphore.protocol.keys import decode_public
from remaphore.protocol.message import NO_DATA, REJECTED
from remaphore.testing import (
    START_NS,
    Clock,
    MemoryBroker,
    PluginHarness,
    make_config,
    make_drop,
    make_message,
    make_outcome,
    make_peer,
    make_reply,
    make_summary,
)
from tests.harness.waiting import wait_despite_cancelling


class Everything:
    """Records every event by the name of its hook."""

    @dataclass(frozen=True)
    class Settings:
        n: int = 0

    def __init__(self):
        self.events = []

    @hookimpl
    def remaphore_configure(self, config, settings, options):
        self.events.append(("configure", config.destination, settings.n, options))

    @hookimpl
    async def remaphore_startup(self, stats, context):
        self.events.append(("startup", stats().connected, stats().problem, context.instance))

    @hookimpl
    def remaphore_reloaded(self, config):
        self.events.append(("reloaded", config.destination))

    @hookimpl
    def remaphore_admitted(self, message):
        self.events.append(("admitted", message.verb))

    @hookimpl
    async def remaphore_message(self, message):
        self.events.append(("message", message.verb))
        if message.verb == "fail":
            raise LookupError("mine")
        return None if message.verb == "none" else Reply(0, message.payload)

    @hookimpl
    def remaphore_handled(self, message, outcomes, reply, sent):
        (outcome,) = outcomes
        self.events.append(("handled", outcome.plugin, outcome.result, type(outcome.error), reply, sent))

    @hookimpl
    def remaphore_dropped(self, drop):
        self.events.append(("dropped", drop.reason))

    @hookimpl
    def remaphore_rejected(self, message, reason, count):
        self.events.append(("rejected", message.payload, reason, count))

    @hookimpl
    def remaphore_requested(self, request, expected):
        self.events.append(("requested", expected))

    @hookimpl
    async def remaphore_reply(self, request, reply):
        self.events.append(("reply", request.verb, reply.exit_code))

    @hookimpl
    async def remaphore_receipt(self, request, receipt):
        self.events.append(("receipt", request.verb, receipt.peer))

    @hookimpl
    def remaphore_finished(self, request, summary):
        self.events.append(("finished", summary.missing))

    @hookimpl
    def remaphore_acts(self, verb):
        return {"none": False, "unsure": None}.get(verb, True)

    @hookimpl
    def remaphore_plan(self, message):
        return [Step(action=Action.SKIP, name=message.verb)]

    @hookimpl
    async def remaphore_shutdown(self, reason):
        self.events.append(("shutdown", reason))


async def test_the_harness_calls_the_hooks_in_the_order_of_the_host():
    async with PluginHarness(
        Everything, settings={"n": 1}, options={"o": 2}, config=make_config("com.a"), name="mine"
    ) as harness:
        assert await harness.message(make_message("ping", "x", wants_reply=True)) == Reply(0, b"x")
    assert harness.plugin.events == [
        ("configure", "com.a", 1, {"o": 2}),
        ("startup", True, "", "main"),
        ("admitted", "ping"),
        ("message", "ping"),
        ("handled", "mine", Reply(0, b"x"), type(None), Reply(0, b"x"), True),
        ("shutdown", "stopped"),
    ]
    assert harness.stats.handled == {"ping": 1}


async def test_a_request_without_a_reply_gets_the_one_of_the_daemon():
    async with PluginHarness(Everything) as harness:
        assert await harness.message(make_message("none", wants_reply=True)) is None
    reply = Reply(127, b"no handler\n")
    assert harness.plugin.events[-2] == ("handled", "plugin", None, type(None), reply, True)


async def test_an_error_of_a_plugin_is_raised_after_handled_and_the_plugin_is_shut_down():
    harness = PluginHarness(Everything())
    with pytest.raises(LookupError, match="mine"):
        async with harness:
            await harness.message(make_message("fail"))
    assert harness.plugin.events[-2:] == [
        ("handled", "plugin", None, LookupError, Reply(-1), False),
        ("shutdown", "stopped"),
    ]


async def test_every_hook_can_be_called():
    async with PluginHarness(Everything) as harness:
        assert harness.hooks == specs.HOOKS
        del harness.plugin.events[:]
        harness.reloaded(make_config("com.b"))
        harness.rejected(make_message("deploy", "x"), "busy", count=2)
        harness.dropped(make_drop(DropReason.MALFORMED))
        await harness.requested(make_message("deploy"), ("a",))
        await harness.receipt(make_message("deploy"), Receipt("a", "key", START_NS))
        await harness.reply(make_message("deploy"), make_reply(3))
        await harness.finished(make_message("deploy"), make_summary(missing=["a"]))
        await harness.handled(make_message("deploy"), (make_outcome(plugin="other"),))
        assert [harness.acts(verb) for verb in ("deploy", "none", "unsure")] == [True, False, True]
        assert harness.plan(make_message("deploy")) == [Step(action=Action.SKIP, name="deploy")]
        assert harness.plugin.events == [
            ("reloaded", "com.b"),
            ("rejected", b"", "busy", 2),
            ("dropped", DropReason.MALFORMED),
            ("requested", ("a",)),
            ("receipt", "deploy", "a"),
            ("reply", "deploy", 3),
            ("finished", ("a",)),
            ("handled", "other", None, type(None), None, False),
        ]
        assert harness.config.destination == "com.b"


def only(name, function):
    return type("Only", (), {name: hookimpl(function)})


async def test_a_plugin_without_a_hook_for_messages_has_no_reply():
    async with PluginHarness(only("remaphore_handled", lambda self, message: pytest.fail("not called"))) as harness:
        assert await harness.message(make_message()) is None
        assert harness.plan(make_message()) is None
        assert not harness.acts("deploy")
    async with PluginHarness(only("remaphore_message", lambda self, message: None)) as harness:
        assert harness.acts("deploy")


@pytest.mark.parametrize("result", ["text", Reply(0, "text")])
async def test_a_result_that_the_host_would_reject_is_an_error(result):
    async with PluginHarness(only("remaphore_message", lambda self: result)) as harness:
        with pytest.raises(TypeError, match="str"):
            await harness.message(make_message())


async def test_a_plugin_that_the_host_would_not_load_is_an_error():
    with pytest.raises(pluggy.PluginValidationError, match="remaphore_mesage"):
        PluginHarness(only("remaphore_mesage", lambda self: None))
    with pytest.raises(TypeError, match="implements no hook"):
        PluginHarness(object())


async def test_an_error_of_configure_is_raised():
    def reject(self, options):
        raise ValueError(f"no {options['x']}")

    with pytest.raises(ValueError, match="no 1"):
        async with PluginHarness(only("remaphore_configure", reject), options={"x": 1}):
            pytest.fail("it was configured")


async def test_settings_that_the_host_would_reject_are_an_error():
    with pytest.raises(PluginError, match=r"plugins\.plugin\.m: unknown key"):
        async with PluginHarness(Everything, settings={"m": 1}):
            pytest.fail("it was configured")


async def test_a_plugin_that_hangs_or_exits_is_an_error():
    async def hang(self):
        await asyncio.Event().wait()

    async with PluginHarness(only("remaphore_message", hang), timeout=0.05) as harness:
        with pytest.raises(TimeoutError):
            await harness.message(make_message())
    async with PluginHarness(only("remaphore_message", lambda self: sys.exit(3))) as harness:
        with pytest.raises(SystemExit):
            await harness.message(make_message())


class Hands:
    """Does in its tasks, and with its context, what the test tells it to."""

    def __init__(self):
        self.context = None

    @hookimpl
    def remaphore_startup(self, context):
        self.context = context


async def test_what_the_plugin_sends_is_recorded_and_its_requests_are_answered_as_the_test_wants():
    config = make_config("com.example.me", peers=(make_peer("com.example.db.1"), make_peer("com.example.db.2")))
    async with PluginHarness(Hands, config=config) as harness:
        assert harness.plugin.context.name == "plugin"
        node = harness.plugin.context.node
        sent = await node.send("deployed", payload="v42", subject_name="other")
        harness.node.answer = lambda request, peer: make_reply(3, request.payload) if peer.endswith("2") else None
        async with node.request("status", payload="x", timeout=0.1) as request:
            found = [(reply.peer, reply.exit_code, reply.output) async for reply in request]
        assert (found, request.missing) == ([("com.example.db.2", 3, b"x")], ("com.example.db.1",))
        assert harness.node.sent == [sent, request.message]
        harness.reloaded(make_config("com.example.me"))
        harness.node.answer = lambda _request, _peer: Reply(0)
        async with node.request("status") as request:
            assert [reply.peer async for reply in request] == ["com.example.me"]
    with pytest.raises(UsageError, match="too late"):
        await node.send("deployed")


async def test_the_state_directory_is_a_temporary_one_or_that_of_the_test(tmp_path):
    async with PluginHarness(Hands) as harness:
        path = harness.plugin.context.state_dir
        assert (path.is_dir(), path == harness.state_dir) == (True, True)
    assert not path.exists()
    async with PluginHarness(Hands, state_dir=tmp_path / "own") as harness:
        assert not (tmp_path / "own").exists()
        (harness.plugin.context.state_dir / "file").touch()
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["file"]


async def run_task(coroutine, *, error=None, timeout=10):
    async with PluginHarness(Hands, timeout=timeout) as harness:
        task = harness.plugin.context.spawn(coroutine, name="poller")
        await asyncio.sleep(0)
        if error is not None:
            raise error
    return task


async def test_tasks_end_with_the_block_and_their_exceptions_are_raised_there():
    async def fail():
        raise LookupError("in a task")

    assert (await run_task(asyncio.Event().wait())).cancelled()
    with pytest.raises(LookupError, match="in a task"):
        await run_task(fail())
    with pytest.raises(OSError, match="of the test") as caught:
        await run_task(fail(), error=OSError("of the test"))
    assert caught.value.__notes__ == ["task 'poller' of the plugin failed: LookupError('in a task')"]


async def test_a_task_that_does_not_end_and_a_startup_that_fails_are_errors():
    release, ended = asyncio.Event(), asyncio.Event()

    async def refuse():
        await wait_despite_cancelling(release)
        ended.set()

    with pytest.raises(TimeoutError, match="task 'poller' of the plugin did not end"):
        await run_task(refuse(), timeout=0.05)
    release.set()
    await ended.wait()
    started = []

    def start(self, context):
        started.append(context.spawn(asyncio.Event().wait()))
        raise OSError("at startup")

    with pytest.raises(OSError, match="at startup"):
        async with PluginHarness(only("remaphore_startup", start)):
            pytest.fail("it started")
    assert started[0].cancelled()


def test_the_clock_moves_only_when_a_test_moves_it():
    clock = Clock()
    assert clock() == clock() == START_NS
    clock.step(1.5)
    assert clock() == START_NS + 1_500_000_000
    clock.step(-2)
    assert clock() == START_NS - 500_000_000
    clock.set(7)
    assert clock() == 7


def test_messages_differ_in_their_digest_exactly_if_they_differ():
    messages = [make_message(), make_message("x"), make_message(payload="x"), make_message(sender_name="x")]
    assert len({message.digest for message in messages}) == 4
    assert {len(message.digest) for message in messages} == {32}
    assert make_message() == make_message()
    assert make_message(payload="é").payload == "é".encode()


async def test_the_kit_makes_what_remaphore_handled_gets_of_a_plugin_as_the_host_does():
    seen = []
    async with PluginHarness(only("remaphore_message", lambda self, message: Reply(3, b"x")), name="own") as harness:
        harness.handled = lambda _message, outcomes, *_rest, **_more: seen.extend(outcomes) or asyncio.sleep(0)
        await harness.message(make_message())
    assert seen == [make_outcome(Reply(3, b"x"), plugin="own", seconds=seen[0].seconds)]
    failed = make_outcome(error=OSError("disk full"), plugin="own")
    assert (failed.hook, str(failed.error), failed.result) == ("remaphore_message", "disk full", None)
    with pytest.raises(ValueError, match="one of the two"):
        make_outcome(Reply(0), error=OSError())


def test_a_summary_is_that_of_a_request_with_the_same_replies():
    config = make_config()
    peers = [
        replace(config.peers[0], destination=f"com.{number}", key=make_reply(peer=f"com.{number}").sender)
        for number in (10, 2, 1, 3, 4)
    ]
    exchange = Exchange(make_message(), peers, allow_skew_ns=1)
    replies = [
        make_reply(code, output, peer=f"com.{number}")
        for number, code, output in ((10, 0, b""), (2, 3, b""), (3, 75, REJECTED), (1, None, NO_DATA))
    ]
    exchange.replies = {reply.peer: reply for reply in replies}
    exchange.dropped = 2
    made = make_summary(*replies, missing=["com.4"], dropped=2)
    assert {name: set(value) if isinstance(value, tuple) else value for name, value in asdict(made).items()} == {
        name: set(value) if isinstance(value, tuple) else value for name, value in asdict(exchange.summary()).items()
    }
    assert (made.ok, made.answered) == (("com.10",), ("com.1", "com.2", "com.3", "com.10"))
    assert make_summary(not_asked=["b", "a"]).expected == ("a", "b")


def test_a_drop_has_the_fields_of_the_gates():
    assert make_drop(DropReason.REPLAYED, "seen", count=3, exact=True) == Drop(
        DropReason.REPLAYED, "seen", 300, "remaphore.all", 3, exact=True
    )


def test_the_sender_is_a_key_that_belongs_to_the_peer():
    assert len(decode_public(make_message().sender)) == 32
    assert make_message(sender_name="a").sender == make_reply(peer="a").sender != make_reply(peer="b").sender
    assert make_message(sender="K").sender == "K"


def test_a_reply_is_one_as_the_requesting_side_gets_it():
    reply = make_reply(3, "disk full", peer="com.a")
    assert (reply.text, reply.peer, reply.bound, reply.time_ns) == (b"3,disk full", "com.a", True, START_NS)


async def test_one_configuration_is_both_sides_of_a_request():
    config, broker, clock = make_config(), MemoryBroker(), Clock()
    asking, answering = Node(broker.connect(), config, clock=clock), Node(broker.connect(), config, clock=clock)
    received = answering.receive()
    waiting = asyncio.get_running_loop().create_task(anext(received))
    while not broker.subscribers["remaphore.all"]:
        await asyncio.sleep(0)
    async with asking.request("ping", timeout=10) as exchange:
        await answering.reply(await waiting, 0, "yes")
        assert [reply.output async for reply in exchange] == [b"yes"]
    await received.aclose()


def test_fields_of_a_configuration_can_be_replaced_and_keys_are_new():
    assert make_config(subject="staging").subject == "staging"
    assert make_config().identity().key != make_config().identity().key
    config = make_config()
    assert config.identity().load().public == config.identity().key
