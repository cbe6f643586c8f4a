"""`check`, `doctor` and `ping` as words, and what they write: whole lines, nothing raw, and no word of a plugin's."""

import json

import pytest

from remaphore import Reply
from remaphore.cli import ping, words
from remaphore.cli.check import conclude, show
from remaphore.cli.main import main
from remaphore.cli.options.health import Check, Doctor, Ping
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.diagnostics.probe import Answer
from tests.support.machine import Machine
from tests.support.plugin_dist import installer

NASTY = "\x1b]0;title\x07\x9b31m\u202e\r\nline \udcff"


@pytest.mark.parametrize(
    ("people", "options"),
    [
        ("check", Check()),
        ("check -c f --hooks a --hooks b --json", Check(config="f", hooks=("a", "b"), json=True)),
        ("doctor", Doctor(timeout=5.0)),
        ("doctor -c f --to com.** --timeout 1m --json", Doctor(config="f", to="com.**", timeout=60.0, json=True)),
        ("ping", Ping(interval=1.0, timeout=5.0)),
        (
            "ping -c f com.* --count 3 --interval 100ms --timeout 2s --json",
            Ping(config="f", to="com.*", count=3, interval=0.1, timeout=2.0, json=True),
        ),
    ],
)
def test_the_words_are_read(people, options):
    assert words.read(people.split()) == options


def test_nothing_of_a_finding_reaches_a_terminal_raw(capsys):
    show(Finding(Level.ERROR, Code.PEER_REFUSES, NASTY, NASTY, NASTY), to_json=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert all(character.isprintable() for character in line)
    assert "\\x1b]0;title" in line


@pytest.mark.parametrize(
    "output", [NASTY.encode(errors="replace"), b"\xff\x1b[2J" * 1000, b"\n\r\n" + b"x" * 1_000_000, b""]
)
def test_an_answer_to_a_ping_is_one_short_line_whatever_a_peer_says(output):
    reply = Reply(0, output, peer="com.two")
    line = ping.to_line(1, Answer(reply=reply, round_trip_ns=1, skew_ns=-(2**63)))
    assert line.startswith("com.two: seq=1 ")
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line) < 1000


def test_a_finding_in_json_is_one_line_of_ascii_and_loses_nothing(capsys):
    show(Finding(Level.ERROR, Code.PEER_REFUSES, NASTY, NASTY, "", {"a": [1]}), to_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isascii()
    row = {"level": "error", "code": "peer-rejects", "where": NASTY, "what": NASTY, "hint": "", "facts": {"a": [1]}}
    assert json.loads(line) == row


@pytest.mark.parametrize(
    ("levels", "code", "says"),
    [
        ({Level.OK: 9}, 0, "all is well"),
        ({Level.WARNING: 1, Level.NOTE: 2}, 0, "1 warning, 2 notes"),
        ({Level.ERROR: 2, Level.OK: 1}, 1, "2 errors"),
    ],
)
def test_the_exit_code_is_1_exactly_if_there_is_an_error(levels, code, says, capsys):
    assert conclude(levels) == code
    assert capsys.readouterr().err == f"remaphore: {says}\n"


def test_what_a_plugin_prints_or_logs_while_it_is_looked_at_is_no_finding(tmp_path, monkeypatch, capsys):
    (tmp_path / "node").mkdir(mode=0o755)
    machine = Machine(tmp_path / "node")
    source = (
        "import logging, remaphore\nprint('loud')\n"
        "class Plugin:\n    @remaphore.hookimpl\n    def remaphore_configure(self, config):\n"
        "        logging.getLogger('loud').warning('I log')\n"
    )
    installer(tmp_path, monkeypatch)("loud", source)
    machine.append('[plugins]\nenable = ["loud"]\n')
    assert main(["check", "-c", str(machine.config), "--json"]) == 0
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert "exec-script, log, loud" in next(row["what"] for row in rows if row["code"] == Code.PLUGINS_OK)
    assert "I log" not in shown.err


def test_hooks_of_the_command_line_go_before_those_of_the_file(tmp_path, capsys):
    tmp_path.chmod(0o755)
    machine = Machine(tmp_path)
    main(["check", "-c", str(machine.config), "--hooks", str(tmp_path / "other.d"), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["where"] for row in rows if row["code"] == Code.HOOKS_MISSING] == [str(tmp_path / "other.d")]
