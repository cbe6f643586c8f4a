"""Characters for another user's terminal: colours, titles, a cleared screen, text that is invisible or reversed.

Also text that is wider than the window, so that a part of it begins in the first column like a line of ours.
Attacker: a responder, by its output; a permitted peer, by its verb; the broker, by its error texts. What must happen:
none of it reaches a terminal raw, neither on stdout of a request nor in errors and logs, and each line that a terminal
shows begins as one of ours or is indented. Files and pipes get the bytes of an output as they are. Every code point:
tests/test_text.py; single sequences: tests/plugins/test_reply_collector.py.
"""

import re
import time

import pytest

from tests.harness.factories import make_encoded
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.fleet import bus_of
from tests.harness.terminal import Terminal

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b5n\x08\x00\x7f\x85\u202e\u2028\u200b\ufeff\U000e0041evil"
WIDE = " ".join(["evil"] * 40)  # wherever a terminal breaks it, "evil" or a part of it is in the first column
# A terminal itself turns a new line into CR LF, and tabs are for tables.
FORBIDDEN = [
    chr(code)
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2028, 0x200B, 0xFEFF, 0xE0041)
    if chr(code) not in "\t\r\n"
]
# The only sequence of our own in a log: the level behind the time, in its colour.
COLOURED_LEVEL = re.compile(rb"^(\d{4}-\d\d-\d\dT[\d:]{8}Z )\x1b\[3[13]m(error|warning)\x1b\[0m", re.MULTILINE)


def harmless(seen):
    plain = COLOURED_LEVEL.sub(rb"\1\2", seen).decode()
    return not [character for character in FORBIDDEN if character in plain]


def of_others(terminal, *ours):
    """Return the lines on the screen that have text of others, and begin neither as one of *ours* nor with a blank."""
    return [line for line in terminal.text.split("\n") if "evil" in line and not line.startswith((" ", *ours))]


async def test_the_output_of_a_responder_does_nothing_to_the_requesters_terminal(fleet, nodes):
    evil = "".join(f"\\{byte:03o}" for byte in EVIL.encode())
    fleet.start("-c", nodes["two"], fleet.script(f"printf 'before{evil}\\nlast\\n'"))
    with Terminal("request", "-c", nodes["one"], "--to", "com.example.two", "--verbose") as terminal:
        seen = await terminal.read_line(b"--< ")
    assert b"com.example.two,0,before" in seen
    assert b"evil\r\nlast" in seen
    assert harmless(seen)


@pytest.mark.parametrize("form", [(), ("--fold",)])
async def test_an_output_that_is_wider_than_the_window_is_not_taken_for_two_replies(fleet, nodes, form):
    fleet.start("-c", nodes["two"], fleet.script(f"echo '{WIDE}'"))
    with Terminal("request", "-c", nodes["one"], "--to", "com.example.two", *form) as terminal:
        terminal.finish()
    if form:
        assert of_others(terminal, "remaphore: ", "com.example.two (1): exit code 0") == []
    else:
        opened, *inside, closed = [line for line in terminal.text.split("\n") if not line.startswith("remaphore: ")]
        assert (opened[:4], closed[:4], opened[4:]) == ("--> ", "--< ", closed[4:])
        assert "".join(inside).startswith("com.example.two,0,evil evil")


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
            await bus.publish("remaphore.all", make_encoded(1, verb=EVIL + WIDE, time_ns=time.time_ns()))
        seen = await terminal.read_line(b"message_received")
    assert b"message_dropped" in seen
    assert b"owned" in seen
    assert harmless(seen)
    assert form == "json" or of_others(terminal, time.strftime("%Y-", time.gmtime())) == []


@pytest.mark.parametrize("words", [("send",), ("request",), ("receive", "--timeout", "20s"), ("run",)])
async def test_the_brokers_words_do_nothing_to_the_terminal_that_shows_them(fleet, words):
    broker = FakeServer(answers={"CONNECT": f"-ERR 'Authorization Violation {EVIL} {WIDE}'\r\n".encode()})
    async with fake_server(broker):
        path = fleet.config("one", server=broker.url)
        path.write_text(f'state_dir = "{fleet.folder / "state"}"\n' + path.read_text())
        with Terminal(words[0], "-c", path, *words[1:]) as terminal:
            seen = await terminal.read_line(b"evil")
    assert b"owned" in seen
    assert harmless(seen)
    assert of_others(terminal, "remaphore: ", time.strftime("%Y-", time.gmtime())) == []
