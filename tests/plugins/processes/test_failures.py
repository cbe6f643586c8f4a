"""A program that cannot be started: each cause has its own words and its own hint, whatever errno they share."""

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore_plugins.processes import obstacles
from remaphore_plugins.processes.account import own_account
from remaphore_plugins.processes.run import run
from tests.harness.programs import CAP, ENV, held, write_script
from tests.harness.seccomp import denying

ROOT = Path(__file__).parents[3]
STRANGER = replace(own_account(), name="stranger", uid=4_000_001, gid=4_000_001, groups=(4_000_001,))


def plain(folder):
    path = Path(write_script(folder / "plain", "exit 0"))
    path.chmod(0o644)
    return path


def binary(folder, *, machine=b"\xff\x7f", loader=b""):
    """Return a binary of another machine, or one of this machine whose loader is not there."""
    data = bytearray(Path(sys.executable).resolve().read_bytes())
    if loader:
        start = data.index(b"/ld-linux")
        data[start : start + 3] = loader
    else:
        data[18:20] = machine
    path = folder / "binary"
    path.write_bytes(data)
    path.chmod(0o755)
    return path


def link_to_itself(folder):
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


REJECTED = {
    "missing": (lambda folder: folder / "nope", "no such file", "create "),
    "not executable": (plain, "not executable", "chmod +x "),
    "directory": (lambda folder: folder, "not a regular file", "name an executable file"),
    "no first line": (
        lambda folder: write_script(folder / "x", "exit 0", first=""),
        "its first line does not begin with #!",
        "add a first line such as #!/bin/sh",
    ),
    "no interpreter": (
        lambda folder: write_script(folder / "x", "", first="#!/no/such\n"),
        "its interpreter '/no/such': no such file",
        "install it, or correct the first line",
    ),
    "below a file": (lambda folder: plain(folder) / "x", "cannot be examined: Not a directory", "correct "),
    "link to itself": (link_to_itself, "Too many levels of symbolic links", "correct "),
    "another machine": (binary, "it is a binary for another machine: ", "by the one for this machine (uname -m)"),
    "no loader": (
        lambda folder: binary(folder, loader=b"/xx"),
        "its dynamic loader ",
        "by a binary for the C library of this system",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
async def test_program_that_cannot_be_started_has_its_reason_and_a_hint(case, tmp_path, monkeypatch):
    monkeypatch.setattr(obstacles, "_BINFMT_MISC", str(tmp_path / "nothing is registered"))
    make, reason, hint = REJECTED[case]
    path = str(make(tmp_path))
    result = await run([os.fsencode(path)], env=ENV, timeout=30, cap=CAP)
    assert (result.exit_code, result.output, result.output_bytes) == (None, b"", 0)
    assert result.error.startswith(f"cannot start {path!r}: ")
    assert reason in result.error
    assert hint in result.hint


async def test_name_that_is_not_in_path_is_not_a_missing_interpreter():
    result = await run([b"nosuch"], env=ENV, timeout=30, cap=CAP)
    assert result.error == f"cannot start 'nosuch': no such program in PATH ({ENV['PATH'].decode()})"
    assert result.hint == "correct the name, or write its path"


@pytest.mark.parametrize(("argument", "reason"), [(b"S" * 131_072, "131072"), (b"S\0", "NUL")], ids=["long", "nul"])
async def test_impossible_argument_is_an_error_that_does_not_quote_it(argument, reason):
    result = await run([b"echo", argument], env=ENV, timeout=30, cap=CAP)
    assert (result.exit_code, result.output) == (None, b"")
    assert reason in result.error + result.hint
    assert "S" not in (result.error + result.hint).replace("SIG", "")


async def test_file_that_is_still_being_written_is_busy_and_not_a_matter_of_modes(tmp_path):
    busy = shutil.copy("/bin/true", tmp_path / "busy")
    descriptor = os.open(busy, os.O_WRONLY)
    result = await run([os.fsencode(busy)], env=ENV, timeout=30, cap=CAP)
    os.close(descriptor)
    assert result.error.endswith(": Text file busy")
    assert "a program is still writing to it" in result.hint


@contextlib.contextmanager
def limited(what, soft):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


async def test_no_free_descriptor_names_the_limit():
    with limited(resource.RLIMIT_NOFILE, held()[0]):
        result = await run([b"true"], env=ENV, timeout=30, cap=CAP)
    assert result.error.endswith(": Too many open files")
    assert "LimitNOFILE=" in result.hint


@pytest.mark.parametrize("error", [None, MemoryError()])
async def test_a_program_that_cannot_be_started_costs_no_descriptor(monkeypatch, error):
    """Whichever of its descriptors is the first for which there is no room, or whatever else prevents the start."""
    before, failed = held(), []
    if error is not None:
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(error))
    for free in range(12):
        taken = []
        with limited(resource.RLIMIT_NOFILE, 200):
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            for descriptor in taken[:free]:
                os.close(descriptor)
            try:
                failed.append((await run([b"true"], env=ENV, stdin=b"x" * 100_000, timeout=30, cap=CAP)).error)
            except MemoryError as raised:
                failed.append(repr(raised))
        for descriptor in taken[free:]:
            os.close(descriptor)
        assert held() == before
    assert failed[0]
    assert error is not None or not failed[-1]


async def test_limit_of_processes_of_the_account_is_named():
    """Checked by execve(2) since Linux 3.1, and not when the user is set."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start a program as another user")
    first = await asyncio.create_subprocess_exec("sleep", "600", user=STRANGER.uid)
    try:
        with limited(resource.RLIMIT_NPROC, 0):
            result = await run([b"/bin/true"], env=ENV, timeout=30, cap=CAP, account=STRANGER)
    finally:
        first.kill()
        await first.wait()
    assert result.error == "cannot start '/bin/true': Resource temporarily unavailable"
    assert "the limit of processes of its user is reached" in result.hint


# The account is a stranger; the working directory is one of ours, as it is for handlers.
AS_STRANGER = """
import asyncio
from remaphore_plugins.processes.account import Account
from remaphore_plugins.processes.run import run
stranger = Account(name="stranger", uid=4_000_001, gid=4_000_001, groups=(4_000_001,), home="/")
result = asyncio.run(run([b"/bin/true"], env={}, cwd="/", timeout=30, cap=100, account=stranger))
print(result.error, result.hint, sep="|")
"""


@pytest.mark.parametrize("how", ["seccomp", "user namespace"])
def test_account_that_cannot_be_entered_is_named_with_the_capabilities(how):
    prefix = denying(1, "setgroups") if how == "seccomp" else ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine permits no user namespace")
    done = subprocess.run(
        [*prefix, sys.executable, "-c", AS_STRANGER], cwd=ROOT, capture_output=True, text=True, check=True
    )
    error, hint = done.stdout.strip().split("|")
    assert error == "cannot start '/bin/true': cannot become user stranger: Operation not permitted"
    assert "CAP_SETUID and CAP_SETGID" in hint


async def test_denied_execve_without_a_cause_in_the_file_names_where_to_look(tmp_path, monkeypatch):
    """As SELinux, AppArmor or root_squash deny it."""

    def deny(*_args, **_options):
        raise PermissionError(13, "Permission denied", b"/bin/true")

    monkeypatch.setattr(subprocess, "Popen", deny)
    result = await run([b"/bin/true"], env=ENV, timeout=30, cap=CAP)
    assert result.error == "cannot start '/bin/true': Permission denied"
    assert "SELinux or AppArmor" in result.hint
