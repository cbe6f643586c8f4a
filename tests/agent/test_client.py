"""The node of the Python API through a real agent does what a node with keys of its own does."""

import asyncio
import signal
import socket
from contextlib import aclosing

import pytest

import remaphore
from remaphore.agent import client, connection
from remaphore.protocol.drop import DropReason
from remaphore.requesting.rollout import BatchPlan, Rollout
from remaphore.tasks import spawn
from tests.cli.test_fast import answering
from tests.harness.agent import ROOT_RULE, as_root, running_agent
from tests.harness.fleet import DESTINATIONS, running_fleet
from tests.harness.waiting import until

pytestmark = [as_root, pytest.mark.xdist_group("agent")]
ONE, TWO, THREE = DESTINATIONS.values()
TOO_LARGE = remaphore.PayloadTooLargeError


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, broker_of_all):
    with running_fleet(tmp_path_factory.mktemp("client"), like=broker_of_all) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def agent(fleet):
    with running_agent(fleet, ROOT_RULE) as agent:
        yield agent


@pytest.fixture(scope="module")
def responders(fleet):
    fleet.start("receive", "-c", fleet.config("two"), "--verb", "work", fleet.script("echo $2; exit 7"))
    fleet.start("receive", "-c", fleet.config("three"), "--verb", "work")


async def test_a_message_is_the_same_as_one_that_is_sent_without_an_agent(agent, fleet):
    async with remaphore.connect(fleet.config("two")) as two, remaphore.connect(agent=agent.path) as node:
        assert node.config.destination == ONE
        async with aclosing(two.receive(verbs="note")) as arriving:
            first = spawn(anext(arriving), name="first")
            await asyncio.sleep(0)
            while not first.done():
                sent = await node.send("note", to="com.example.*", payload=b"\0\xff", id="mine", timeout=5)
                await asyncio.wait({first}, timeout=0.1)
            message = first.result()
            while message.digest != sent.digest:
                message = await anext(arriving)
    assert (message.sender, message.uuid, message.time_ns) == (sent.sender, sent.uuid, sent.time_ns)
    assert (message.payload, message.sender_name, sent.payload) == (b"\0\xff", ONE, b"\0\xff")


@pytest.mark.parametrize("plan", [None, BatchPlan(size=1)])
async def test_a_request_has_the_events_and_the_summary_of_one_without_an_agent(agent, fleet, responders, plan):
    found = []
    for way in ({"config": fleet.config("one")}, {"agent": agent.path}):
        async with remaphore.connect(**way) as node:

            def ask(node=node, **options):
                return node.request("work", payload="load", **options)

            rollout = Rollout(ask, [TWO, THREE], timeout=20, to="" if plan else "**", plan=plan)
            async with aclosing(rollout.events()) as events:
                async for event in events:
                    if event.reply:
                        reply = event.reply
                        found.append((reply.peer, reply.exit_code, reply.output, reply.sender, reply.bound))
                    elif not (event.receipt or event.ended):
                        assert event.request.message.wants_reply
                        assert set(event.request.expected) <= {TWO, THREE}
            found.append(rollout.summary())
    direct, through = found[: len(found) // 2], found[len(found) // 2 :]
    assert sorted(map(str, direct)) == sorted(map(str, through))
    assert direct[-1].answered == (TWO, THREE)


async def test_a_receipt_and_a_missing_reply_are_seen_and_a_drop_is_counted(agent, fleet):
    slow = fleet.start("receive", "-c", fleet.config("two"), "--verb", "slow", fleet.script("sleep 30", "slow"))
    drops = []
    async with remaphore.connect(agent=agent.path) as node:
        async with node.request("slow", to=TWO, timeout=3, on_drop=drops.append) as request:
            events = [event async for event in request.events()]
            assert [type(each).__name__ for each in events] == ["Receipt"]
            assert (request.running, request.missing, request.silent) == ((TWO,), (TWO,), ())
        assert await anext(aiter(request), None) is None
    slow.stop()
    request._connection._ready = [(b"E", b'1\n{"exit":1,"dropped":{"not-bound":2}}')]
    request._ended = False
    assert await request._next() is None
    assert [(drop.reason, drop.count) for drop in drops] == [(DropReason.NOT_BOUND, 2)]
    assert request.summary().dropped == 2


async def test_a_message_is_received_and_replied_to_once(agent, fleet):
    ready = asyncio.Event()
    async with remaphore.connect(fleet.config("two")) as two, remaphore.connect(agent=agent.path) as node:

        async def receive():
            async with aclosing(node.receive(verbs=["ask"], on_ready=ready.set)) as arriving:
                message = await anext(arriving)
                await node.reply(message, 4, "answer")
                with pytest.raises(remaphore.UsageError, match="does not wait for a reply"):
                    await node.reply(message, 4)
                await done.wait()
                return message

        done = asyncio.Event()
        receiving = spawn(receive(), name="receive")
        await ready.wait()
        async with two.request("ask", to=ONE, timeout=20) as request:
            reply = await anext(aiter(request))
        done.set()
        message = await receiving
    assert (reply.exit_code, reply.output, reply.peer) == (4, b"answer", ONE)
    assert message.digest == request.message.digest
    with pytest.raises(remaphore.UsageError):
        await node.reply(message, 0)  # its generator is closed


@pytest.mark.parametrize(
    ("operation", "error", "words"),
    [
        (lambda node: node.send("a,b"), remaphore.EncodeError, "comma"),
        (lambda node: node.send("a", subject_name="*"), remaphore.UsageError, "wildcard"),
        (lambda node: node.send("a", key="none"), remaphore.RemaphoreError, "none"),
        (lambda node: node.request("a", to="org.none").__aenter__(), remaphore.NoReceiversError, "org.none"),
        (lambda node: node.send("x" * 70_000), remaphore.UsageError, "too long"),
        (
            lambda node: node.send("a", payload="x" * (2**20 + 1)),
            TOO_LARGE,
            "message too large: .* 1048577",
        ),
        (
            lambda node: node.request("a", payload=b"x" * 2**20).__aenter__(),
            TOO_LARGE,
            "message too large",
        ),
        (
            lambda node: node.request("a", payload=b"x" * 2**21).__aenter__(),
            TOO_LARGE,
            "message too large",
        ),
    ],
)
async def test_an_error_has_the_class_and_the_words_that_it_has_without_an_agent(agent, operation, error, words):
    async with remaphore.connect(agent=agent.path) as node:
        with pytest.raises(error, match=words) as caught:
            await operation(node)
    assert caught.value.hint


async def test_a_configuration_and_an_agent_exclude_each_other_and_the_keys_are_not_here(agent):
    with pytest.raises(remaphore.UsageError, match="not both"):
        async with remaphore.connect("remaphore.toml", agent=agent.path):
            pass
    async with remaphore.connect(agent=agent.path) as node:
        with pytest.raises(remaphore.UsageError, match="the agent's"):
            node.config.sender("any").load()


async def test_a_stopped_agent_is_given_up_before_and_after_a_message_is_written(agent, monkeypatch):
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
    async with remaphore.connect(agent=agent.path) as node:
        agent.popen.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(remaphore.AgentError, match="does not answer; nothing was sent"):
                await client.read_config(agent.path)
            with pytest.raises(remaphore.ConnectionLostError, match="may or may not have been sent"):
                await node.send("x")
            with pytest.raises(remaphore.ConnectionLostError, match="may or may not have been sent"):
                await node.request("x", timeout=0.2).__aenter__()
        finally:
            agent.popen.send_signal(signal.SIGCONT)
        assert await node.send("x", timeout=20)


async def test_a_full_backlog_is_waited_for_and_then_an_error(tmp_path):
    tmp_path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen(0)
        first = connection.Connection(str(tmp_path / "agent.sock"), print)
        await first.open()
        second, third = (connection.Connection(first.path, print) for _ in range(2))
        with pytest.raises(remaphore.AgentError, match=r"too many others .*; nothing was sent"):
            await second.open(limit=0.1)
        opening = spawn(third.open(), name="open")
        await asyncio.sleep(0)
        listener.accept()[0].close()
        await until(opening.done)
        await opening
        for each in (first, second, third):
            each.close()


NOT_FRAMES = (b"E\0\0\0\x02{}", b"Z\0\0\0\0", b"M\0\0\0\x02{}", b"R\0\0\0\x01x", b"E\xff\xff\xff\xff")


@pytest.mark.parametrize("answer", NOT_FRAMES)
async def test_an_answer_of_another_version_is_an_error_that_says_so(answer):
    with answering(answer, reads=False) as path:
        node = client.AgentNode(path, None)
        with pytest.raises(remaphore.AgentError, match="is not understood"):
            await node.send("x")
        with pytest.raises(remaphore.AgentError, match="is not understood"):
            async with node.request("x") as request:
                await anext(request.events())
        with pytest.raises(remaphore.AgentError, match="is not understood"):
            await client.read_config(path)


async def test_what_an_agent_does_not_do_is_an_error_that_says_so(agent):
    async with remaphore.connect(agent=agent.path) as node:
        for block in (node.lock("a"), node.wait()):
            with pytest.raises(remaphore.UsageError, match=r"node\.(lock|wait) is not possible through an agent"):
                await block.__aenter__()
