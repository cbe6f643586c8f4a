"""Files are made and replaced whole or not at all, and nothing is left beside them."""

import contextlib
import os
import stat

import pytest

from remaphore.config import files
from remaphore.config.files import NewFile
from remaphore.errors import ConfigError
from remaphore.trust import UnsafeError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def new(path, text="new", mode=0o600):
    return NewFile(path=path, text=text, mode=mode)


def test_files_are_made_with_their_text_and_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        files.create_all([new(tmp_path / "a"), new(tmp_path / "b", "z\u00fc\r\n", 0o644)])
    finally:
        os.umask(before)
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "b").read_bytes() == b"z\xc3\xbc\r\n"
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o600, 0o644]


def test_a_secret_is_at_no_time_readable_for_others(tmp_path, monkeypatch):
    seen = []
    really_link = os.link

    def link(source, target):
        seen.append(stat.S_IMODE(source.stat().st_mode))
        really_link(source, target)

    monkeypatch.setattr(os, "link", link)
    before = os.umask(0)
    try:
        files.create_all([new(tmp_path / "a")])
    finally:
        os.umask(before)
    assert seen == [0o600]


@pytest.mark.parametrize("there", ["file", "folder", "dangling link"])
def test_what_is_there_is_never_overwritten_and_no_file_of_the_others_is_made(tmp_path, there):
    taken = tmp_path / "b"
    {"file": lambda: taken.write_text("old"), "folder": taken.mkdir, "dangling link": lambda: taken.symlink_to("x")}[
        there
    ]()
    with pytest.raises(ConfigError, match=r"/b: already exists$"):
        files.create_all([new(tmp_path / "a"), new(taken), new(tmp_path / "c")])
    assert names(tmp_path) == ["b"]
    assert there != "file" or taken.read_text() == "old"


def test_a_failure_at_the_second_file_takes_the_first_one_away(tmp_path, monkeypatch):
    really_link = os.link

    def link(source, target):
        if target.name == "b":
            raise KeyboardInterrupt
        really_link(source, target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(KeyboardInterrupt):
        files.create_all([new(tmp_path / "a"), new(tmp_path / "b")])
    assert names(tmp_path) == []


def test_a_folder_that_is_missing_is_reported(tmp_path):
    with pytest.raises(ConfigError, match=r"none/a: cannot be written: No such file or directory$"):
        files.create_all([new(tmp_path / "none" / "a")])


def test_replacing_keeps_mode_owner_and_attributes(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    try:
        os.setxattr(path, "user.note", b"ours")
        attributes = ["user.note"]
    except OSError:  # a file system without them
        attributes = []
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()
    files.replace(path, "new")
    after = path.stat()
    assert path.read_text() == "new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert [name for name in os.listxattr(path) if name.startswith("user.")] == attributes
    assert names(tmp_path) == ["a"]


def test_replacing_follows_links_and_leaves_them(tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "a"
    target.write_text("old")
    link = tmp_path / "a"
    link.symlink_to("real/a")
    files.replace(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert names(tmp_path / "real") == ["a"]


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    path = tmp_path / "a"
    path.write_text("old")
    really_fsync, really_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("sync"), really_fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("rename"), really_replace(*names)))
    files.replace(path, "new")
    assert events == ["sync", "rename", "sync"]


def test_a_failed_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")

    def fail(*names):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ConfigError, match=r"a: cannot be written: Operation not permitted$"):
        files.replace(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_what_is_not_there_cannot_be_replaced_or_deleted(tmp_path):
    for action in (lambda: files.replace(tmp_path / "a", "new"), lambda: files.delete(tmp_path / "a")):
        with pytest.raises(ConfigError, match="No such file"):
            action()
    assert names(tmp_path) == []


@pytest.fixture(params=[0o000, 0o022, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_folders_can_be_read_by_the_daemons_user_whatever_the_umask(tmp_path):
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b" / "c", mode=0o700)
    assert [mode_of(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o755, 0o755, 0o700]


def test_a_folder_that_exists_keeps_its_mode_and_a_new_one_its_group(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2750)
    files.make_folder(shared)
    files.make_folder(shared / "new")
    assert (mode_of(shared), mode_of(shared / "new")) == (0o2750, 0o2755)


@pytest.mark.usefixtures("umask")
def test_a_private_directory_is_made_for_us_alone(tmp_path):
    os.close(files.open_private(tmp_path / "a" / "main"))
    assert [mode_of(tmp_path / name) for name in ("a", "a/main")] == [0o755, 0o700]


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o500])
def test_a_directory_that_exists_becomes_private(tmp_path, mode):
    (tmp_path / "main").mkdir()
    (tmp_path / "main").chmod(mode)
    os.close(files.open_private(tmp_path / "main"))
    assert mode_of(tmp_path / "main") == 0o700


def directory(path, mode=0o755):
    path.mkdir(parents=True)
    path.chmod(mode)
    return path


def linked(folder):
    """A link to a directory of ours, which a chmod that follows it would change."""
    folder.symlink_to(directory(folder.with_name("target")))


def hard_link(folder):
    directory(folder, 0o777)
    (folder.with_name("passwd")).touch()
    os.link(folder.with_name("passwd"), folder / "ledger.sqlite3-wal")


def of_another(folder):
    directory(folder)
    os.chown(folder, 4242, -1)


def entry_of_another(folder):
    (directory(folder) / "ledger.sqlite3").symlink_to("/etc/passwd")
    os.chown(folder / "ledger.sqlite3", 4242, -1, follow_symlinks=False)


def parent_of_another(folder):
    directory(folder)
    os.chown(folder.parent, 4242, -1)


UNSAFE = {
    "link": linked,
    "dangling link": lambda folder: folder.symlink_to("nowhere"),
    "loop": lambda folder: folder.symlink_to(folder.name),
    "file": lambda folder: folder.write_text(""),
    "sticky": lambda folder: directory(folder, 0o1777),
    "link in it, once writable": lambda folder: (directory(folder, 0o777) / "lock").symlink_to("/etc/passwd"),
    "second name in it, once writable": hard_link,
    "parent writable by others": lambda folder: (directory(folder), folder.parent.chmod(0o777)),
    "missing in one writable by its group": lambda folder: folder.parent.chmod(0o775),
    "of another user": of_another,
    "file of another user in it": entry_of_another,
    "parent of another user": parent_of_another,
}


@pytest.mark.parametrize("make", UNSAFE.values(), ids=UNSAFE)
def test_a_directory_that_another_user_could_have_prepared_is_left_as_it_is(tmp_path, make):
    folder = tmp_path / "state" / "main"
    directory(folder.parent)
    try:
        make(folder)
    except PermissionError:
        pytest.skip("only root can give a file away")
    before = {path: path.lstat().st_mode for path in tmp_path.rglob("*")}
    for use in (files.check_private, files.open_private):
        with pytest.raises((UnsafeError, NotADirectoryError)):
            use(folder)
    assert {path: path.lstat().st_mode for path in tmp_path.rglob("*")} == before


def test_what_a_daemon_deletes_while_its_directory_is_checked_is_no_problem(tmp_path, monkeypatch):
    (tmp_path / "state").mkdir(mode=0o700)
    scan, log = os.scandir, tmp_path / "state" / "ledger.sqlite3-wal"

    @contextlib.contextmanager
    def listed(descriptor):
        log.touch()
        with scan(descriptor) as entries:
            found = list(entries)
        log.unlink()
        yield found

    monkeypatch.setattr(os, "scandir", listed)
    files.check_private(tmp_path / "state")


def test_a_directory_may_be_reached_by_a_link_of_ours(tmp_path):
    (tmp_path / "var").symlink_to(directory(tmp_path / "disk"))
    os.close(files.open_private(tmp_path / "var" / "a" / "main"))
    assert mode_of(tmp_path / "disk" / "a" / "main") == 0o700
