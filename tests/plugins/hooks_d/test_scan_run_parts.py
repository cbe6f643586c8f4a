"""The same files run in the same order as with Debian's run-parts, on directories with anything in them."""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from remaphore_plugins.hooks_d.scan import Kind, scan
from tests.harness.factories import bounded
from tests.harness.programs import handled, hooks_plugin, make_hooks, write_script

RUN_PARTS = "/usr/bin/run-parts"  # debianutils; without it there is nothing to compare with

NAMES = st.one_of(
    st.sampled_from(
        [
            *("10-a", "2-b", "A", "a", "_u", "-d", "B_c", "Z9", "0", "a-b_c"),
            *(
                "a.sh",
                "x.bak",
                "x~",
                ".hid",
                "sp ace",
                "ünï",
                "x.dpkg-old",
                "x.dpkg-new",
                "x.rpmsave",
                "#x#",
                "a\n",
                "=",
                "*",
            ),
        ]
    ),
    st.text("aZ09_-.~ ü", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."}),
)
KINDS = st.one_of(
    st.tuples(st.just("exit"), st.integers(0, 255)),
    st.tuples(st.just("exit"), st.just(0)),
    st.tuples(st.just("signal"), st.sampled_from([1, 2, 3, 6, 9, 13, 14, 15])),
    st.tuples(
        st.sampled_from(
            [
                *("plain", "empty", "empty executable", "no first line", "directory", "fifo"),
                *("link", "link to nothing", "link to a directory", "link to /dev/null", "link to itself"),
            ]
        ),
        st.just(0),
    ),
)
# What only one of the two regards as a failure, or as a mask; docs/handlers.md lists the differences.
MASKS = {"empty", "empty executable", "link to /dev/null"}
ONLY_RUN_PARTS_FAILS = {"empty executable", "fifo", "link to /dev/null"}


def make(folder: Path, log: Path, name: str, kind: str, number: int) -> None:
    """Make the entry *name*; what runs writes its own name and its arguments to *log*."""
    path = folder / name
    note = f'printf "%s %s %s\\n" "${{0##*/}}" "$1" "$2" >>"{log}"; ulimit -c 0; '
    makers = {
        "exit": lambda: write_script(path, f"{note} exit {number}"),
        "signal": lambda: write_script(path, f"{note} kill -{number} $$"),
        "plain": lambda: path.write_text(f"#!/bin/sh\n{note}"),
        "empty": lambda: path.touch(0o644),
        "empty executable": lambda: path.touch(0o755),
        "no first line": lambda: write_script(path, note, first=""),
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(write_script(folder.parent / "target", f"{note} exit 7")),
        "link to nothing": lambda: path.symlink_to("no/where"),
        "link to a directory": lambda: path.symlink_to(folder.parent),
        "link to /dev/null": lambda: path.symlink_to("/dev/null"),
        "link to itself": lambda: path.symlink_to(name),
    }
    makers[kind]()


def run_parts(folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([RUN_PARTS, *options, folder], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def expected_code(entries: dict[str, tuple[str, int]], ran: list[str]) -> int:
    """Return the first exit code that is not 0, of what was started or could not be started."""
    codes = {"signal": lambda number: 128 + number, "link": lambda _: 7, "no first line": lambda _: -1}
    ours = [entries[name] for name in ran]
    return next((code for kind, n in ours if (code := codes.get(kind, lambda number: number)(n))), 0)


@given(st.dictionaries(NAMES, KINDS, max_size=7))
@example({"a": ("no first line", 0), "b": ("exit", 3)})
@example(dict.fromkeys(("10-a", "2-b", "A", "_u", "-d", "a.sh", "x~", "ünï", "sp ace"), ("exit", 0)))
@settings(bounded, max_examples=100)
def test_same_files_in_the_same_order_and_failure_is_failure(entries):
    with tempfile.TemporaryDirectory() as scratch:
        hooks, log = make_hooks(Path(scratch)), Path(scratch) / "log"
        for name, (kind, number) in entries.items():
            make(hooks / "deploy", log, name, kind, number)
        log.touch()
        theirs = run_parts(hooks / "deploy", "--arg=deploy", "--arg=v42")
        they_ran = log.read_text()
        log.write_text("")
        plugin = hooks_plugin(hooks)
        reply = asyncio.run(handled(plugin, payload=b"v42"))
        assert log.read_text() == they_ran

        listed = [os.fsdecode(line) for line in run_parts(hooks / "deploy", "--test").stdout.splitlines()]
        found = scan("deploy", [str(hooks)])
        masks = {entry.path for entry in found.entries if entry.kind is Kind.MASK}
        runs = [entry for entry in found.entries if entry.kind is Kind.RUN]
        assert [entry.path for entry in runs] == [path for path in listed if path not in masks]

        ran = [entry.name for entry in runs]
        assert (None if reply is None else reply.exit_code) == (expected_code(entries, ran) if ran else None)
        matched = {kind for name, (kind, _) in entries.items() if re.fullmatch("[a-zA-Z0-9_-]+", name)}
        if not matched & ONLY_RUN_PARTS_FAILS and ran:
            assert bool(reply.exit_code) == bool(theirs.returncode)


@given(st.dictionaries(NAMES, KINDS, max_size=7))
@settings(bounded, max_examples=60)
def test_every_entry_runs_masks_or_is_skipped_with_a_hint(entries):
    with tempfile.TemporaryDirectory() as scratch:
        hooks = make_hooks(Path(scratch))
        for name, (kind, number) in entries.items():
            make(hooks / "deploy", Path(scratch) / "log", name, kind, number)
        found = scan("deploy", [str(hooks)]).entries
        assert sorted(entry.name for entry in found) == sorted(entries)
        for entry in found:
            if entry.kind is Kind.MASK:
                assert entries[entry.name][0] in MASKS
            assert bool(entry.hint) == (entry.kind is Kind.SKIP)
            assert bool(entry.reason) == (entry.kind is not Kind.RUN)


def test_run_parts_is_the_one_of_debian():
    assert shutil.which(RUN_PARTS), "install debianutils"
    version = subprocess.run([RUN_PARTS, "--version"], capture_output=True, check=True, text=True).stdout
    assert version.startswith("Debian run-parts program")


def test_exit_on_error_stops_where_run_parts_does(tmp_path):
    hooks, log = make_hooks(tmp_path), tmp_path / "log"
    for name, code in {"1": 0, "2": 5, "3": 6}.items():
        make(hooks / "deploy", log, name, "exit", code)
    run_parts(hooks / "deploy", "--exit-on-error", "--arg=deploy", "--arg=x")
    theirs = log.read_text()
    log.unlink()
    reply = asyncio.run(handled(hooks_plugin(hooks, exit_on_error=True), payload=b"x"))
    assert (log.read_text(), reply.exit_code) == (theirs, 5)
    assert theirs == "1 deploy x\n2 deploy x\n"
