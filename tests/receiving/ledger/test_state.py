"""The state directory: where it is, for its owner alone, and one daemon in it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore.errors import StateError, UsageError
from remaphore.receiving.ledger import state
from tests.harness.nodes import make_config


@pytest.mark.parametrize(
    ("state_dir", "environ", "folder"),
    [
        (Path("/s"), {"STATE_DIRECTORY": "/other"}, "/s/main"),
        (None, {"STATE_DIRECTORY": "/from/systemd:/second"}, "/from/systemd/main"),
    ],
)
def test_the_configuration_comes_before_systemd(state_dir, environ, folder):
    assert state.directory(replace(make_config(), state_dir=state_dir), "main", environ) == Path(folder)


@pytest.mark.parametrize(
    ("uid", "environ", "folder"),
    [
        (0, {}, "/var/lib/remaphore/x"),
        (1000, {"XDG_STATE_HOME": "/home/u/state"}, "/home/u/state/remaphore/x"),
        (1000, {}, str(Path.home() / ".local/state/remaphore/x")),
        (1000, {"XDG_STATE_HOME": "relative"}, str(Path.home() / ".local/state/remaphore/x")),
    ],
)
def test_without_either_it_is_that_of_the_system_or_of_the_user(uid, environ, folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert state.directory(make_config(), "x", environ) == Path(folder)


@pytest.mark.parametrize("environ", [{}, {"XDG_STATE_HOME": "relative"}])
@pytest.mark.parametrize("home", [None, "", "relative"])
def test_a_user_without_a_home_gets_a_hint_what_to_set(environ, home, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 2**31)  # in no list of users
    monkeypatch.setenv("HOME", home) if home else monkeypatch.delenv("HOME")
    with pytest.raises(StateError, match=r"this user has no home$") as caught:
        state.directory(make_config(), "x", environ)
    assert caught.value.hint == "set state_dir in the configuration, or HOME"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "-x", "x" * 65, "a\0b"])
def test_an_instance_cannot_name_a_path(name):
    with pytest.raises(UsageError, match="instance"):
        state.directory(make_config(), name, {})


@pytest.mark.parametrize("exists", [False, True])
def test_the_directory_is_its_owners_alone(tmp_path, exists):
    if exists:
        (tmp_path / "a" / "main").mkdir(parents=True)
        (tmp_path / "a" / "main").chmod(0o755)
    with state.locked(tmp_path / "a" / "main") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_second_daemon_of_the_same_name_is_rejected_with_a_hint(tmp_path):
    with state.locked(tmp_path), pytest.raises(StateError) as caught, state.locked(tmp_path):
        pass
    assert str(caught.value) == f"another daemon (pid {os.getpid()}) uses {tmp_path}"
    assert caught.value.hint == "stop it, or start this one with --instance NAME"


def test_the_lock_ends_with_its_holder(tmp_path):
    for _ in range(2):
        with state.locked(tmp_path):
            pass
    with state.locked(tmp_path) as folder:
        assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_an_impossible_directory_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StateError, match=r"state directory .*/file/main: .*/file: not a directory$") as caught,
        state.locked(tmp_path / "file" / "main"),
    ):
        pass
    assert caught.value.hint == "put a directory in its place, or correct the path"
