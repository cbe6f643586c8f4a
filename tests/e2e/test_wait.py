"""`remaphore wait`: who counts, what is printed, how it ends, and what survives a broker that is away."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import remaphore
from remaphore.cli.commands.wait import to_line
from remaphore.cli.main import main
from tests.harness.factories import make_message
from tests.harness.nats_server import NatsServer
from tests.harness.node_files import Entry, write_toml
from tests.harness.ports import free_port
from tests.harness.processes import Process
from tests.harness.terminal import Terminal

pytestmark = pytest.mark.xdist_group("one waiting node")

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "wait.schema.json").read_text())
DB = ("com.db.1", "com.db.2", "com.db.10")
NUMBERS = {
    "com.watch": 1,
    "com.db.1": 2,
    "com.db.2": 3,
    "com.db.10": 4,
    "com.db.2 (new key)": 5,
    "com.web": 6,
    "com.mute": 7,
}


class Site:
    """The node com.watch, which waits, and its peers, whose messages are sent by this process."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        entries = [
            Entry(name.partition(" ")[0], number, ["ping"] if name == "com.mute" else ["dumped", "ready"])
            for name, number in NUMBERS.items()
        ]  # com.watch lists itself too, as where all nodes have the same list
        self.config = self.write(1, "com.watch", entries)

    def write(self, number, destination, entries):
        settings = 'allow_skew = "30s"\n'
        path = self.folder / f"{len(list(entries))}-{number}.toml"
        return write_toml(path, number, destination, servers=[self.url], settings=settings, peers=entries)

    def start(self, *words, ready="Ready", **options):
        process = Process(("wait", "-c", self.config, *words), **options)
        if ready:
            process.wait_for(ready)
        return process

    def send(self, name, verb="dumped", **message):
        """Send a message of the node *name*, once the broker has it."""

        async def sending():
            async with remaphore.connect(self.sender(name)) as node:
                return await node.send(verb, to="com.watch", **message)

        return asyncio.run(sending())

    def sender(self, name):
        return self.write(NUMBERS[name], name.partition(" ")[0], [Entry("com.watch", 1)])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wait")
    server = NatsServer(folder)
    asyncio.run(server.start())
    yield Site(folder, server.url)
    server.kill()


@pytest.fixture
def start(site):
    """Start `wait`; what still runs at the end of the test is ended."""
    started = []

    def starting(*words, **options):
        started.append(site.start(*words, **options))
        return started[-1]

    yield starting
    for process in started:
        process.end()


def test_each_destination_counts_once_and_the_last_one_that_is_needed_ends_it(site, start):
    waiting = start("--count", "all", "--from", "com.db.*", "--verb", "dumped")
    for name in ("com.db.1", "com.db.1", "com.db.2 (new key)", "com.db.2", "com.web", "com.watch"):
        site.send(name, payload=name)
    site.send("com.db.10", verb="ready")  # another verb
    site.send("com.db.10", payload="last")
    assert waiting.finish() == (0, "com.db.1,com.db.1\ncom.db.2,com.db.2 (new key)\ncom.db.10,last\n")
    assert waiting.lines[-1] == "remaphore: 3 of 3 heard"


@pytest.mark.parametrize(("count", "names"), [("34%", DB[1:]), ("33%", DB[2:])])
def test_a_number_and_a_percentage_that_is_rounded_up(site, start, count, names):
    waiting = start("--count", count, "--from", "com.db.**")
    for name in names:
        site.send(name, payload="v")
    assert waiting.finish() == (0, "".join(f"{name},v\n" for name in names))


def test_the_default_is_one_of_all_and_an_id_is_exact(site, start):
    waiting = start("--id", "dumped-7")
    site.send("com.web", id="dumped-8")
    site.send("com.db.10", id="dumped-7")
    assert waiting.finish() == (0, "com.db.10,\n")


def test_after_the_timeout_the_missing_ones_are_named_and_the_exit_code_is_4_or_1(site, start):
    some = start("--count", "all", "--from", "com.db.*", "--timeout", "2s", ready="")
    none = start("--count", "2", "--subject", "blue", "--from", "com.db.*", "--timeout", "2s", ready="")
    while some.popen.poll() is None:  # on a busy machine it needs a part of its time to begin
        site.send("com.db.2")
    assert some.finish() == (4, "com.db.2,\n")
    assert some.lines[-1] == "remaphore: 1 of 3 heard; missing: com.db.1, com.db.10"
    assert none.finish() == (1, "")
    assert none.lines[-1] == "remaphore: 0 of 2 heard; missing: com.db.1, com.db.2, com.db.10"


def test_json_is_one_object_at_the_end_with_exact_payloads(site, start):
    waiting = start("--count", "2", "--from", "com.db.*", "--json")
    site.send("com.db.10", payload="zürich\n", id="x")
    site.send("com.db.1", payload=b"\xff\x1b[2J")
    code, out = waiting.finish()
    document = json.loads(out)
    assert (code, out.count("\n"), out.isascii()) == (0, 1, True)
    jsonschema.validate(document, SCHEMA)
    messages = document.pop("messages")
    assert document == {
        "required": 2,
        "met": True,
        "expected": ["com.db.1", "com.db.2", "com.db.10"],
        "heard": ["com.db.10", "com.db.1"],
        "missing": ["com.db.2"],
    }
    assert [(each["peer"], each["payload"], each.get("payload_base64")) for each in messages] == [
        ("com.db.10", "zürich\n", None),
        ("com.db.1", "\ufffd\x1b[2J", "/xtbMko="),
    ]
    assert (messages[0]["verb"], messages[0]["id"], messages[0]["id_hex"]) == ("dumped", "x", "78")


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"a\nremaphore: 3 of 3 heard", "a\\x0aremaphore: 3 of 3 heard"),
        (b"\x1b[2J\rx", "\\x1b[2J\\x0dx"),
        ("zürich,\u202e".encode(), "zürich,\\u202e"),
        (b"\xff", "\\xff"),
    ],
)
def test_a_payload_is_one_line_that_no_terminal_interprets(payload, shown):
    assert to_line(make_message(payload=payload, sender_name="com.a")) == f"com.a,{shown}\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--count", "4", "--from", "com.db.*"], "error: 4 destinations are required, of only 3"),
        (["--count", "2", "--from", "com.web"], "error: 2 destinations are required, of only 1"),
        (["--count", "4", "--verb", "ping"], "error: 4 destinations are required, of only 1"),
        (["--count", "0"], "--count: '0' is not a number of destinations"),
        (["--count", "-1"], "--count: '-1' is not a number of destinations"),
        (["--count", "101%"], "--count: '101%' is not a number of destinations"),
        (["--from", "com.bd.1"], "hint: did you mean 'com.db.1'"),
        (["--from", "com.watch"], "no known senders: 'com.watch' matches no peer but this node"),
        (["--from", "com.db.*", "--verb", "deploy"], "7-1.toml com.db.1 --allow deploy\n"),
        (["--from", "com.db.*", "--verb", "a b"], "com.db.1 --allow 'a b'\n"),
        (["--from", "com.db.[1-2]"], "use a pattern here"),
        (["--subject", "a.*"], "it contains a wildcard"),
        (["./script"], "unrecognized arguments: ./script"),
    ],
)
def test_what_can_never_be_met_is_an_error_at_once(site, capsys, words, error):
    assert main(["wait", "-c", str(site.config), *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert error in shown.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_the_missing_ones_are_named(site, start, number):
    waiting = start("--count", "2", "--from", "com.db.*")
    site.send("com.db.1", payload="kept")
    waiting_line = waiting.popen.stdout.readline()
    code, rest = waiting.stop(number)
    assert (code, waiting_line + rest) == (128 + number, "com.db.1,kept\n")
    assert waiting.lines[-1] == "remaphore: 1 of 2 heard; missing: com.db.2, com.db.10"


def test_a_closed_stdout_ends_it(site):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-m", "remaphore", "wait", "-c", site.config, "--count", "2"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    while "Ready" not in process.stderr.readline():
        assert process.poll() is None
    site.send("com.db.1")
    assert process.wait(30) == 141
    process.stderr.close()


def test_a_requester_is_told_that_it_was_heard_also_when_it_repeats(site, start):
    waiting = start("--count", "2", "--from", "com.db.*")

    def ask(name):
        words = ["request", "-c", site.sender(name), "--to", "com.watch", "--verb", "dumped", "--timeout", "20s"]
        return subprocess.run(
            [sys.executable, "-m", "remaphore", *words], capture_output=True, text=True, timeout=30, check=False
        )

    for name in ("com.db.1", "com.db.1", "com.db.10"):
        done = ask(name)
        assert (done.returncode, done.stdout) == (0, "com.watch,0,\n")
    assert waiting.finish() == (0, "com.db.1,\ncom.db.10,\n")


def test_on_a_terminal_it_says_for_whom_it_waits(site):
    words = ("wait", "-c", site.config, "--count", "2", "--from", "com.db.*", "--verb", "dumped")
    with Terminal(*words, columns=120) as terminal:
        terminal.wait_for("Ready")
        site.send("com.db.2", payload="x")
        terminal.wait_for("1 of 2 heard, waiting for com.db.1, com.db.10")
        site.send("com.db.1", payload="y")
        assert terminal.finish() == 0
        expected = (
            "remaphore: waiting for 2 of com.db.1, com.db.2, com.db.10, with the verb dumped, to com.watch on the"
        )
        assert expected in terminal.text
        assert terminal.text.endswith("com.db.1,y\nremaphore: 2 of 2 heard")


async def test_it_continues_when_the_broker_is_back(tmp_path):
    server = NatsServer(tmp_path)
    await server.start()
    site = Site(tmp_path, server.url)
    waiting = await asyncio.to_thread(site.start, "--count", "2", "--from", "com.db.*", "--timeout", "60s")
    try:
        await asyncio.to_thread(site.send, "com.db.1")
        assert await asyncio.to_thread(waiting.popen.stdout.readline) == "com.db.1,\n"
        await server.stop()
        await asyncio.to_thread(waiting.wait_for, "no broker yet")
        await server.start()
        await asyncio.to_thread(waiting.wait_for, "connected to")
        await asyncio.to_thread(site.send, "com.db.2")
        assert await asyncio.to_thread(waiting.finish) == (0, "com.db.2,\n")
    finally:
        waiting.end()
        server.kill()


def test_without_a_broker_nothing_was_waited_for_which_is_an_error(tmp_path):
    away = Site(tmp_path, f"nats://127.0.0.1:{free_port()}")
    waiting = away.start("--timeout", "500ms", ready="")
    assert waiting.finish() == (3, "")
    waiting.end()
    assert any(line.startswith("remaphore: error: ") for line in waiting.lines)
