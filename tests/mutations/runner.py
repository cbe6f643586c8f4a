"""Runs the named tests on copies of the source tree, each with one mutation."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar
from xml.etree import ElementTree

from remaphore.embedded.broker import find_server
from tests.harness.fresh_venv import FreshVenv, clean_environment
from tests.mutations.catalogue import ROOT, Mutation

WORKERS = 2
# For one test: a mutant that hangs is ended by the time limit of its test, which counts as red. Most tests give up
# waiting by themselves after half a minute.
ORIGINAL_SECONDS = 300
MUTANT_SECONDS = 40  # and three times as long as the test takes without a mutation
RUN_SECONDS = 1200  # for one run of pytest, which ends by itself unless that time limit does not work
MEMORY = 4 * 1024**3  # for each process: some mutants keep whatever they are sent
_TIMED_OUT = "+ Timeout +"  # what pytest-timeout writes before it ends the process
NOT_COPIED = (".git", ".venv*", ".bench", ".site", ".hypothesis", ".coverage*", "*_cache", "__pycache__", "dist")

_KINDS = {"failure": "failed", "error": "error", "skipped": "skipped"}

# The outcomes of each test, with the seconds that it took: several of one with parameters.
Results = dict[str, list[tuple[str, float]]]

T = TypeVar("T")
R = TypeVar("R")


class Site:
    """A copy of the source tree, and a virtual environment with that copy in place of remaphore.

    An environment of its own, and not PYTHONPATH: the tests start processes with cleaned environments, `python -I` and
    the command `remaphore`, and all of them must run the copy.
    """

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self._folder = folder
        self._times = itertools.count(1_000_000_000)
        shutil.copytree(ROOT, self.tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        venv = FreshVenv(folder / "venv")
        venv.install("--editable", self.tree)
        (venv.bin / "nats-server").symlink_to(find_server())
        self.python = venv.python

    @contextlib.contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[None]:
        """Apply *mutation* to the copy for the length of a block."""
        file = self.tree / mutation.file
        original = file.read_text()
        self._write(file, mutation.mutated(self.tree))
        try:
            yield
        finally:
            self._write(file, original)

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text)
        # Compiled code is valid for a time in seconds and a size: no two versions may have both in common.
        moment = next(self._times)
        os.utime(file, (moment, moment))

    def run(self, tests: Sequence[str], limit: float = ORIGINAL_SECONDS) -> Results:
        """Run *tests* in the copy, each for at most *limit* seconds; return nothing if none could run.

        A single test, which may have parameters, is run as far as its first failure.
        """
        report = self._folder / "report.xml"
        report.unlink(missing_ok=True)
        options = ["-q", "-m", "not long", "-p", "tests.mutations.time_limit", f"--at-most={limit}"]
        options += ["-p", "no:cacheprovider", f"--junitxml={report}", f"--basetemp={self._folder / 'tmp'}"]
        options += ["-x"] if len(tests) == 1 else []
        with (self._folder / "output").open("w") as output:
            process = subprocess.Popen(
                [self.python, "-m", "pytest", *options, *tests],
                cwd=self.tree,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(RUN_SECONDS)
            self._end_all(process)
        if report.exists():
            return _read(report)
        timed_out = len(tests) == 1 and _TIMED_OUT in (self._folder / "output").read_text(errors="replace")
        return {tests[0]: [("failed", 0)]} if timed_out else {}

    def _end_all(self, process: subprocess.Popen[bytes]) -> None:
        """End pytest and what it has left: its process group, and programs of this site in groups of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if os.fsencode(self._folder) + b"/" in command.read_bytes():
                    os.kill(int(command.parent.name), signal.SIGKILL)


def run(chosen: Sequence[Mutation], *, report: Callable[[str], None]) -> list[str]:
    """Run the tests of each mutation, first without it. Return what is wrong, a line each; empty if all turned red.

    report: called with a line for each mutant, and with the summary.
    """
    began = time.monotonic()
    wrong: list[str] = []
    with _copies() as on_copies:
        names = sorted({name for mutation in chosen for name in mutation.tests})
        original: Results = {}
        for results in on_copies(Site.run, [part for part in (names[n::WORKERS] for n in range(WORKERS)) if part]):
            original |= results
        for name in names:
            if (state := _state(original, name)) != "passed":
                report(f"{name}: {state} without any mutation")
                wrong += [name] if state != "skipped" else []  # a test that this machine does not permit
        passing = {name for name in names if _state(original, name) == "passed"}

        def judge(site: Site, mutation: Mutation) -> str:
            tests = [name for name in mutation.tests if name in passing]
            results: Results = {}
            with site.mutated(mutation):
                for name in tests:
                    longest = max(seconds for _, seconds in original[name])
                    results |= site.run([name], MUTANT_SECONDS + 3 * longest)
            return ", ".join(f"{name} {state}" for name in tests if (state := _state(results, name)) != "failed")

        for mutation, survived in zip(chosen, on_copies(judge, chosen), strict=True):
            tested = not passing.isdisjoint(mutation.tests)
            report(f"{mutation.name}: {f'SURVIVED, {survived}' if survived else 'killed' if tested else 'not tested'}")
            wrong += [mutation.name] if survived else []
    report(f"{len(chosen)} mutants, {len(wrong)} wrong, {time.monotonic() - began:.0f} s")
    return wrong


@contextlib.contextmanager
def _copies() -> Iterator[Callable[[Callable[[Site, T], R], Sequence[T]], Iterator[R]]]:
    """Make a copy for each worker; give a `map` whose function gets one of them, which no other call has meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="mutations-"))
    folder.chmod(0o755)  # some tests start processes of other users
    sites: SimpleQueue[Site] = SimpleQueue()

    def on_copies(function: Callable[[Site, T], R], items: Sequence[T]) -> Iterator[R]:
        def call(item: T) -> R:
            site = sites.get()
            try:
                return function(site, item)
            finally:
                sites.put(site)

        return threads.map(call, items)

    try:
        with ThreadPoolExecutor(WORKERS) as threads:
            for site in threads.map(Site, [folder / str(number) for number in range(WORKERS)]):
                sites.put(site)
            yield on_copies
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(report: Path) -> Results:
    """Return the results in a report in JUnit's format: passed, skipped, failed, or error for a fixture that failed."""
    results: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"
        outcome = next((_KINDS[child.tag] for child in case if child.tag in _KINDS), "passed")
        results[name].append((outcome, float(case.get("time", 0))))
    return results


def _state(results: Results, name: str) -> str:
    """Return what became of a test: if it has parameters, the worst of their results."""
    found = {outcome for outcome, _ in results.get(name, [("not run", 0)])}
    return next(state for state in ("failed", "error", "not run", "passed", "skipped") if state in found)
