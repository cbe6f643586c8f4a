"""Which way a command goes: through which agent, directly, or not at all, with a sentence."""

import os
import socket

import pytest

from remaphore.agent import place
from remaphore.errors import AgentError, UsageError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "agent.sock"))
    return str(tmp_path / "agent.sock")


def test_without_a_socket_a_command_goes_directly_but_not_past_a_named_one(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "SYSTEM_SOCKET", str(tmp_path / "none"))
    assert place.find({}) is None
    with pytest.raises(AgentError, match=r"no agent at .*none: no such file") as caught:
        place.find({}, named=str(tmp_path / "none"))
    assert "systemctl" in caught.value.hint


@as_root
@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        ({}, {}, True),
        ({"REMAPHORE_CONFIG": "x"}, {}, False),
        ({"REMAPHORE_CONFIG": ""}, {}, True),
        ({}, {"direct": True}, False),
        ({}, {"config": "x.toml"}, False),
        ({"REMAPHORE_CONFIG": "x"}, {"named": True}, True),
        ({"REMAPHORE_AGENT": "/none"}, {}, True),
    ],
)
def test_another_configuration_means_directly(path, environ, options, expected, monkeypatch):
    monkeypatch.setattr(place, "SYSTEM_SOCKET", path)
    named = {"named": path} if options.pop("named", False) else {}
    assert place.find(environ, **options, **named) == (path if expected else None)


@pytest.mark.parametrize("options", [{"direct": True}, {"config": "x"}])
def test_an_agent_and_another_way_exclude_each_other(path, options):
    with pytest.raises(UsageError, match="mutually exclusive"):
        place.find({}, named=path, **options)
    with pytest.raises(UsageError, match="empty"):
        place.find({}, named="")


@as_root
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_in_which_others_may_write_is_refused(path, tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(AgentError, match=f"cannot be trusted: .*mode {mode:04o}"):
        place.find({}, named=path)


@as_root
@pytest.mark.parametrize("owner", [999, 12345])
def test_a_directory_is_roots_or_our_own_below_the_runtime_directory(path, tmp_path, owner, monkeypatch):
    os.chown(tmp_path, owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(AgentError, match=f"belongs to uid {owner}"):
        place.find({"HOME": ""}, named=path)
    environ = {"HOME": "", "XDG_RUNTIME_DIR": str(tmp_path.parent)}
    if owner == 12345:
        assert place.find(environ, named=path) == path
    else:
        with pytest.raises(AgentError, match="belongs to uid"):
            place.find(environ, named=path)
    with pytest.raises(AgentError, match="belongs to uid"):
        place.find({"HOME": "", "XDG_RUNTIME_DIR": f"{tmp_path}/sub/../../other"}, named=path)


@as_root
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.touch(), "not a socket"),
        (lambda path: path.mkdir(), "not a socket"),
        (lambda path: path.symlink_to(path), "too many levels"),
    ],
)
def test_what_is_there_and_no_socket_is_an_error(tmp_path, make, words, monkeypatch):
    tmp_path.chmod(0o755)
    make(tmp_path / "agent.sock")
    monkeypatch.setattr(place, "SYSTEM_SOCKET", str(tmp_path / "agent.sock"))
    with pytest.raises(AgentError, match=words):
        place.find({})


def test_each_error_says_what_happened_to_the_message_and_what_to_do():
    for number in (13, 111, 88, 36, 2):
        error = place.unreachable("/a", OSError(number, os.strerror(number)))
        assert str(error).endswith("; nothing was sent")
        assert error.hint
    assert "file name too long" in str(place.unreachable("/a", OSError("AF_UNIX path too long")))
