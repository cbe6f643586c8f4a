"""Which way commands go, through the agent or directly, as doctor reports it."""

import asyncio
import socket

import pytest

from remaphore.agent import place
from remaphore.diagnostics import local_agent
from remaphore.diagnostics.findings import Code, Level
from remaphore.diagnostics.local_agent import examine_agent, judge
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
