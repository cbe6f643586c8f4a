"""Who could have written what would run: each way to be unsafe is rejected, with the command that fixes it."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from remaphore.trust import UnsafeError, check_directory
from remaphore_plugins.hooks_d.trust import check_file, recheck
from tests.harness.programs import write_script

USER = os.geteuid()
STRANGER = 4711


@pytest.fixture
def give(monkeypatch):
    """Return a function that changes the owner of a path: on disk if we are root, else in what lstat returns."""
    given: dict[str, int] = {}
    lstat = os.lstat

    def look(path: str) -> SimpleNamespace:
        found = lstat(path)
        values = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**values | ({"st_uid": given[path]} if path in given else {}))

    def to(path: Path, user: int) -> None:
        if USER == 0:
            os.chown(path, user, -1, follow_symlinks=False)
        else:
            monkeypatch.setattr(os, "lstat", look)
            given[str(path)] = user

    return to


@pytest.fixture
def handler(tmp_path) -> Path:
    for folder in (tmp_path / "etc", tmp_path / "etc" / "hooks.d", tmp_path / "opt"):
        folder.mkdir()
        folder.chmod(0o755)
    return Path(write_script(tmp_path / "etc" / "hooks.d" / "10-a", "exit 0"))


def fault(path: Path, *, user: int = USER) -> UnsafeError:
    with pytest.raises(UnsafeError) as raised:
        check_file(str(path), user=user)
    return raised.value


def test_safe_file_is_identified_by_device_inode_and_ctime(handler):
    trusted, found = check_file(str(handler), user=USER), handler.stat()
    assert (trusted.device, trusted.inode, trusted.ctime_ns) == (found.st_dev, found.st_ino, found.st_ctime_ns)
    recheck(trusted, user=USER)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_writable_file_directory_and_ancestor_are_unsafe_and_the_hint_works(level, mode, handler):
    place = (handler, *handler.parents)[level]
    place.chmod(mode)
    found = fault(handler)
    assert found.path == str(place)
    assert found.hint.startswith(f"look at {place}")  # whoever could write may have made it a trap
    subprocess.run(["sh", "-c", found.hint.rpartition("and then: ")[2]], check=True)
    check_file(str(handler), user=USER)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755])
def test_set_id_file_is_unsafe_and_the_hint_works(mode, handler):
    handler.chmod(mode)
    assert fault(handler).reason == "set-uid or set-gid"
    subprocess.run(["sh", "-c", fault(handler).hint], check=True)
    check_file(str(handler), user=USER)


def test_file_of_root_is_safe_for_every_user():
    check_file(os.path.realpath("/bin/sh"), user=STRANGER)


@pytest.mark.parametrize("what", ["file", "directory", "link", "target's directory", "link on the way"])
def test_owner_of_each_component_counts(what, handler, tmp_path, give):
    (tmp_path / "opt" / "there").symlink_to(tmp_path / "etc")
    link = handler.with_name("20-b")
    link.symlink_to(tmp_path / "opt" / "there" / "hooks.d" / "10-a")
    places = {
        "file": handler,
        "directory": handler.parent,
        "link": link,
        "target's directory": tmp_path / "opt",
        "link on the way": tmp_path / "opt" / "there",
    }
    check_file(str(link), user=USER)
    give(places[what], STRANGER)
    found = fault(link)
    assert found.path == str(places[what])
    assert found.reason.startswith(f"owned by user id {STRANGER}, which is ")
    assert found.hint.startswith(f"look at {places[what]}, which is another user's; then delete it")
    assert "chown" not in found.hint  # it would make that user's work root's
    give(places[what], 0)
    check_file(str(link), user=USER)


@pytest.mark.parametrize("relative", [False, True])
def test_each_component_of_a_link_s_target_counts(relative, handler, tmp_path):
    target = Path(write_script(tmp_path / "opt" / "real", ""))
    link = handler.with_name("20-b")
    link.symlink_to("../../opt/./real" if relative else target)
    check_file(str(link), user=USER)
    for place in (target, tmp_path / "opt"):
        place.chmod(0o777)
        assert fault(link).path == str(place)
        place.chmod(0o755)


def test_chain_of_links_is_followed_to_its_end(handler, tmp_path):
    evil = tmp_path / "opt" / "evil"
    evil.mkdir()
    write_script(evil / "x", "")
    (tmp_path / "opt" / "two").symlink_to("evil")
    (tmp_path / "opt" / "one").symlink_to("two/../two/x")
    link = handler.with_name("20-b")
    link.symlink_to(tmp_path / "opt" / "one")
    check_file(str(link), user=USER)
    evil.chmod(0o777)
    assert fault(link).path == str(evil)


def test_dots_after_a_link_are_those_of_its_target(handler, tmp_path):
    """Removing `..` from the text would check another directory than the kernel uses."""
    deep = tmp_path / "opt" / "deep" / "deeper"
    deep.mkdir(parents=True)
    write_script(deep.parent / "x", "")
    (tmp_path / "way").symlink_to(deep)
    check_file(f"{tmp_path}/way/../x", user=USER)
    deep.parent.chmod(0o777)
    assert fault(Path(f"{tmp_path}/way/../x")).path == str(deep.parent)


def test_links_in_a_circle_end(handler):
    handler.with_name("a").symlink_to("b")
    handler.with_name("b").symlink_to("a")
    assert "more than 40 links" in fault(handler.with_name("a")).reason


def test_sticky_directory_of_root_is_safe_if_what_is_in_it_is_safe(tmp_path, give):
    shared = tmp_path / "shared"
    (shared / "ours").mkdir(parents=True)
    path = write_script(shared / "ours" / "10-a", "")
    shared.chmod(0o1777)
    give(shared, 0)
    check_file(path, user=USER)
    give(shared / "ours", STRANGER)
    assert fault(Path(path)).path == str(shared / "ours")
    give(shared / "ours", 0)
    give(shared, USER or STRANGER)
    assert fault(Path(path), user=USER or STRANGER).path == str(shared), "its owner may replace all that lies in it"


def test_sticky_directory_of_a_verb_is_unsafe(tmp_path):
    folder = tmp_path / "deploy"
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.raises(UnsafeError, match="writable by others"):
        check_directory(str(folder), user=USER)
    folder.chmod(0o755)
    check_directory(str(folder), user=USER)


def test_dev_null_is_safe_although_all_can_write_to_it(handler):
    handler.with_name("20-b").symlink_to("/dev/null")
    check_file(str(handler.with_name("20-b")), user=USER)


def replace(handler: Path) -> None:
    write_script(handler.with_name("new"), "exit 1")
    handler.with_name("new").replace(handler)


def touch_back(handler: Path) -> None:
    found = handler.stat()
    handler.write_text("#!/bin/sh\nexit 9")
    os.utime(handler, ns=(found.st_atime_ns, found.st_mtime_ns))


CHANGES = {
    "replaced": (replace, "changed"),
    "written to, and its mtime set back": (touch_back, "changed"),
    "gone": (lambda handler: handler.unlink(), "No such file"),
    "now a directory": (lambda handler: (handler.unlink(), handler.mkdir()), "no longer a file"),
    "now unsafe": (lambda handler: handler.chmod(0o777), "writable"),
    "its directory unsafe": (lambda handler: handler.parent.chmod(0o777), "writable"),
    "now a link to the same": (
        lambda handler: (handler.rename(handler.with_name("x")), handler.symlink_to("x")),
        "changed",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_change_after_the_check_is_detected(case, handler):
    change, reason = CHANGES[case]
    trusted = check_file(str(handler), user=USER)
    change(handler)
    with pytest.raises(UnsafeError, match=reason):
        recheck(trusted, user=USER)
