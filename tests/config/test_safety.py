"""Who else could have changed the configuration: every file, folder and link of it is checked, for every command."""

import os
import shutil
from pathlib import Path

import pytest

from remaphore.cli.configuration import load_config, load_daemon_config
from remaphore.config import search, secrets
from remaphore.errors import ConfigError
from tests.harness.factories import make_key
from tests.harness.machine import peer
from tests.harness.node_files import Entry, write_legacy, write_toml

STRANGER = 4242
ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="only root can give a file away")


@pytest.fixture
def main(tmp_path):
    (tmp_path / "etc").mkdir(mode=0o755)
    main = write_toml(tmp_path / "etc" / "remaphore.toml", 1, "com.one", peers=[Entry("com.two", 2)])
    drop_ins = main.parent / "peers.d"
    drop_ins.mkdir()
    drop_ins.chmod(0o755)
    (drop_ins / "three.toml").write_text(peer("com.three", make_key(3)))
    (drop_ins / "three.toml").chmod(0o644)
    return main


def unsafe(main) -> list[str]:
    return [problem.what for problem in search.load(str(main), {}).unsafe]


PLACES = {
    "file": "etc/remaphore.toml",
    "folder": "etc",
    "drop-in": "etc/peers.d/three.toml",
    "drop-ins": "etc/peers.d",
    "ancestor": ".",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o666])
def test_what_others_can_write_is_refused_by_the_daemon_and_a_warning_elsewhere(main, tmp_path, place, mode, capsys):
    if "peers.d" not in place:
        shutil.rmtree(main.parent / "peers.d")  # its own way leads through the same directories
    assert unsafe(main) == []
    path = tmp_path / place
    path.chmod(mode | (0o111 if path.is_dir() else 0))
    with pytest.raises(ConfigError, match=r"^unsafe configuration: .*: writable by ") as refused:
        load_daemon_config(str(main), (), trusted=True)
    assert str(path) in str(refused.value)
    assert refused.value.hint.startswith(f"look at {path}")
    assert refused.value.hint.endswith(f"and then: chmod go-w {path}")
    assert load_config(str(main)).destination == "com.one"
    assert capsys.readouterr().err.count("remaphore: warning: ") == 1


@only_root
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_what_another_user_owns_is_unsafe_and_no_hint_gives_it_to_us(main, tmp_path, place):
    os.chown(tmp_path / place, STRANGER, -1)
    (problem,) = search.load(str(main), {}).unsafe
    assert problem.what.startswith(f"{tmp_path / place}: owned by user id {STRANGER}".replace("/.:", ":"))
    assert "chown" not in problem.hint


def test_the_directory_of_peers_may_not_be_sticky_either(main):
    """Another user could not replace a file in it, but add one, with a peer."""
    (main.parent / "peers.d").chmod(0o1777)
    assert unsafe(main) == [f"{main.parent}/peers.d: writable by others"]


def test_a_link_is_followed_to_what_others_can_write(main, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    moved = main.rename(shared / "remaphore.toml")
    main.symlink_to(moved)
    assert unsafe(main) == []
    shared.chmod(0o777)
    assert unsafe(main) == [f"{shared}: writable by others"]


def test_a_drop_in_that_is_a_link_is_followed_too(main, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    drop_in = main.parent / "peers.d" / "three.toml"
    drop_in.rename(shared / "three.toml")
    drop_in.symlink_to(shared / "three.toml")
    assert unsafe(main) == []
    shared.chmod(0o777)
    assert unsafe(main) == [f"{shared}: writable by others"]


def test_the_file_of_cas_is_judged_like_the_configuration(main, tmp_path):
    """Who can add a CA to it can pose as the broker, and gets the daemon's login."""
    authorities = tmp_path / "ca.pem"
    authorities.touch(mode=0o644)
    main.write_text(f"{main.read_text()}\n[tls]\nca_file = '{authorities}'\n")
    assert unsafe(main) == []
    authorities.chmod(0o664)
    assert unsafe(main) == [f"{authorities}: writable by its group"]
    with pytest.raises(ConfigError, match=r"^unsafe configuration: .*/ca\.pem: writable by its group"):
        load_daemon_config(str(main), (), trusted=True)


@only_root
def test_a_way_through_an_open_directory_is_followed_too(main, tmp_path):
    shutil.rmtree(main.parent / "peers.d")  # its own way leads through the same directories
    tmp_path.chmod(0o777)
    folder = os.open(main.parent, os.O_RDONLY)
    try:
        assert unsafe(f"/dev/fd/{folder}/{main.name}") == [f"{tmp_path}: writable by others"]
    finally:
        os.close(folder)


def test_a_link_of_another_user_is_unsafe_wherever_it_leads(main):
    link = main.with_name("link.toml")
    link.symlink_to(main)
    os.chown(link, STRANGER, -1, follow_symlinks=False)
    assert unsafe(link) == [f"{link}: owned by user id {STRANGER}, which is not root"]


def test_the_file_that_was_read_is_judged_and_not_what_the_path_means_by_then(main, monkeypatch):
    main.chmod(0o666)
    good = main.with_name("good")
    good.write_text(main.read_text())
    good.chmod(0o644)
    opened = secrets._open

    def exchange(name: str, flags: int) -> int:
        descriptor = opened(name, flags)
        if Path(name) == main and good.exists():
            good.rename(main)
        return descriptor

    monkeypatch.setattr(secrets, "_open", exchange)
    assert unsafe(main) == [f"{main}: writable by others"]


def test_a_relative_name_and_one_with_dots_are_judged_like_the_absolute_one(main, monkeypatch):
    monkeypatch.chdir(main.parent / "peers.d")
    main.parent.chmod(0o777)
    assert unsafe("../remaphore.toml") == [f"{main.parent}: writable by others"]


def test_a_legacy_configuration_is_judged_as_well(tmp_path):
    path = write_legacy(tmp_path / "a.conf", 1, "com.one", server="nats://h", credentials="c")
    assert unsafe(path) == []
    path.chmod(0o620)
    assert unsafe(path) == [f"{path}: writable by its group"]
