"""Why an account could not start a file: modes, directories on the way, the mount, the interpreter."""

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore_plugins.processes import obstacles
from remaphore_plugins.processes.account import own_account
from remaphore_plugins.processes.obstacles import find_noexec_mount, find_obstacle
from tests.harness.machine import type_in
from tests.harness.programs import write_script

PATH = "/usr/local/bin:/usr/bin:/bin"
OWN = own_account()
# No file here is theirs, so only the permissions of others count for them, in a group of theirs those of the group.
STRANGER = replace(OWN, name="stranger", uid=4_000_001, gid=4_000_001, groups=(4_000_001,))
MEMBER = replace(STRANGER, name="member", groups=(4_000_001, os.getegid()))


@pytest.fixture
def base(tmp_path_factory):
    """A directory that every user can reach."""
    folder = Path(tmp_path_factory.mktemp("open"))
    for each in (folder, *folder.parents):
        if not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    return folder


def obstacle(path, account=STRANGER):
    return find_obstacle(str(path), account, search_path=PATH)


def test_nothing_is_found_where_all_is_well(base):
    script = write_script(base / "go", "exit 0")
    for account in (OWN, MEMBER, STRANGER):
        assert obstacle(script, account) is None
    assert obstacle(sys.executable, OWN) is None


# The mode of the file, and whether the owner (not root), a member of its group and a stranger can start it.
MODES = [
    (0o755, (True, True, True)),
    (0o700, (True, False, False)),
    (0o750, (True, True, False)),
    (0o711, (True, False, False)),  # a script is read by its interpreter, which runs as that user
    (0o707, (True, False, True)),  # the group has less than others
    (0o655, (False, True, True)),
    (0o644, (False, False, False)),
]


@pytest.mark.parametrize(("mode", "expected"), MODES)
def test_modes_of_the_file_are_judged_for_the_account(mode, expected, base):
    script = Path(write_script(base / "go", "exit 0"))
    script.chmod(mode)
    owner = replace(OWN, uid=4_000_002)
    os.chown(script, 4_000_002, -1) if os.geteuid() == 0 else None
    accounts = (owner if os.geteuid() == 0 else OWN, MEMBER, STRANGER)
    found = [obstacle(script, account) for account in accounts]
    assert tuple(each is None for each in found) == expected
    for each in filter(None, found):
        assert str(script) in each.hint
        assert "execut" in each.reason or "cannot read it" in each.reason


@pytest.mark.parametrize("account", [MEMBER, STRANGER], ids=lambda account: account.name)
def test_directory_that_cannot_be_searched_is_named_and_the_hint_opens_it(account, base):
    closed = base / "etc" / "closed"
    (closed / "deploy").mkdir(parents=True)
    script = write_script(closed / "deploy" / "go", "exit 0")
    closed.chmod(0o700)
    found = obstacle(script, account)
    assert found.reason.startswith(f"user {account.name} cannot search the directory {closed} (mode 0700")
    type_in(found.hint)
    assert obstacle(script, account) is None


def test_directory_of_a_links_target_counts_too(base):
    closed = base / "closed"
    closed.mkdir()
    (base / "go").symlink_to(write_script(closed / "go", "exit 0"))
    closed.chmod(0o700)
    assert str(closed) in obstacle(base / "go").reason


def test_access_control_list_is_left_to_the_kernel(base):
    """An entry for another user; the tag, the permissions and the id of each entry as acl(5) and Linux have them."""
    script = Path(write_script(base / "go", "exit 0"))
    script.chmod(0o700)
    assert obstacle(script) is not None
    entries = [(1, 7, -1), (2, 5, 4_000_001), (4, 0, -1), (16, 5, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(script, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"the file system has no access control lists: {error.strerror}")
    assert obstacle(script) is None


def test_a_directory_of_path_that_cannot_be_examined_is_passed_over(base):
    script = base / "go"
    script.write_text("#!/usr/bin/env nosuch\n")
    script.chmod(0o755)
    found = find_obstacle(str(script), OWN, search_path=f"/{'x' * 300}:/bin")
    assert found is not None
    assert "'nosuch', which is not found in PATH" in found.reason


def test_root_without_capabilities_is_bound_by_modes(base, monkeypatch):
    script = Path(write_script(base / "go", "exit 0"))
    script.chmod(0o700)
    root = replace(STRANGER, name="root", uid=0, groups=(0,))
    monkeypatch.setattr(obstacles, "has_capability", lambda number: True)
    assert obstacle(script, root) is None
    if os.geteuid() == 0:
        os.chown(script, 4_000_002, 4_000_002)
    monkeypatch.setattr(obstacles, "has_capability", lambda number: False)
    assert obstacle(script, root) is not None


INTERPRETERS = {
    "missing": ("#!/no/such\n", "its interpreter '/no/such': no such file", "install it, or correct the first line"),
    "a directory": ("#!/usr\n", "its interpreter '/usr': not a regular file", ""),
    "no path": ("#!sh\n", "its interpreter 'sh': no such file", "write its absolute path, or /usr/bin/env before"),
    "relative": ("#!./no/such\n", "its interpreter './no/such': no such file", "write its absolute path"),
    "missing for env": (
        "#!/usr/bin/env nosuch\n",
        "its first line runs 'nosuch', which is not found in PATH",
        "install",
    ),
    "missing for env -S": ("#!/usr/bin/env -S nosuch -x\n", "runs 'nosuch', which is not found in PATH", "install it"),
    "env without -S": ("#!/usr/bin/env sh -e\n", "runs 'sh -e', which is not found", "write env -S instead of env"),
    "no-break space after it": ("#!/usr/bin/env sh\xa0\n", r"runs 'sh\xa0', which is not found", "install it"),
}


@pytest.mark.parametrize("case", INTERPRETERS)
def test_interpreter_that_is_not_there_is_named(case, base):
    first, reason, hint = INTERPRETERS[case]
    found = obstacle(write_script(base / "go", "", first=first))
    assert reason in found.reason
    assert hint in found.hint


def test_relative_interpreter_is_that_of_the_directory_in_which_it_runs(base):
    assert obstacle(write_script(base / "go", "", first="#!bin/sh\n")) is None  # of /, in which handlers run
    assert subprocess.run([base / "go"], cwd="/", check=False).returncode == 0


@pytest.mark.parametrize(("formats", "found"), [([], True), (["register", "status"], True), (["jar", "status"], False)])
def test_data_is_no_executable_unless_the_kernel_may_know_its_format(base, monkeypatch, formats, found):
    monkeypatch.setattr(os, "listdir", lambda path: formats if "binfmt_misc" in path else [])
    data = base / "go"
    data.write_bytes(b"\x1f\x8b\x08\0\0")
    data.chmod(0o755)
    assert (obstacle(str(data)) is not None) == found
    data.write_bytes(Path("/bin/true").read_bytes())
    assert obstacle(str(data)) is None


def test_interpreter_is_judged_for_the_account_as_well(base):
    interpreter = Path(write_script(base / "sh", "exit 0"))
    script = write_script(base / "go", "", first=f"#!{interpreter}\n")
    assert obstacle(script) is None
    interpreter.chmod(0o700)
    found = obstacle(script)
    assert found.reason.startswith(f"its interpreter '{interpreter}': not executable by user stranger")
    assert found.hint == f"chmod a+rx {interpreter}"


def test_script_that_is_its_own_interpreter_ends_the_search(base):
    script = write_script(base / "go", "", first=f"#!{base}/go\n")
    assert "whose interpreter is a script" in obstacle(script).reason


@pytest.mark.parametrize("kind", ["missing", "broken link", "directory", "fifo", "link to itself"])
def test_what_is_no_file_is_named(kind, base):
    path = base / "go"
    {
        "missing": lambda: None,
        "broken link": lambda: path.symlink_to("nowhere"),
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link to itself": lambda: path.symlink_to(path),
    }[kind]()
    expected = {
        "missing": "no such file",
        "broken link": "a link whose target does not exist",
        "link to itself": "cannot be examined: Too many levels of symbolic links",
    }
    assert obstacle(path).reason == expected.get(kind, "not a regular file")


# In a mount namespace of its own: two file systems, one inside the other, the inner one noexec, its name with a space.
MOUNT = """
mount -t tmpfs -o mode=755 none "$1" && mkdir "$1/in side" && mount -t tmpfs -o noexec,mode=755 none "$1/in side"
mkdir "$1/in side/d" && printf '#!/bin/sh\\n' >"$1/in side/d/go" && chmod 755 "$1/in side/d/go"
ln -s "in side/d/go" "$1/go"
cp "$1/go" "$1/fine"
exec "$2" -c 'import sys
from remaphore_plugins.processes.account import own_account
from remaphore_plugins.processes.obstacles import find_obstacle
for name in sys.argv[1:]: print(find_obstacle(name, own_account(), search_path="/bin"))' "$1/go" "$1/fine"
"""


def test_noexec_mount_is_named_and_no_mode_is_suggested(base):
    words = ["unshare", "--mount", "sh", "-ec", MOUNT, "sh", base, sys.executable]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    first, second = done.stdout.splitlines()
    assert f"reason='it is on a file system that is mounted noexec: {base}/in side'" in first
    assert f"mount -o remount,exec '{base}/in side'" in first
    assert "chmod" not in first
    assert second == "None"


def test_mount_point_is_found_without_proc_as_well(base, monkeypatch):
    script = write_script(base / "go", "exit 0")
    assert find_noexec_mount(script) == ""
    noexec = os.statvfs_result((*os.statvfs(script)[:8], os.ST_NOEXEC, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: noexec)
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_options: (_ for _ in ()).throw(OSError))
    assert find_noexec_mount(script) == str(base)
