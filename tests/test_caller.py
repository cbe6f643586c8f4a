"""The tests give the same result whoever starts them: see `tests.harness.caller`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.harness.caller import clean

ROOT = Path(__file__).parents[1]
# All of it at once: signals as nohup, background jobs and agents in other languages leave them, stdin closed.
HOSTILE = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD))
os.umask(int(sys.argv[1], 8))
os.close(0)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
VARIABLES = {
    **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "TMPDIR"), "/nonexistent/of the caller"),
    **dict.fromkeys(("REMAPHORE_CONFIG", "PROMETHEUS_MULTIPROC_DIR", "STATE_DIRECTORY", "GIT_DIR"), "/nonexistent"),
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "NATS_URL"), "http://127.0.0.1:1"),
    "XDG_STATE_HOME": "relative",
    "NOTIFY_SOCKET": "/nonexistent/notify",
    "WATCHDOG_USEC": "1",
    "COLUMNS": "10",
    "LINES": "2",
    "NO_COLOR": "1",
    "NATS_PASSWORD": "x",
    # The locale of a minimal container, without what Python does to make it usable.
    "LC_ALL": "POSIX",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "latin-1",
}
UNSET = ("TERM", "LANG", "LC_CTYPE")
# Ctrl-C, a reload, handlers that are ended and waited for, modes of new files, files of the user, texts in Unicode.
SAMPLE = (
    "tests/test_tasks.py::test_one_signal_ends_a_process_whatever_holds_its_loop",
    "tests/e2e/test_run.py::test_a_reload_applies_new_peers_and_rejects_an_invalid_file",
    "tests/plugins/processes/test_tree.py::test_timeout_ends_with_term_and_keeps_the_output",
    "tests/plugins/metrics/test_settings.py",
    "tests/receiving/ledger/test_store.py::test_only_its_owner_may_read_it",
    "tests/config/test_search.py",
)


def test_a_sample_passes_under_a_hostile_caller(tmp_path: Path) -> None:
    environment = {name: text for name, text in os.environ.items() if name not in UNSET} | VARIABLES
    command = [sys.executable, "-c", HOSTILE, "000", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # Not in the folder of these tests, whose modes pytest sets when it starts.
    command += [f"--basetemp={tmp_path / 'inner'}", *SAMPLE]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=120)
    shown = ran.stdout.decode(errors="replace")
    assert ran.returncode == 0, shown
    assert " passed" in shown


def test_a_temporary_directory_of_the_caller_is_used_if_scripts_and_sockets_can_be_in_it() -> None:
    assert clean({"TMPDIR": "/var/tmp"})["TMPDIR"] == "/var/tmp"
    for unusable in ("/tmp/a b", "/tmp/" + "long-" * 20, ""):
        assert "TMPDIR" not in clean({"TMPDIR": unusable})
