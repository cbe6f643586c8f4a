"""A file system without locks is named as the cause; what else keeps the directory from use has its own hint."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys

import pytest

from remaphore.errors import StateError
from remaphore.receiving.ledger import locks, state
from tests.harness.machine import Machine

# Preloaded: the locks of flock(2), of fcntl(2) or of both fail, as on a mount that has none.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#ifdef NO_FLOCK
int flock(int fd, int op) { (void)fd; (void)op; errno = NO_FLOCK; return -1; }
#endif
#ifdef NO_FCNTL
#define WRAP(name) int name(int fd, int cmd, ...) { \\
    va_list a; va_start(a, cmd); void *p = va_arg(a, void *); va_end(a); \\
    if (cmd == F_SETLK || cmd == F_SETLKW) { errno = NO_FCNTL; return -1; } \\
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, #name))(fd, cmd, p); }
WRAP(fcntl)
WRAP(fcntl64)
#endif
"""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("kind", ["flock", "lockf"])
def test_a_file_system_without_locks_is_the_cause_and_no_other_daemon(kind, number, tmp_path, monkeypatch):
    def unsupported(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, kind, unsupported)
    with pytest.raises(StateError, match="no locks available on its file system") as caught, state.locked(tmp_path):
        pass
    assert os.strerror(number) in str(caught.value)
    assert "another daemon" not in str(caught.value)
    assert "local file system" in caught.value.hint
    assert state.holder(tmp_path) == ""


def test_a_check_that_holds_the_lock_for_a_moment_is_no_other_daemon(tmp_path, monkeypatch):
    with state.locked(tmp_path):
        pass
    with (tmp_path / "lock").open("rb") as checking:
        fcntl.flock(checking, fcntl.LOCK_SH)
        monkeypatch.setattr(locks.time, "sleep", lambda _seconds: fcntl.flock(checking, fcntl.LOCK_UN))
        with state.locked(tmp_path):
            pass


def test_an_error_of_the_disk_while_locking_is_that(tmp_path, monkeypatch):
    def broken(*_arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(StateError, match="cannot be locked: Input/output error") as caught, state.locked(tmp_path):
        pass
    assert "dmesg" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EROFS, "mount"),
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EIO, "dmesg"),
        (errno.EACCES, "this user can write to"),
        (errno.EMFILE, "LimitNOFILE"),
    ],
)
def test_each_cause_has_its_own_hint(number, hint, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StateError, match=os.strerror(number)) as caught, state.locked(tmp_path):
        pass
    assert hint in caught.value.hint


def test_a_full_disk_does_not_keep_a_daemon_from_its_lock(tmp_path, monkeypatch):
    with state.locked(tmp_path):
        pass

    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)  # it starts, and answers requests with 75
    with state.locked(tmp_path), pytest.raises(StateError, match="another daemon"), state.locked(tmp_path):
        pass


def test_probing_leaves_nothing_and_a_directory_with_locks_passes(tmp_path):
    locks.probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("missing", "word", "code"), [("NO_FLOCK", "check", 1), ("NO_FCNTL", "run", 3)])
def test_neither_run_nor_check_blames_another_daemon_or_the_disk(missing, word, code, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to build what is preloaded")
    (tmp_path / "shim.c").write_text(SHIM)
    shim = tmp_path / "shim.so"
    command = ["cc", f"-D{missing}={errno.ENOLCK}", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "remaphore", word, "-c", Machine(tmp_path).config],
        env={**os.environ, "LD_PRELOAD": str(shim)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    shown = done.stdout + done.stderr
    assert done.returncode == code, shown
    assert "no locks available on its file system" in shown
    assert "local file system" in shown
    assert "another daemon" not in shown
    assert "free" not in shown
