"""Which way commands go, through the agent or directly, as doctor reports it."""

import asyncio
import json
import os
import socket

import pytest

from remaphore.agent import frames, place
from remaphore.cli import main
from remaphore.config import search
from remaphore.diagnostics import local_agent
from remaphore.diagnostics.findings import Code, Level
from remaphore.diagnostics.local_agent import examine_agent, judge
from tests.cli.test_fast import answering
from tests.harness.agent import ROOT_RULE, as_root, listening, start_agent
from tests.harness.machine import assert_hints
from tests.harness.processes import SECONDS

PATH = "/run/remaphore/agent.sock"
ABOUT = {
    "uid": 0,
    "rules": [{"rule": "agent.allow[0]"}],
    "connected": True,
    "release": local_agent.version("remaphore"),
}


@pytest.fixture
def at(monkeypatch):
    """Let a path be the place of the system's socket."""
    return lambda path: monkeypatch.setattr(place, "SYSTEM_SOCKET", str(path))


def examine(environ=None, *, chosen=None):
    found = list(asyncio.run(examine_agent(environ or {}, chosen=chosen, timeout=SECONDS)))
    assert_hints(found)
    return [(each.code, each.level, each.what) for each in found]


@as_root
def test_an_agent_that_answers_is_the_way_that_counts(fleet, at, tmp_path):
    with listening() as (path, listener):
        at(path)
        start_agent(fleet, fleet.config("one", extra=ROOT_RULE), listener)
        way = f"commands go through the agent at {path}; rules for us: agent.allow[0]"
        assert examine() == [(Code.AGENT_USED, Level.OK, way)]
        ((code, level, what),) = examine(chosen="x.toml")
        assert (code, level) == (Code.AGENT_NOT_USED, Level.NOTE)
        assert what == f"commands work directly and not through the agent at {path}: -c x.toml takes precedence"
        ((code, _, what),) = examine({"REMAPHORE_CONFIG": str(tmp_path / "own.toml")})
        assert (code, "the configuration of this user takes precedence" in what) == (Code.AGENT_NOT_USED, True)
        done = fleet.run("doctor", "--timeout", "1s", "-c", fleet.config("one"), "--json")
        assert "agent-" not in done.stdout  # of the system, which has none


@as_root
@pytest.mark.parametrize(
    ("user", "lacks", "way", "code"),
    [
        (12345, "configuration", "agent", 0),
        (12345, "key", "agent", 0),
        (12345, "key", "none", 2),
        (12345, "key", "config", 2),
        (0, "configuration", "agent", 0),
        (0, "key", "agent", 2),
    ],
)
def test_a_user_without_keys_is_told_of_the_agent_and_root_of_the_keys(
    fleet, at, tmp_path, monkeypatch, capfd, user, lacks, way, code
):
    config = tmp_path / "remaphore.toml"
    if lacks == "key":
        config.write_text(fleet.config("one").read_text().replace('private_key_file = "', 'private_key_file = "/no'))
    monkeypatch.setattr(search, "DEFAULT_PATHS", (str(config),))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("HOME", str(tmp_path))
    with answering(frames.encode_end(0, **ABOUT), reads=False) as path:
        at(path if way != "none" else tmp_path / "agent.sock")
        assert main.main(["doctor", "--json", *(["-c", str(config)] if way == "config" else [])]) == code
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [each["code"] for each in found] == ([Code.AGENT_USED, Code.AGENT_HAS_KEYS] if code == 0 else [])
    assert lacks in str(found) or code


def test_without_a_socket_nothing_is_reported(at, tmp_path):
    at(tmp_path / "agent.sock")
    assert examine() == examine(chosen="x.toml") == []


@as_root
def test_an_agent_that_cannot_be_used_is_an_error_and_never_the_direct_way(at, tmp_path):
    path = tmp_path / "agent.sock"
    at(path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    ((code, level, what),) = examine()
    assert (code, level, "connection refused" in what) == (Code.AGENT_UNUSABLE, Level.ERROR, True)
    path.unlink()
    path.write_text("")
    assert [code for code, *_ in examine()] == [Code.AGENT_UNUSABLE]


def test_the_answer_of_an_agent_is_judged():
    cases = [
        ({}, Code.AGENT_USED, Level.OK, "rules for us: agent.allow[0]"),
        ({"release": "0.0.1"}, Code.AGENT_OTHER_RELEASE, Level.WARNING, "is remaphore 0.0.1, this is"),
        ({"release": None}, Code.AGENT_OTHER_RELEASE, Level.WARNING, "is remaphore (older), this is"),
        ({"connected": False}, Code.AGENT_DISCONNECTED, Level.ERROR, "has no connection to a broker"),
        ({"rules": []}, Code.AGENT_NAMES_NO_RULE, Level.WARNING, "no rule of it names uid 0"),
        ({"rules": "garbage"}, Code.AGENT_NAMES_NO_RULE, Level.WARNING, "no rule of it names uid 0"),
    ]
    for changes, code, level, what in cases:
        found = list(judge(PATH, ABOUT | changes))
        assert_hints(found)
        (one,) = [each for each in found if each.code is code]
        assert (one.level, what in one.what) == (level, True)
        assert (Code.AGENT_USED in {each.code for each in found}) is ("rules" not in changes)
