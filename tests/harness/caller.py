"""A defined state for the process of the tests, whoever started it: the commands that the tests start inherit it.

A caller may ignore or block signals (nohup, background jobs, agents written in Java or Go), have another umask, locale
or home, or none, and variables that remaphore, its libraries or a tool of a test would read.
"""

from __future__ import annotations

import contextlib
import locale
import os
import re
import signal
import tempfile
from collections.abc import Mapping

# What the caller may decide; everything else is a default. The network is needed by the tutorial, of the long tests.
_KEPT = re.compile(
    "PATH|TMPDIR|VIRTUAL_ENV|PYTHON(DONTWRITEBYTECODE|PYCACHEPREFIX|UNBUFFERED)|(COVERAGE|PYTEST|HYPOTHESIS)_.*"
    "|REMAPHORE_TEST_SEED|PIP_.*|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
)
_TEXT = "C.UTF-8"
_DEFAULTS = {"LC_ALL": _TEXT, "HOME": "/nonexistent"}
# Of $TMPDIR: the address of a Unix socket has at most 107 bytes, and the first line of a script no spaces.
_PLAIN = re.compile(r"[\w./+-]{1,40}")

_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
_OF_A_SHELL = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def forget_the_caller() -> None:
    """Give this process the signals, umask, stdin, locale and variables that it would have in a plain shell."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _IGNORED_BY_PYTHON - _OF_A_SHELL:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.umask(0o022)
    try:
        os.fstat(0)
    except OSError:  # closed: the next file that is opened would be stdin
        os.open(os.devnull, os.O_RDONLY)
    variables = clean(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None  # it may have been determined already
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, _TEXT)


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a caller that are kept, and the defaults."""
    kept = {name: text for name, text in environ.items() if _KEPT.fullmatch(name)}
    if not _PLAIN.fullmatch(kept.get("TMPDIR", "")):
        kept.pop("TMPDIR", None)
    return kept | _DEFAULTS


def unmeasured() -> dict[str, str]:
    """Return our variables without those of coverage, for a process in which nothing else may be imported."""
    return {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_")}
