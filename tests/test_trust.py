"""The way to a path: tests/plugins/hooks_d/test_trust.py has its rules, here is what only directories need."""

import os
from types import SimpleNamespace

import pytest

from remaphore import trust
from remaphore.trust import UnsafeError, check_directory, check_way

USER = os.geteuid()


def test_an_entry_of_ours_may_be_in_a_sticky_directory_of_root_but_its_entries_do_not_count():
    check_way("/tmp", user=USER)
    with pytest.raises(UnsafeError, match="/tmp: writable by others"):
        check_directory("/tmp", user=USER)


def test_a_sticky_directory_of_root_that_nobody_can_write_to_is_a_volume_of_kubernetes(monkeypatch):
    monkeypatch.setattr(trust, "is_read_only", lambda path: path == "/tmp")
    check_directory("/tmp", user=USER)


@pytest.mark.parametrize("check", [check_way, check_directory])
def test_a_file_is_no_directory(check, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnsafeError, match=r"/file: not a directory$"):
        check(str(tmp_path / "file"), user=USER)


def test_a_path_in_a_deleted_directory_is_unsafe(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UnsafeError, match=r"x: cannot be examined: No such file"):
        check_way("x", user=USER)


@pytest.mark.parametrize(("user", "trusted"), [(0, "not root"), (1000, "neither root nor user id 1000")])
def test_another_owner_is_reported_with_the_user_that_was_compared(user, trusted):
    with pytest.raises(UnsafeError, match=f"^/x: owned by user id 4711, which is {trusted}$"):
        trust.check_owner("/x", SimpleNamespace(st_uid=4711), user=user)
    trust.check_owner("/x", SimpleNamespace(st_uid=user), user=user)
