"""Payloads of the words `send` and `request`: literal, from a file, from stdin, typed at a terminal."""

import subprocess
import sys

import pytest

from tests.harness.simulated import simulated
from tests.harness.terminal import Terminal

SECONDS = 60


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    with simulated(tmp_path_factory.mktemp("one"), 1, lambda _number, _message: (0, "")) as fleet:
        yield fleet


def run(one, word, *words, stdin=b""):
    command = [sys.executable, "-m", "remaphore", word, "-c", one.config, "--timeout", "30s", *words]
    return subprocess.run(list(map(str, command)), capture_output=True, input=stdin, timeout=SECONDS, check=False)


def received(one, verb):
    """Send one more request, so that all earlier ones have been handled, and return the payloads of *verb*."""
    assert run(one, "request", "--verb", "flush").returncode == 0
    return [payload for _, each, payload in one.received if each == verb]


@pytest.mark.parametrize("word", ["send", "request"])
def test_a_payload_comes_byte_for_byte_from_a_file_or_stdin(one, word, tmp_path):
    (tmp_path / "file").write_bytes(b"\xff,\n\x00 v42\n")
    verb = f"of-{word}"
    assert run(one, word, "--verb", verb, f"@{tmp_path}/file").returncode == 0
    assert run(one, word, "--verb", verb, "-", stdin=b"typed\xfe\n").returncode == 0
    assert received(one, verb) == [b"\xff,\n\x00 v42\n", b"typed\xfe\n"]


def test_a_terminal_is_asked_for_the_payload_and_read_to_its_end(one):
    with Terminal("request", "-c", one.config, "--verb", "typed", "--timeout", "30s", "-", NO_COLOR="1") as screen:
        screen.wait_for("reading the payload from the terminal; end it with Ctrl-D")
        screen.type(b"v42\n\x04")
        assert screen.finish() == 0
    assert received(one, "typed") == [b"v42\n"]


def test_a_terminal_is_asked_for_the_message_to_explain(one):
    with Terminal("explain", "-c", one.config, NO_COLOR="1") as screen:
        screen.wait_for("reading the message from the terminal; end it with Ctrl-D")
        screen.type(b"junk\n\x04")
        assert screen.finish() == 1


def test_a_message_larger_than_receivers_take_is_not_sent(one, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 1024 * 1024)
    done = run(one, "request", "--verb", "never", f"@{tmp_path}/large")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"receivers accept 1048576" in done.stderr
    assert received(one, "never") == []
