"""Control characters for another user's terminal: colours, titles, a cleared screen, a response that is typed back.

Attacker: a responder, by its output; a permitted peer, by its verb; the broker, by its error texts. What must happen:
none of it reaches a terminal raw, neither on stdout of a request nor in errors and logs. Files and pipes get the bytes
of an output as they are. Single sequences: tests/plugins/test_reply_collector.py.
"""

import re
import time

import pytest

from tests.harness.factories import make_encoded
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.fleet import bus_of
from tests.harness.terminal import Terminal

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b5n\x08\x00\x7f\u202e\u2028evil"
# A terminal itself turns a new line into CR LF, and tabs are for tables.
FORBIDDEN = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2028) if chr(code) not in "\t\r\n"]
# The only sequence of our own in a log: the level behind the time, in its colour.
COLOURED_LEVEL = re.compile(rb"^(\d{4}-\d\d-\d\dT[\d:]{8}Z )\x1b\[3[13]m(error|warning)\x1b\[0m", re.MULTILINE)


def harmless(seen):
    plain = COLOURED_LEVEL.sub(rb"\1\2", seen).decode()
    return not [character for character in FORBIDDEN if character in plain]


async def test_the_output_of_a_responder_does_nothing_to_the_requesters_terminal(fleet, nodes):
    evil = "".join(f"\\{byte:03o}" for byte in EVIL.encode())
    fleet.start("-c", nodes["two"], fleet.script(f"printf 'before{evil}\\nlast\\n'"))
    with Terminal("request", "-c", nodes["one"], "--to", "com.example.two", "--verbose") as terminal:
        seen = await terminal.read_line(b"--< ")
    assert b"com.example.two,0,before" in seen
    assert b"evil\r\nlast" in seen
    assert harmless(seen)


def test_a_file_gets_the_bytes_of_an_output_as_they_are(fleet, nodes):
    fleet.start("-c", nodes["two"], fleet.script("printf '\\033[31mred'"))
    done = fleet.run("request", "-c", nodes["one"], "--to", "com.example.two")
    assert done.stdout == "com.example.two,0,\x1b[31mred\n"


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("command", ["receive", "run"])
async def test_the_verb_of_a_peer_does_nothing_to_the_terminal_that_shows_the_log(fleet, command, form):
    path = fleet.config("two")
    path.write_text(f'state_dir = "{fleet.folder / "state"}"\n' + path.read_text())
    with Terminal(command, "-c", path, "--log-format", form) as terminal:
        await terminal.read_line(b"ready" if command == "run" else b"Ready")
        async with bus_of(fleet) as bus:
            await bus.publish("remaphore.all", b"\x1b[2J,not a message")
            await bus.publish("remaphore.all", make_encoded(1, verb=EVIL, time_ns=time.time_ns()))
        seen = await terminal.read_line(b"message_received")
    assert b"message_dropped" in seen
    assert b"owned" in seen
    assert harmless(seen)


@pytest.mark.parametrize("words", [("send",), ("request",), ("receive", "--timeout", "20s"), ("run",)])
async def test_the_brokers_words_do_nothing_to_the_terminal_that_shows_them(fleet, words):
    broker = FakeServer(answers={"CONNECT": f"-ERR 'Authorization Violation {EVIL}'\r\n".encode()})
    async with fake_server(broker):
        path = fleet.config("one", server=broker.url)
        path.write_text(f'state_dir = "{fleet.folder / "state"}"\n' + path.read_text())
        with Terminal(words[0], "-c", path, *words[1:]) as terminal:
            seen = await terminal.read_line(b"evil")
    assert b"owned" in seen
    assert harmless(seen)
