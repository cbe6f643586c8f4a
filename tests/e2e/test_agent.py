"""Commands through the local agent: the same as without it, and what they do when it does not answer."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remaphore.agent import client, frames
from remaphore.cli import fast, main
from tests.cli.test_fast import SCRIPT
from tests.harness.agent import ROOT_RULE, as_root, listening, running_agent, start_agent
from tests.harness.fleet import DESTINATIONS, running_fleet
from tests.harness.processes import SECONDS

pytestmark = [as_root, pytest.mark.xdist_group("agent")]
ONE, TWO, THREE = DESTINATIONS.values()
OTHER = 12345
RULES = f'{ROOT_RULE}[[agent.allow]]\nuser = {OTHER}\ndo = ["send"]\nverbs = ["note"]\nto = ["**"]\n'
# Every command that goes through the agent, in both syntaxes.
COMMANDS = [["-s", "x"], ["-r", "-t", "5s"], ["-u", "x"], ["send", "x"], ["request", "x"], ["receive", "--once"]]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, broker_of_all):
    with running_fleet(tmp_path_factory.mktemp("e2e"), like=broker_of_all) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def agent(fleet):
    with running_agent(fleet, RULES) as agent:
        yield agent


@pytest.fixture(scope="module")
def responders(fleet):
    fleet.start("receive", "-c", fleet.config("two"), "--verb", "work", fleet.script('printf " a\\n b \\n"; exit 7'))
    fleet.start("receive", "-c", fleet.config("three"), "--verb", "work")


def run(*words, **options):
    """Run the installed script to its end, as a user does."""
    command = [sys.executable, SCRIPT, *map(str, words)]
    given = {"stdin": subprocess.DEVNULL, "timeout": SECONDS} | options
    return subprocess.run(command, capture_output=True, text=True, check=False, **given)


def with_options(words, *options):
    """Return a command line with *options*, which follow the name of a command."""
    first = 0 if words[0].startswith("-") else 1
    return [*words[:first], *map(str, options), *words[first:]]


def comparable(done):
    """Return what must be the same each time: exit code, lines of stdout, and stderr, without random parts."""
    out = re.sub(r"[0-9a-f]{32}|\d{19}", "RANDOM", re.sub(r'"(hash|request|id|id_hex)": "\w+"', "", done.stdout))
    err = re.sub(r"\(id \w+\)|the agent at \S+|(-c |--agent )?/\S+(one.toml|agent.sock)", "", done.stderr)
    return done.returncode, sorted(out.replace(",\n", "\n").splitlines()), err


@pytest.mark.parametrize(
    "words",
    [
        ["-s", "-v", "work", "a", "b"],
        ["-r", "-t", "20s", "-v", "work"],
        ["-r", "-t", "1s", "-v", "silence", "-D", TWO],
        ["-r", "-D", "org.none"],
        ["-s", "-v", "x" * 300],
        ["request", "--verb", "work", "--json"],
        ["request", "--verb", "work", "--fold", "--batch", "1"],
        ["request", "com.example.two", "now"],
    ],
)
def test_a_command_prints_and_exits_as_it_does_without_an_agent(words, agent, fleet, responders):
    direct = run(*with_options(words, "-c", fleet.config("one")))
    through = run(*with_options(words, "--agent", agent.path))
    assert comparable(through) == comparable(direct)


def test_a_receiver_with_a_script_replies_and_one_for_an_id_ends(agent, fleet):
    options = ["--agent", agent.path]
    script = fleet.script('echo "$@"; exit 3', "reply")
    receiver = fleet.start("receive", *options, "--once", "--verb", "ask", script)
    asked = run("-r", "-t", "20s", "-c", fleet.config("two"), "-v", "ask", "-D", ONE, "v42")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, f"{ONE},3,ask v42\n", "")
    assert receiver.finish() == (0, "")
    receiver = fleet.start(*options, "-u", "upload")
    assert run("-s", "-c", fleet.config("two"), "-u", "upload").returncode == 0
    assert receiver.finish() == (0, "")
    assert [line for line in receiver.lines if "message_handled" in line]


def test_a_receiver_ends_at_its_timeout_and_by_a_signal(agent, fleet):
    assert run("--agent", agent.path, "-t", "300ms").returncode == 1
    receiver = fleet.start("receive", "--agent", agent.path)
    assert receiver.stop() == (143, "")


AS_OTHER = """\
import _json, _socket, os, sys
from remaphore.agent import frames, place
from remaphore.cli import fast, main, output
from remaphore.cli.commands import request
os.setgroups([])
os.setresgid({0}, {0}, {0})
os.setresuid({0}, {0}, {0})
fast.command()
"""


@pytest.mark.parametrize(("verb", "code", "words"), [("note", 0, ""), ("deploy", 3, "no rule permits you to send")])
def test_another_user_may_what_its_rule_permits_and_no_more(agent, verb, code, words):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HOME", "XDG", "REMAPHORE"))}
    command = [sys.executable, "-c", AS_OTHER.format(OTHER), "-s", "-v", verb]
    done = subprocess.run(
        command,
        env=environ | {"REMAPHORE_AGENT": agent.path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("error:") == bool(code)


def run_here(words):
    """Run a command line in this process, as the script does."""
    code = fast.run(words, {})
    return main.main(words) if code is None else code


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("case", ["stale", "file", "owner", "group", "none"])
def test_an_agent_that_cannot_be_used_is_an_error_and_never_passed_by(words, case, tmp_path, monkeypatch, capfd, fleet):
    path = tmp_path / "agent.sock"
    tmp_path.chmod(0o775 if case == "group" else 0o755)
    if case == "owner":
        os.chown(tmp_path, OTHER, -1)
    if case == "file":
        path.touch()
    elif case != "none":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
            if case != "stale":
                made.listen()
    # What a command that went directly would use, and end with 0 or another error.
    monkeypatch.setenv("REMAPHORE_CONFIG", str(fleet.config("one")))
    assert run_here(with_options(words, "--agent", path)) == 3
    out, err = capfd.readouterr()
    assert out == ""
    error, hint = err.splitlines()
    assert error.startswith("remaphore: error: ")
    assert str(path) in error
    assert hint.startswith("remaphore: hint: ")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_socket_that_is_not_for_this_user_is_an_error_and_never_passed_by(words, monkeypatch, capfd, fleet):
    monkeypatch.setenv("REMAPHORE_CONFIG", str(fleet.config("one")))
    with listening() as (path, _):
        os.chown(path, OTHER + 1, -1)
        Path(path).chmod(0o600)
        run_here(with_options(words, "--agent", f"{path}.none"))  # imports what that user may not be able to read
        capfd.readouterr()
        os.seteuid(OTHER)
        try:
            code = run_here(with_options(words, "--agent", path))
        finally:
            os.seteuid(0)
    assert code == 3
    out, err = capfd.readouterr()
    assert (out, f"{path}: permission denied; nothing was sent" in err) == ("", True)
    assert "ask for membership in the group of the socket" in err


@pytest.fixture
def hasty(monkeypatch):
    """Let the commands of this process give up soon, and leave its signals alone."""
    monkeypatch.setattr(fast, "begin_signals", lambda: None)
    monkeypatch.setattr(fast, "EXTRA_SECONDS", 0.2)
    monkeypatch.setattr(fast, "BROKER_SECONDS", 0.2)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)


@pytest.mark.parametrize("words", [*COMMANDS, ["-r"]], ids=" ".join)
def test_a_stopped_agent_is_given_up(words, agent, hasty, capfd, monkeypatch):
    monkeypatch.setattr(fast, "_seconds", lambda _text: 0.2)
    agent.popen.send_signal(signal.SIGSTOP)
    try:
        assert run_here(with_options(words, "--agent", agent.path)) == 3
    finally:
        agent.popen.send_signal(signal.SIGCONT)
    outcome = "may or may not have been sent" if words[0] in ("-s", "-r") else "nothing was sent"
    assert outcome in capfd.readouterr().err


@pytest.mark.long
def test_a_stopped_agent_is_given_up_after_its_own_limit_and_five_seconds(agent):
    agent.popen.send_signal(signal.SIGSTOP)
    try:
        done = run("--agent", agent.path, "-s", "x")
        assert run("--agent", agent.path, "-r", "-t", "1s").returncode == 3
    finally:
        agent.popen.send_signal(signal.SIGCONT)
    assert done.returncode == 3
    assert "may or may not have been sent" in done.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("version", [0, 2])
def test_an_agent_of_another_version_refuses_and_names_both(words, version, agent, hasty, capfd, monkeypatch):
    monkeypatch.setattr(fast, "_VERSION", version)
    monkeypatch.setattr(frames, "VERSION", version)
    assert run_here(with_options(words, "--agent", agent.path)) == 3
    err = capfd.readouterr().err
    assert f"this agent has version 1 of the protocol, the client has {version}" in err
    assert "restart the agent" in err


def test_an_agent_that_is_killed_leaves_no_command_waiting(fleet):
    started = fleet.folder / "started"
    fleet.start(
        "receive", "-c", fleet.config("two"), "--verb", "slow", fleet.script(f"touch {started}; sleep 30", "slow")
    )
    with listening() as (path, listener):
        agent = start_agent(fleet, fleet.config("one", extra=RULES), listener)
        receiver = fleet.start("receive", "--agent", path)
        asking = fleet.start("--agent", path, "-r", "-v", "slow", "-D", TWO, ready=None)
        deadline = time.monotonic() + SECONDS
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        agent.popen.kill()
        for each, words in ((asking, "later replies are lost"), (receiver, "nothing more is received")):
            assert each.finish()[0] == 3
            assert words in each.lines[-2]
            assert each.lines[-1].startswith("remaphore: hint: ")
