"""The socket of the agent: its mode, its place, and who may replace it."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore.agent import listener
from remaphore.config.settings import AGENT_SOCKET, AgentSettings
from remaphore.errors import StateError
from tests.harness.nodes import make_config


@pytest.fixture
def path(tmp_path):
    return tmp_path / "remaphore" / "agent.sock"


def created(path, uid=None):
    return listener.created(path, uid=os.geteuid() if uid is None else uid)


def test_it_is_created_with_its_mode_and_removed(path, monkeypatch):
    modes = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address):
            bind(self, address)
            modes.append(stat.S_IMODE(Path(address).stat().st_mode))  # at once: a chmod would come too late

    monkeypatch.setattr(socket, "socket", Watched)
    before = os.umask(0)
    try:
        with created(path) as made:
            assert made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            assert modes == [0o660]
            assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not path.exists()


def test_a_stale_socket_is_taken_over_and_a_live_one_is_not(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(path))
        stale.listen(1)
        with pytest.raises(StateError, match="another process listens"), created(path):
            pass
        with ExitStack() as full:  # a full backlog is an answer too
            for _ in range(4):
                client = full.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect_ex(os.fspath(path))
            with pytest.raises(StateError, match="another process listens"), created(path):
                pass
    with created(path) as made:
        assert made.getsockname() == os.fspath(path)


def test_two_agents_do_not_share_a_socket_also_if_it_was_removed(path):
    with created(path):
        path.unlink()
        with pytest.raises(StateError, match="another agent uses this socket"), created(path):
            pass


def test_what_is_no_socket_is_kept(path):
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(StateError, match="is no socket"), created(path):
        pass
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("place", "uid", "words"),
    [
        (AGENT_SOCKET, 1000, "only root or systemd"),
        (Path("/tmp", "x" * 200), 0, "too long"),
        (Path("/proc/nowhere/agent.sock"), 0, "cannot create the socket"),
    ],
    ids=["system", "long", "directory"],
)
def test_a_path_that_cannot_be_used_is_an_error(place, uid, words):
    with pytest.raises(StateError, match=words) as error, created(place, uid):
        pass
    assert error.value.hint


def test_where_it_listens():
    config = make_config(1)
    named = replace(config, agent=AgentSettings(socket=Path("/srv/agent.sock")))
    runtime = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert listener.socket_path("/x/a", named, runtime, uid=7) == Path("/x/a")
    assert listener.socket_path(None, named, runtime, uid=7) == Path("/srv/agent.sock")
    assert listener.socket_path(None, config, runtime, uid=0) == AGENT_SOCKET
    assert listener.socket_path(None, config, runtime, uid=7) == Path("/run/user/7/remaphore/agent.sock")
    with pytest.raises(StateError, match="XDG_RUNTIME_DIR is not set"):
        listener.socket_path(None, config, {"XDG_RUNTIME_DIR": "relative"}, uid=7)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, ""),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, ""),
        ({"LISTEN_FDS": "0", "LISTEN_PID": "7"}, ""),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "7"}, "2 sockets, not one"),
    ],
)
def test_sockets_of_another_process_are_left_alone(environ, words):
    given = {**environ, "OTHER": "kept"}
    if words:
        with pytest.raises(StateError, match=words):
            listener.activated(given, pid=7)
    else:
        assert listener.activated(given, pid=7) is None
    assert given == {"OTHER": "kept"}


def test_clients_of_all_users_can_pass_the_directory_of_root_whatever_the_umask(path):
    before = os.umask(0o077)
    try:
        with created(path, uid=0):
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    finally:
        os.umask(before)
