"""Locales and streams that are not UTF-8: no traceback, what cannot be encoded is escaped, and bytes stay bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.fleet import environment

NAME = "com.example.z\u00fcrich-\u6771\u4eac"
ODD = b"b\xffd"  # a file name in no encoding
VARIABLES = ("LC_ALL", "LANG", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "LOCPATH")


def latin_1(folder):
    """Return the variables of a German locale in ISO-8859-1, which is compiled for this; None if it cannot be."""
    tool = shutil.which("localedef")
    if tool is None:
        return None
    done = subprocess.run(
        [tool, "-i", "de_DE", "-f", "ISO-8859-1", folder / "de_DE.ISO-8859-1"], capture_output=True, check=False
    )
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.ISO-8859-1"} if done.returncode < 2 else None


SURROUNDINGS = {
    "UTF-8": ({"LC_ALL": "C.UTF-8"}, "utf-8"),
    "C": ({"LC_ALL": "C"}, "utf-8"),  # as Python does: PEP 540
    "none": ({}, "utf-8"),
    "unknown": ({"LC_ALL": "xx_XX.ISO-8859-1"}, "utf-8"),
    "streams in ASCII": ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii:strict"}, "ascii"),
    "ASCII": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii"),
    "ISO-8859-1": (latin_1, "iso-8859-1"),
}

REPEATED = ("UTF-8", "C", "unknown")  # none is like these


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.long] if name in REPEATED else []) for name in SURROUNDINGS]
)
def surroundings(request, tmp_path):
    """Return environment and encoding of one of SURROUNDINGS."""
    variables, encoding = SURROUNDINGS[request.param]
    if callable(variables):
        variables = variables(tmp_path)
        if variables is None:
            pytest.skip("localedef cannot compile de_DE: install locales")
    plain = {name: value for name, value in environment().items() if name not in VARIABLES}
    return plain | variables, encoding


def run(environ, *words):
    typed = [word.encode() if isinstance(word, str) else os.fsencode(word) for word in words]
    command = [sys.executable, "-m", "remaphore", *typed]
    return subprocess.run(command, env=environ, capture_output=True, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Return the configuration of a node whose destination, key file and handlers have names that are not ASCII."""
    path = tmp_path_factory.mktemp("node") / os.fsdecode("z\u00fcrich".encode()) / "remaphore.toml"
    done = run(environment(LC_ALL="C.UTF-8"), "init", "-c", path, "--destination", NAME)
    assert done.returncode == 0, done.stderr
    verb = path.parent / "hooks.d" / "odd"
    verb.mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(verb) + b"/" + ODD)).touch()
    return path


def test_names_are_read_in_every_locale_and_escaped_where_a_stream_does_not_have_them(surroundings, node):
    environ, encoding = surroundings
    hooks = ("hooks", "-c", node, "--hooks", node.parent / "hooks.d")
    assert NAME.encode(encoding, "backslashreplace") in run(environ, "config", "show", "-c", node).stdout
    assert b"skip   b\\udcffd: a name may contain" in run(environ, *hooks).stdout
    lost = run(environ, "send", "-c", os.fsencode(node) + ODD).stderr
    assert lost.startswith(b"remaphore: error: ")
    assert "/z\u00fcrich/remaphore.tomlb\\udcffd: ".encode(encoding, "backslashreplace") in lost
    # What programs read does not depend on the locale.
    assert run(environ, "peer", "show", "-c", node).stdout.split()[1].decode() == NAME
    shown = run(environ, *hooks, "--json").stdout
    assert (shown.isascii(), json.loads(shown)["name"]) == (True, "b\\udcffd")


def test_arguments_reach_the_receiver_as_the_bytes_that_were_typed(fleet, nodes):
    payload = "z\u00fcrich \u6771".encode() + b"\xff"
    fleet.start("-c", nodes["two"], fleet.script('printf %s "$2"'))
    for variables, _ in (SURROUNDINGS["UTF-8"], SURROUNDINGS["ASCII"]):
        done = run(environment(**variables), "-r", "-c", nodes["one"], "-D", "com.example.two", "-t", "20s", payload)
        assert done.stdout == b"com.example.two,0," + payload + b"\n", done


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_streams_that_are_closed_or_full_cause_no_traceback(closed, node):
    command = f'"$0" -m remaphore plugins -c "$1" {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, node], capture_output=True, check=False)
    assert b"Traceback" not in done.stdout + done.stderr
    assert done.returncode == (3 if closed == ">/dev/full" else 0)


@pytest.mark.parametrize("columns", ["1", "wide"])
def test_help_does_not_depend_on_a_sensible_width(columns):
    done = run(environment(COLUMNS=columns), "request", "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--timeout" in done.stdout
