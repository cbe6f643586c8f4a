"""What a requester prints, when it ends, and with which exit code."""

import os
import re
import signal

import pytest


@pytest.fixture(autouse=True)
def _end_left_child(fleet):
    yield
    if (fleet.folder / "child").exists():
        os.kill(int((fleet.folder / "child").read_text()), signal.SIGKILL)


def answer(fleet, nodes, command, *words):
    """Let node two answer by a script with *command*; return what node one's request printed."""
    receiver = fleet.start("-c", nodes["two"], fleet.script(command))
    asked = fleet.run("-c", nodes["one"], "-r", "-D", "com.example.two", "-t", "20s", *words)
    receiver.stop()
    assert asked.returncode == 0, asked.stderr
    return asked.stdout


def test_replies_are_printed_as_the_go_program_prints_them(fleet, nodes):
    receivers = [
        fleet.start("-c", nodes["two"], fleet.script("echo; echo one; echo two", "lines")),
        fleet.start("-c", nodes["three"], fleet.script("echo broken >&2; exit 4", "broken")),
    ]
    asked = fleet.run("-c", nodes["one"], "-r", "-v", "status", "-t", "20s")
    assert asked.returncode == 0
    frame = re.search(r"--> ([0-9a-f]{32})\ncom.example.two,0,\none\ntwo\n--< \1\n", asked.stdout)
    assert frame, asked.stdout
    assert asked.stdout.replace(frame[0], "") == "org.example.three,4,broken\n"
    for receiver in receivers:
        receiver.stop()


def test_a_receiver_without_a_script_answers_no_data(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"])
    asked = fleet.run("-c", nodes["one"], "-r", "-D", "com.example.two", "-t", "20s")
    assert (asked.returncode, asked.stdout) == (0, "com.example.two,NO_DATA\n")
    receiver.stop()


def test_a_peer_that_does_not_reply_in_time_leaves_the_other_replies_and_exit_0(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"])
    asked = fleet.run("-c", nodes["one"], "-r", "-t", "4s")
    assert (asked.returncode, asked.stdout) == (0, "com.example.two,NO_DATA\n")
    receiver.stop()


def test_no_answer_in_time_is_exit_1(fleet, nodes):
    asked = fleet.run("-c", nodes["one"], "-r", "-t", "3s")
    assert (asked.returncode, asked.stdout) == (1, "")


def test_no_peer_to_ask_is_exit_3(fleet, nodes):
    asked = fleet.run("-c", nodes["one"], "-r", "-D", "net.**", "-t", "20s")
    assert asked.returncode == 3
    assert "no known receivers" in asked.stderr


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("exit 255", "com.example.two,255,\n"),
        ("echo dying; kill -9 $$", "com.example.two,-1,dying\n"),
        ("sleep 600 & echo left a child", "com.example.two,0,left a child\n"),
        ('echo -- "$2"', "com.example.two,0,-- -rf /\n"),
    ],
)
def test_a_scripts_end_is_its_reply(fleet, nodes, command, line):
    keep_pid = command.replace("&", f"& echo $! > {fleet.folder}/child;")
    assert answer(fleet, nodes, keep_pid, "--", "-rf", "/") == line


def test_a_script_that_writes_100_mb_is_cut_and_says_so(fleet, nodes):
    shown = answer(fleet, nodes, "head -c 100000000 /dev/zero | tr '\\0' x")
    assert "remaphore: output truncated: kept 524288 of 100000000 bytes" in shown
    assert len(shown) < 600_000


@pytest.mark.parametrize(
    "script",
    ["./missing", "not-on-the-path", "/etc/passwd", "/tmp"],
)
def test_a_script_that_cannot_be_started_answers_minus_one_and_says_why_to_its_own_log(fleet, nodes, script):
    receiver = fleet.start("-c", nodes["two"], script, cwd=fleet.folder)
    asked = fleet.run("-c", nodes["one"], "-r", "-D", "com.example.two", "-t", "20s")
    assert asked.stdout == "com.example.two,-1,\n"
    assert script.rpartition("/")[2] in receiver.wait_for("cannot start")
    receiver.stop()


def test_a_payload_that_cannot_be_an_argument_answers_minus_one(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"], fleet.script("echo ran"))
    asked = fleet.run("request", "-c", nodes["one"], "--to", "com.example.two", *["x" * 70_000] * 2)
    assert asked.stdout == "com.example.two,-1,\n"
    assert "Argument list too long" in receiver.wait_for("cannot start")
    receiver.stop()


def test_an_unbound_reply_is_accepted_only_from_a_peer_marked_as_legacy(fleet):
    # A legacy .conf: the random uuids of its peers are accepted. Our replies are bound, and both formats accept these.
    strict, lenient = fleet.config("one"), fleet.config("one", form="conf")
    receiver = fleet.start("-c", fleet.config("two", form="conf"))
    for config in (strict, lenient):
        asked = fleet.run("-c", config, "-r", "-D", "com.example.two", "-t", "20s")
        assert asked.stdout == "com.example.two,NO_DATA\n"
    receiver.stop()
