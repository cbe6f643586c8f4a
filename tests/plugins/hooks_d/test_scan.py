"""Which entries of a verb's directories would run, in which order, and what is reported about the others."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore_plugins.hooks_d.scan import Kind, find_verbs, is_verb, scan
from tests.harness.programs import make_hooks, write_script
from tests.harness.seccomp import denying

HOSTILE_VERBS = [
    *("", ".", "..", "../x", "a/b", "/", "/etc", "deploy/", "deploy\n", "deploy\0", "Ping", "PING", "-x", "_x"),
    *("a.b", "a b", "dépl", "\uff11", "a" * 65, "\udcff", "*", "~", "$(id)"),
]


def runs(*hooks: Path) -> list[str]:
    found = scan("deploy", [str(hook) for hook in hooks])
    return [entry.path for entry in found.entries if entry.kind is Kind.RUN]


def entry(folder: Path, name: str):
    [found] = [entry for entry in scan("deploy", [str(folder)]).entries if entry.name == name]
    return found


def test_verbs_that_name_a_directory():
    assert all(map(is_verb, ["a", "0", "deploy", "a-b_c", "9-", "a" * 64]))


@pytest.mark.parametrize("verb", HOSTILE_VERBS, ids=ascii)
def test_no_path_is_ever_made_of_another_verb(verb, tmp_path, monkeypatch):
    hooks = make_hooks(tmp_path, _50_x="")
    touched = []
    with monkeypatch.context() as patched:
        for name in ("stat", "lstat", "listdir", "scandir", "open", "readlink", "access"):
            patched.setattr(os, name, lambda path, *_, **__: touched.append(path))
        with contextlib.suppress(Exception):  # whatever then fails is irrelevant here
            found = scan(verb, [str(hooks)])
    assert touched == []
    assert found is None


@pytest.fixture
def touched(monkeypatch):
    """The paths that stat(2) and getdents(2) are called with, in order."""
    paths = []
    for name in ("stat", "listdir"):
        call = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda path, *, call=call, **options: (paths.append(path), call(path, **options))[1]
        )
    return paths


def test_watching_the_calls_sees_a_good_verb(tmp_path, touched):
    scan("deploy", [str(make_hooks(tmp_path))])
    assert touched == [f"{tmp_path}/hooks.d/deploy"]


def test_hooks_directory_without_the_verb_is_one_that_decides_and_hides_nothing(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    hooks = make_hooks(tmp_path, _1="")
    found = scan("deploy", [str(hooks), str(other)])
    assert found.folders == (str(hooks), f"{hooks}/deploy", str(other))
    assert [(entry.name, entry.kind) for entry in found.entries] == [("1", Kind.RUN)]


def test_verb_without_a_directory_costs_one_call(tmp_path, touched):
    hooks = str(make_hooks(tmp_path))
    assert scan("other", [hooks]) is None
    assert touched == [f"{hooks}/other"]


@pytest.mark.parametrize("first", [True, False])
def test_a_file_in_place_of_a_hooks_directory_is_an_error_and_hides_no_verb(tmp_path, first):
    (tmp_path / "file").touch()
    hooks = [str(tmp_path / "file"), str(make_hooks(tmp_path, _1=""))]
    with pytest.raises(NotADirectoryError):
        scan("deploy", hooks if first else hooks[::-1])


def test_order_is_that_of_the_bytes(tmp_path):
    names = ["_under", "a", "B_c", "2b", "10-a", "-dash"]
    hooks = make_hooks(tmp_path)
    for name in names:
        write_script(hooks / "deploy" / name, "")
    assert [Path(path).name for path in runs(hooks)] == ["-dash", "10-a", "2b", "B_c", "_under", "a"]


def test_no_directory_and_an_empty_one_are_distinguished(tmp_path):
    assert scan("other", [str(make_hooks(tmp_path)), str(tmp_path / "missing")]) is None
    found = scan("deploy", [str(tmp_path / "hooks.d")])
    assert (found.entries, found.folders) == ((), (f"{tmp_path}/hooks.d", f"{tmp_path}/hooks.d/deploy"))


def test_later_directory_replaces_by_name_and_adds(tmp_path):
    vendor = make_hooks(tmp_path / "usr", _10_a="", _20_b="")
    admin = make_hooks(tmp_path / "etc", _20_b="", _15_c="")
    assert runs(vendor, admin) == [f"{vendor}/deploy/10-a", f"{admin}/deploy/15-c", f"{admin}/deploy/20-b"]


MASKS = {
    "an empty file": lambda path: path.touch(),
    "an empty executable": lambda path: (path.touch(), path.chmod(0o755)),
    "a link to /dev/null": lambda path: path.symlink_to("/dev/null"),
    "a directory": lambda path: path.mkdir(),
    "a file that is not executable": lambda path: path.write_text("#!/bin/sh\n"),
    "a broken link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("case", MASKS)
def test_what_replaces_a_handler_hides_it_whether_it_runs_or_not(case, tmp_path):
    vendor, admin = make_hooks(tmp_path / "usr", _10_a="", _20_b=""), make_hooks(tmp_path / "etc")
    MASKS[case](admin / "deploy" / "10-a")
    assert runs(vendor, admin) == [f"{vendor}/deploy/20-b"]


def test_masks_are_distinguished_from_what_is_skipped(tmp_path):
    hooks = make_hooks(tmp_path)
    MASKS["an empty file"](hooks / "deploy" / "a")
    MASKS["a link to /dev/null"](hooks / "deploy" / "b")
    assert {entry.kind for entry in scan("deploy", [str(hooks)]).entries} == {Kind.MASK}


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # the path of a socket must be short


SKIPPED = {
    "deploy.sh": (lambda path: write_script(path, ""), "letters, digits, _ and -", "/deploy, or delete it"),
    "10-x~": (lambda path: write_script(path, ""), "letters, digits, _ and -", "/10-x-, or delete it"),
    ".hidden": (lambda path: write_script(path, ""), "letters, digits, _ and -", "/hidden, or delete it"),
    "ü ~": (lambda path: write_script(path, ""), "letters, digits, _ and -", "mv '"),
    "plain": (lambda path: path.write_text("#!/bin/sh\n"), "not executable", "chmod +x "),
    "dir": (lambda path: path.mkdir(), "a directory, not a file", "move"),
    "fifo": (os.mkfifo, "a fifo, not a file", "move"),
    "sock": (make_socket, "a socket, not a file", "move"),
    "tty": (lambda path: path.symlink_to("/dev/zero"), "a device, not a file", "move"),
    "link": (lambda path: path.symlink_to("nowhere"), "a broken link", "delete it"),
    "loop": (lambda path: path.symlink_to("loop"), "cannot be examined: Too many levels", "link"),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_skipped_entry_has_a_reason_and_a_hint(name, tmp_path, monkeypatch):
    make, reason, hint = SKIPPED[name]
    hooks = make_hooks(tmp_path)
    monkeypatch.chdir(hooks)
    make(hooks / "deploy" / name)
    found = entry(hooks, name)
    assert found.kind is Kind.SKIP
    assert reason in found.reason
    assert hint in found.hint


def test_hint_for_a_wrong_name_is_a_command_that_works(tmp_path):
    hooks = make_hooks(tmp_path)
    write_script(hooks / "deploy" / "it's; $(touch x).sh", "")
    command = entry(hooks, "it's; $(touch x).sh").hint.removesuffix(", or delete it")
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
    assert [Path(path).name for path in runs(hooks)] == ["it-s----touch-x-"]
    assert [path.name for path in tmp_path.iterdir()] == ["hooks.d"]


def test_file_in_place_of_the_verb_s_directory_is_skipped(tmp_path):
    hooks = make_hooks(tmp_path)
    write_script(hooks / "ping", "")
    [found] = scan("ping", [str(hooks)]).entries
    assert (found.kind, found.reason) == (Kind.SKIP, "not a directory")


def test_directory_that_may_exist_is_not_regarded_as_missing(tmp_path):
    """Otherwise, what it masks in an earlier directory would run."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        scan("deploy", [str(make_hooks(tmp_path)), str(tmp_path / "file" / "hooks.d")])


def test_verbs_are_found_in_all_directories_and_wrong_names_too(tmp_path):
    vendor, admin = make_hooks(tmp_path / "usr"), make_hooks(tmp_path / "etc")
    for name in ("ping", "Wrong", "de.ploy"):
        (admin / name).mkdir()
    (admin / "README.md").touch()
    verbs, wrong = find_verbs([str(vendor), str(admin), str(tmp_path / "missing")])
    assert verbs == ["deploy", "ping"]
    assert [entry.name for entry in wrong] == ["Wrong", "de.ploy"]


def test_names_that_are_not_utf8_are_skipped(tmp_path):
    hooks = make_hooks(tmp_path)
    os.close(os.open(os.fsencode(hooks / "deploy") + b"/\xff", os.O_CREAT, 0o755))
    assert entry(hooks, "\udcff").kind is Kind.SKIP
    assert sys.getfilesystemencodeerrors() == "surrogateescape"


def test_executable_is_found_under_a_profile_that_denies_faccessat2(tmp_path):
    """As by container runtimes that do not know it: access(2) then denies everything, by EPERM."""
    make_hooks(tmp_path, _1="")
    scanned = f"scan('deploy', ['{tmp_path}/hooks.d']).entries[0].kind"
    source = f"from remaphore_plugins.hooks_d.scan import scan; print({scanned})"
    command = [*denying(1, "faccessat2"), sys.executable, "-c", source]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "run\n"
