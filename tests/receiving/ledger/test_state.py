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


def test_the_directory_of_a_plugin_is_below_that_of_its_instance(tmp_path):
    for instance in ("main", "other"):
        path = state.plugin_directory(tmp_path / instance, "my.plugin-2")
        assert path == tmp_path / instance / "plugins" / "my.plugin-2"
        assert [each.stat().st_mode & 0o777 for each in (path, path.parent)] == [0o700, 0o700]
        assert state.plugin_directory(tmp_path / instance, "my.plugin-2") == path


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../x", ".hidden", "x" * 65, "a\0b", "a b", "é"])
def test_a_plugin_cannot_name_a_path(tmp_path, name):
    with pytest.raises(StateError, match="no state directory for the plugin") as caught:
        state.plugin_directory(tmp_path, name)
    assert caught.value.hint == "rename its entry point: at most 64 letters, digits, _, . and -"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["plugins", "plugins/mine"])
def test_the_directory_of_a_plugin_is_never_behind_a_link(tmp_path, place):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    link = tmp_path / "main" / place
    link.parent.mkdir(parents=True, mode=0o700)
    link.symlink_to(elsewhere)
    with pytest.raises(StateError, match=f"state directory {link}: {link}: a symbolic link") as caught:
        state.plugin_directory(tmp_path / "main", "mine")
    assert caught.value.hint == "name the directory that it leads to, or delete it"
    assert (list(elsewhere.iterdir()), elsewhere.stat().st_mode & 0o777) == ([], 0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("place", ["plugins", "plugins/mine", "plugins/mine/file"])
def test_the_directory_of_a_plugin_is_not_used_if_it_or_a_file_in_it_is_another_users(tmp_path, place):
    state.plugin_directory(tmp_path, "mine")
    (tmp_path / "plugins" / "mine" / "file").touch()
    os.chown(tmp_path / place, 1234, 1234)
    with pytest.raises(StateError, match="owned by user id 1234"):
        state.plugin_directory(tmp_path, "mine")
    assert (tmp_path / place).stat().st_uid == 1234


def test_a_file_in_the_place_of_a_plugins_directory_is_named(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine").touch()
    with pytest.raises(StateError, match=r"state directory .*/plugins/mine: Not a directory") as caught:
        state.plugin_directory(tmp_path, "mine")
    assert caught.value.hint.startswith("move the file of this name away")
