"""The agent with real sockets and users: what a client may do, what it sees, and what is logged."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import time
from contextlib import ExitStack

import pytest

from remaphore import connect
from remaphore.agent import frames
from remaphore.agent.budget import Budget
from remaphore.agent.credentials import Caller
from remaphore.agent.server import RETRY_SECONDS, USER_OPERATIONS, USER_SPARE
from remaphore.agent.session import CUT_BYTES, REPLY_BYTES, Session
from remaphore.protocol.message import Reply
from tests.harness.agent import (
    ROOT_RULE,
    Client,
    as_root,
    audit,
    call,
    call_as,
    encode_head,
    running_agent,
)
from tests.harness.fleet import DESTINATIONS, running_fleet
from tests.harness.processes import SECONDS, descriptors, resident_mib

pytestmark = [as_root, pytest.mark.xdist_group("agent")]
OTHER, GROUP = 12345, 23456
TWO = DESTINATIONS["two"]
RULES = f"""{ROOT_RULE}
[[agent.allow]]
user = {OTHER}
do = ["send"]
verbs = ["deploy"]
to = ["com.example.t*"]
[[agent.allow]]
group = {GROUP}
do = ["send"]
verbs = ["status"]
to = ["com.example.**"]
payloads = ["short"]
pattern = "v[0-9]{{1,4}}"
[[agent.allow]]
group = {GROUP}
do = ["receive"]
verbs = ["news"]
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, broker_of_all):
    with running_fleet(tmp_path_factory.mktemp("agent"), like=broker_of_all) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def agent(fleet):
    with running_agent(fleet, RULES) as agent:
        yield agent


@pytest.fixture(scope="module")
def responder(fleet):
    """The script of node two: it replies to each request with 100 kB."""
    script = fleet.script('head -c 100000 /dev/zero | tr "\\0" x; exit 7')
    return fleet.start("receive", "-c", fleet.config("two"), script)


def send_from_two(fleet, verb, payloads):
    """Send each of *payloads* from node two to node one, and yield after each."""
    with asyncio.Runner() as runner:
        context = connect(fleet.config("two"))
        node = runner.run(context.__aenter__())
        try:
            for payload in payloads:
                runner.run(node.send(verb, to=DESTINATIONS["one"], payload=payload))
                yield
        finally:
            runner.run(context.__aexit__(None, None, None))


def wait_for_line(agent, **fields):
    """Return the first line of the log about an operation that has *fields*."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for line in audit(agent):
            if all(line.get(key) == value for key, value in fields.items()):
                return line
        time.sleep(0.01)
    raise AssertionError((fields, audit(agent)[-3:]))


def test_a_message_that_a_rule_permits_is_sent_and_logged_without_its_payload(agent, fleet):
    receiver = fleet.start("receive", "-c", fleet.config("two"), "--verb", "deploy", "--once", "--timeout", "30s")
    secret = b"payload-of-a-test"
    end = call_as(agent.path, OTHER, secret, op="send", verb="deploy", to=TWO, id="one")
    assert (end["exit"], bytes.fromhex(end["id"])) == (0, b"one")
    assert receiver.finish()[0] == 0
    line = wait_for_line(agent, uid=OTHER, op="send", exit=0)
    known = {"gid": OTHER, "verb": "deploy", "to": TWO, "rule": "agent.allow[1]", "kind": None}
    assert known.items() <= line.items()
    assert end["digest"].startswith(line["digest"])
    assert line["pid"] > 1
    assert line["comm"].startswith("python")
    assert line["ms"] > 0
    assert "loginuid" in line
    assert secret.decode() not in "\n".join(agent.lines)


@pytest.mark.parametrize(
    ("head", "payload", "groups", "words"),
    [
        ({"op": "send", "verb": "deploy", "to": "com.example.**"}, b"", [], "reaches more"),
        ({"op": "send", "verb": "deploy"}, b"", [], "reaches more"),
        ({"op": "send", "verb": "wipe", "to": TWO}, b"", [], "the verb 'wipe'"),
        ({"op": "request", "verb": "deploy", "to": TWO}, b"", [], "permits you to request"),
        ({"op": "send", "verb": "status", "to": TWO}, b"v1", [], "the verb 'status'"),
        ({"op": "send", "verb": "status", "to": TWO}, b"v1; rm", [GROUP], "the payload"),
        ({"op": "send", "verb": "status", "to": TWO}, b"v1\n", [GROUP], "the payload"),
        ({"op": "receive", "verbs": ["news"]}, None, [], "permits you to receive"),
        ({"op": "receive"}, None, [GROUP], "receive every verb"),
        ({"op": "receive", "verbs": ["news", "other"]}, None, [GROUP], "the verb 'other'"),
        ({"op": "receive", "verbs": ["news"], "pattern": TWO}, None, [GROUP], "reaches more"),
        ({"op": "receive", "verbs": ["news"], "any_destination": True}, None, [GROUP], "reaches more"),
        ({"op": "send", "verb": "deploy", "to": TWO, "key": "4" * 44}, b"", [], "sign with"),
    ],
    ids=lambda value: value["op"] if isinstance(value, dict) else None,
)
def test_what_no_rule_permits_is_refused(agent, head, payload, groups, words):
    end = call_as(agent.path, OTHER, payload, groups=groups, **head)
    assert (end["exit"], end["kind"]) == (3, "refused")
    assert words in end["error"]
    assert end["hint"]


def test_a_user_may_what_its_supplementary_groups_may(agent):
    for payload in (b"v1", b"v9999", b"short"):
        end = call_as(agent.path, 777, payload, op="send", verb="status", to=TWO, groups=[GROUP])
        assert end["exit"] == 0, end
    assert call_as(agent.path, 777, b"v1", op="send", verb="status", to=TWO)["kind"] == "refused"


def test_the_overflow_uid_is_refused_even_with_a_group_that_may(agent):
    end = call_as(agent.path, 65534, b"v1", op="send", verb="status", to=TWO, groups=[GROUP])
    assert (end["kind"], "65534 stands for every user" in end["error"]) == ("refused", True)


def test_a_caller_in_too_many_groups_is_refused(agent):
    groups = [GROUP, *range(30_000, 30_299)]
    end = call_as(agent.path, OTHER, b"", op="send", verb="deploy", to=TWO, groups=groups)
    assert (end["kind"], "more than 256 groups" in end["error"]) == ("refused", True)
    assert call_as(agent.path, OTHER, b"", op="send", verb="deploy", to=TWO, groups=groups[:256])["exit"] == 0


def test_whoami_shows_the_rules_and_the_peers_of_the_caller_only(agent, fleet):
    end = call_as(agent.path, OTHER, op="whoami", groups=[GROUP])
    assert (end["uid"], end["gid"], end["groups"]) == (OTHER, OTHER, [GROUP])
    assert [rule["rule"] for rule in end["rules"]] == ["agent.allow[1]", "agent.allow[2]", "agent.allow[3]"]
    assert [destination for destination, _ in end["peers"]] == [TWO]
    assert call_as(agent.path, 777, op="whoami")["rules"] == []
    shown = fleet.run("agent", "--whoami", "--agent", agent.path)
    assert shown.returncode == 0, shown.stderr
    assert {"agent": agent.path, "uid": 0, "connected": True}.items() <= json.loads(shown.stdout).items()
    missing = fleet.run("agent", "--whoami", "--agent", f"{agent.path}.none")
    assert (missing.returncode, "no agent at" in missing.stderr) == (3, True)


@pytest.mark.parametrize(
    "head",
    [
        {"op": "send", "verb": "LONG", "to": TWO},
        {"op": "send", "verb": "deploy", "to": "LONG"},
        {"op": "send", "verb": "deploy", "to": TWO, "key": "LONG"},
        {"op": "receive", "verbs": ["LONG"]},
        {"op": "send", "verb": "status", "to": TWO, "LONG": 1},
    ],
    ids=lambda head: next(key for key, value in head.items() if "LONG" in f"{key}{value}"),
)
@pytest.mark.parametrize("uid", [OTHER, 0])
def test_a_long_text_of_a_client_is_cut_where_the_answer_and_the_log_quote_it(agent, head, uid):
    long = json.loads(json.dumps(head).replace("LONG", "x" * 60_000 + ","))
    end = call_as(agent.path, uid, timeout=0, **long)
    assert len(json.dumps(end)) < 1000
    if uid == 0 and "verbs" in head:
        agent.wait_for("xxx")
    assert all(len(line) < 1500 for line in agent.lines)


@pytest.mark.parametrize(
    ("head", "kind", "code", "words"),
    [
        ({"v": 2, "op": "whoami"}, "version", 3, "version 1 of the protocol, the client has 2"),
        ({"v": 0, "op": "whoami"}, "version", 3, "the client has 0"),
        ({"v": True, "op": "whoami"}, "version", 3, "the client has none"),
        ({"op": "sign"}, "usage", 2, "unknown operation"),
        ({"op": "send", "verb": "a", "tow": TWO}, "usage", 2, "unknown key 'tow'"),
        ({"op": "whoami", "verb": "a"}, "usage", 2, "unknown key 'verb'"),
        ({"op": "send"}, "usage", 2, "'verb' is missing"),
        ({"op": "send", "verb": "a", "to": ""}, "usage", 2, "to must be a string that is not empty"),
        ({"op": "send", "verb": "a", "timeout": "1s"}, "usage", 2, "timeout must be a number"),
        ({"op": "receive", "count": True}, "usage", 2, "count must be an integer"),
        ({"op": "receive", "verbs": []}, "usage", 2, "verbs must be an array"),
        ({"op": "send", "verb": "a", "id": "\ud800"}, "usage", 2, "id must be"),
        ({"op": "send", "verb": "a,b", "to": TWO}, "EncodeError", 3, "comma"),
        ({"op": "request", "verb": "a", "to": "com.nowhere"}, "NoReceiversError", 3, "no known receivers"),
        ({"op": "send", "verb": "a", "subject": "a b"}, "UsageError", 2, "cannot be part of a subject"),
        ({"op": "receive", "subject": ">"}, "UsageError", 2, "cannot be part of a subject"),
        ({"op": "receive", "subject": "inbox"}, "UsageError", 2, "reserved for coordination"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused_with_a_sentence(agent, head, kind, code, words):
    end = call(agent.path, **head)
    assert (end["kind"], end["exit"]) == (kind, code), end
    assert words in end["error"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not that of a head"),
        (b"H\xff\xff\xff\xff", "the limit is 65536"),
        (frames.encode(b"H", b"[]"), "not a JSON object"),
        (frames.encode(b"H", b"[" * 60_000), "not JSON"),
        (frames.encode(b"H", b"\xff\xfe"), "not JSON"),
        (encode_head(op="send", verb="a", to=TWO)[:-5] + b"P\xff\xff\xff\xff", "a payload of 4294967295 bytes"),
        (encode_head(op="send", verb="a", to=TWO)[:-5] + b"H\0\0\0\0", "not that of a payload"),
        (encode_head(op="receive") + b"X\0\0\0\0", "may not write now"),
        (encode_head(op="request", verb="status", to=TWO, timeout=20) + b"A\0\0\0\0", "may not write now"),
    ],
    ids=["http", "long", "array", "deep", "bytes", "long-payload", "no-payload", "receive", "request"],
)
def test_bytes_that_are_no_protocol_end_the_connection_with_a_sentence(agent, raw, words):
    with Client(agent.path) as client:
        client.socket.sendall(raw)
        end = client.end()
        assert (end["kind"], end["exit"]) == ("protocol", 2)
        assert words in end["error"]


def test_a_head_that_is_late_is_refused(agent):
    with Client(agent.path) as silent, Client(agent.path) as half:
        half.socket.sendall(b"H\0\0")
        begin = time.monotonic()
        assert {client.end()["kind"] for client in (silent, half)} == {"late"}
        assert time.monotonic() - begin >= frames.HEAD_SECONDS - 1


def test_replies_are_passed_on_as_they_arrive(agent, responder):
    with Client(agent.path, b"v1", op="request", verb="status", to=TWO, timeout=20) as client:
        asked = json.loads(client.until(frames.ASKED))
        assert asked["expected"] == [TWO]
        reply, cut = frames.decode_reply(client.until(frames.REPLY))
        assert (reply.exit_code, reply.peer, len(reply.output), reply.bound, cut) == (7, TWO, 100_000, True, None)
        end = client.end()
        assert (end["exit"], end["missing"], end["failed"], end["digest"]) == (0, [], [TWO], asked["digest"])


def test_the_end_of_the_connection_is_a_cancellation(agent, responder):
    heads = (
        {"op": "request", "verb": "status", "to": DESTINATIONS["three"], "timeout": 60},
        {"op": "receive", "verbs": ["never"], "timeout": None},
    )
    for head in heads:
        with Client(agent.path, **head) as client:
            client.next()
        wait_for_line(agent, op=head["op"], kind="cancelled")


@pytest.mark.parametrize(
    "head",
    [{"op": "receive"}, {"op": "request", "verb": "status", "to": TWO, "timeout": 20}, {"op": "request", "verb": "a"}],
    ids=str,
)
def test_a_client_that_shuts_down_its_writing_side_is_told_that_this_is_a_cancellation(agent, head):
    with Client(agent.path, **head) as client:
        client.socket.shutdown(socket.SHUT_WR)
        end = client.end()
        assert (end["exit"], end["kind"]) == (3, "cancelled")
        assert "cancels the operation" in end["error"]


def test_without_free_descriptors_the_agent_says_so_once_and_goes_on(agent):
    before = resource.prlimit(agent.popen.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(agent.popen.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        lines = len(agent.lines)
        with Client(agent.path, op="whoami") as client:
            line = json.loads(agent.wait_for("accept_failed"))
            time.sleep(2 * RETRY_SECONDS)
            resource.prlimit(agent.popen.pid, resource.RLIMIT_NOFILE, before)
            assert client.end()["exit"] == 0
    finally:
        resource.prlimit(agent.popen.pid, resource.RLIMIT_NOFILE, before)
    assert "LimitNOFILE" in line["hint"]
    assert sum("accept_failed" in each for each in agent.lines[lines:]) == 1


def test_what_a_client_has_received_it_may_reply_to_once(agent, fleet):
    with Client(agent.path, op="receive", verbs=["ask"], timeout=30, count=2) as client:
        ready = json.loads(client.until(frames.READY))
        assert ready == {"destination": DESTINATIONS["one"], "subject": "remaphore.all"}
        request = fleet.start("request", "-c", fleet.config("two"), "--to", DESTINATIONS["one"], "--verb", "ask",
                              "--timeout", "20s", "--json", "what", ready=None)  # fmt: skip
        message = frames.decode_message(client.until(frames.MESSAGE))
        assert (message.payload, message.sender_name, message.wants_reply) == (b"what", TWO, True)
        client.socket.sendall(frames.encode_answer(message.digest, 3, b"that"))
        code, out = request.finish()
        assert (code, json.loads(out)["replies"][0]["exit_code"]) == (5, 3), (out, request.lines)
        client.socket.sendall(frames.encode_answer(message.digest, 0, b"again"))
        end = client.end()
        assert (end["kind"], "no message that was passed on" in end["error"]) == ("refused", True)


def test_receive_ends_after_its_count_or_its_timeout(agent, fleet):
    two = fleet.config("two")
    with ExitStack() as stack:
        head = {"op": "receive", "verbs": ["news"], "count": 1, "timeout": 30}
        waiters = [stack.enter_context(Client(agent.path, **head)) for _ in range(3)]
        other = stack.enter_context(Client(agent.path, **{**head, "id": "other"}))
        for client in (*waiters, other):
            client.until(frames.READY)
        assert fleet.run("send", "-c", two, "--to", DESTINATIONS["one"], "--verb", "news", "x").returncode == 0
        for client in waiters:
            assert frames.decode_message(client.until(frames.MESSAGE)).payload == b"x"
            assert client.end() == {"exit": 0, "count": 1}
        pattern = stack.enter_context(Client(agent.path, op="receive", pattern="org.**", count=1, timeout=30))
        pattern.until(frames.READY)
        assert fleet.run("send", "-c", two, "--to", "org.**", "--verb", "news", "y").returncode == 0
        assert frames.decode_message(pattern.until(frames.MESSAGE)).own_destination == ""
    assert call(agent.path, op="receive", verbs=["news"], timeout=0.1) == {"exit": 1, "count": 0}


def test_refusals_are_logged_at_most_once_a_second_with_their_number(agent):
    for _ in range(20):
        call(agent.path, op="send", verb="a", to=TWO, key="4" * 44)
    wait_for_line(agent, uid=0, event="operation_refused")
    line = wait_for_line(agent, uid=0, event="refusals_suppressed")
    assert line["suppressed"] > 0
    assert len([each for each in audit(agent) if each.get("verb") == "a"]) < 20


def test_a_user_that_opens_more_than_it_may_is_told_and_keeps_no_other_user_out(agent):
    with ExitStack() as stack:
        silent = [stack.enter_context(Client(agent.path)) for _ in range(512)]
        for client in (silent[USER_OPERATIONS], silent[0]):  # at once: the others are late after five seconds
            client.socket.sendall(encode_head(op="whoami"))
        assert silent[USER_OPERATIONS].end()["kind"] == "busy"
        assert silent[0].end()["exit"] == 0
        assert silent[USER_OPERATIONS + USER_SPARE + 1].next() == (b"", b"")
        assert call_as(agent.path, OTHER, b"", op="send", verb="deploy", to=TWO)["exit"] == 0
    assert call(agent.path, op="whoami")["exit"] == 0


def test_a_client_that_never_reads_costs_a_bounded_number_of_bytes_and_no_other_client(agent, fleet):
    before = resident_mib(agent.popen.pid)
    with (
        Client(agent.path, op="receive", verbs=["bulk"]) as slow,
        Client(agent.path, op="receive", verbs=["bulk"]) as good,
    ):
        for client in (slow, good):
            client.until(frames.READY)
        for _ in send_from_two(fleet, "bulk", [b"x" * 900_000] * 20):
            assert len(frames.decode_message(good.until(frames.MESSAGE)).payload) == 900_000
        end = slow.end()
        assert (end["exit"], end["kind"]) == (3, "overflow")
        assert "messages were passed on, and the next was lost" in end["error"]
    assert resident_mib(agent.popen.pid) - before < 64


@pytest.mark.parametrize("number", [500, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_operations_leave_no_descriptor(agent, number):
    assert call(agent.path, op="whoami")["exit"] == 0
    before = descriptors(agent.popen.pid)
    for turn in range(number):
        head = ({"op": "send", "verb": "deploy", "to": TWO}, {"op": "whoami"}, {"op": "send"})[turn % 3]
        call(agent.path, **head)
        if not turn % 10:
            Client(agent.path, op="receive").socket.close()
    deadline = time.monotonic() + SECONDS
    while descriptors(agent.popen.pid) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descriptors(agent.popen.pid) <= before


def test_a_reload_ends_a_receive_that_is_no_longer_permitted_and_keeps_the_rules_of_a_bad_file(agent, fleet):
    with Client(agent.path, op="receive", verbs=["news"]) as receiver:
        receiver.until(frames.READY)
        fleet.config("one", extra=RULES + "\n[[agent.allow]]\nuser = 7\n")
        agent.popen.send_signal(signal.SIGHUP)
        agent.wait_for("reload_rejected")
        assert call(agent.path, op="send", verb="a", to=TWO)["exit"] == 0
        file = fleet.config("one", extra=RULES.replace('"root"', '"1"'))
        file.write_text(f'subject = "other"\n{file.read_text()}')
        agent.popen.send_signal(signal.SIGHUP)
        end = receiver.end()
        assert (end["exit"], end["kind"]) == (3, "refused")
    assert call(agent.path, op="send", verb="a", to=TWO)["kind"] == "refused"
    assert json.loads(agent.wait_for("restart_needed"))["setting"] == "subject"
    assert call(agent.path, op="whoami")["subject"] == "remaphore"
    fleet.config("one", extra=RULES)
    agent.popen.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + SECONDS
    while call(agent.path, op="send", verb="a", to=TWO)["exit"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert call(agent.path, op="send", verb="a", to=TWO)["exit"] == 0


def test_a_request_whose_client_does_not_read_gets_short_outputs_and_every_reply():
    """Replies arrive whether or not they are read: if the agent waited for the reader, they would pile up in it."""

    async def scenario():
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        account = Budget().open(0, writer.transport.get_write_buffer_size)
        session = Session(reader, writer, Caller(pid=1, uid=0, gid=0), account)
        replies = [Reply(0, b"x" * 500_000, peer=f"com.example.{number}") for number in range(200)]
        for reply in replies:
            session.send_reply(reply, sent="")
        waiting = writer.transport.get_write_buffer_size()
        decoder, got = frames.Decoder(frames.FROM_AGENT), []
        loop = asyncio.get_running_loop()
        theirs.setblocking(False)
        while len(got) < len(replies):
            got += [frames.decode_reply(body) for _, body in decoder.feed(await loop.sock_recv(theirs, 2**20))]
        writer.close()
        theirs.close()
        return waiting, got

    waiting, got = asyncio.run(scenario())
    assert waiting <= REPLY_BYTES + 200 * 2 * CUT_BYTES
    whole = [reply for reply, cut in got if cut is None]
    assert 1 <= len(whole) <= REPLY_BYTES // 500_000 + 2
    assert {(len(reply.output), cut) for reply, cut in got if cut is not None} == {(CUT_BYTES, 500_000)}
    assert [reply.peer for reply, _ in got] == [f"com.example.{number}" for number in range(200)]
