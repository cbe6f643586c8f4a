"""Exit codes, errors and hints as a user sees them, without a network."""

import gc
import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

from docs.generate import man
from remaphore import errors
from remaphore.cli import main as cli
from remaphore.cli.commands import COMMANDS
from remaphore.errors import (
    BrokerUnavailableError,
    ConfigError,
    NoReceiversError,
    PluginError,
    RemaphoreError,
    UsageError,
)


def run(*typed):
    return subprocess.run([sys.executable, "-m", "remaphore", *typed], capture_output=True, text=True, check=False)


def test_help_and_version_go_to_stdout_and_exit_0():
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    commands = shown.stdout.partition("\ncommands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+) +(.*)", commands, re.MULTILINE) == [*COMMANDS.items()]
    assert len(shown.stdout.splitlines()) <= 46  # a screen
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "\nGo-compatible syntax: " in shown.stdout
    assert "\nexample:\n" in shown.stdout
    version = run("--version")
    assert (version.returncode, version.stdout) == (0, f"remaphore {importlib.metadata.version('remaphore')}\n")
    assert (run("version").stdout, run("help").stdout) == (version.stdout, shown.stdout)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("remaphore.cli.fast.parse", ["-s"]),
        ("remaphore.cli.main.run_command", ["lock", "x", "--", "true"]),
        ("remaphore.cli.commands.check.run", ["check"]),
    ],
)
def test_an_unexpected_error_has_an_exit_code_that_is_no_result(where, words):
    module, _, name = where.rpartition(".")
    code = f"import sys, {module} as it\ndef broken(*_): raise KeyError('on purpose')\nit.{name} = broken\n"
    start = "from remaphore.cli.fast import command\ncommand()"
    done = subprocess.run([sys.executable, "-c", code + start, *words], capture_output=True, text=True, check=False)
    *trace, error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout, trace[0]) == (3, "", "Traceback (most recent call last):")
    assert error == "remaphore: error: unexpected error: KeyError('on purpose')"
    assert hint == "remaphore: hint: report this defect of remaphore with all of these lines"


def test_help_imports_no_command_and_nothing_heavy():
    heavy = "{'nats', 'nacl', 'asyncio', 'argparse', 'remaphore.cli.commands.send'} & set(sys.modules)"
    code = f"import sys; from remaphore.cli.main import main; main(['--help']); print({heavy})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError, 2), (ConfigError, 2), (PluginError, 2), (NoReceiversError, 3), (BrokerUnavailableError, 3)],
)
def test_an_error_becomes_a_line_a_hint_and_an_exit_code(error, code, monkeypatch, capsys):
    def fail(arguments):
        raise error("what happened", hint="how to fix it")

    monkeypatch.setattr(cli, "run_command", fail)
    assert cli.main([]) == code
    shown = capsys.readouterr()
    assert shown.err == "remaphore: error: what happened\nremaphore: hint: how to fix it\n"
    assert shown.out == ""


def test_an_interrupt_is_130(monkeypatch):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_command", interrupt)
    assert cli.main([]) == 130


def run_without_reader(*typed):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "remaphore", *typed]
    yield subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    yield subprocess.run(command, stdout=writing, stderr=writing, text=True, check=False)
    os.close(writing)


@pytest.mark.parametrize(("typed", "code"), [(["--help"], 141), (["send", "--help"], 141), (["send", "--nosuch"], 2)])
def test_a_closed_stdout_or_stderr_is_no_traceback_and_does_not_change_the_code_of_an_error(typed, code):
    only_of_results, of_all = run_without_reader(*typed)
    assert (only_of_results.returncode, of_all.returncode) == (code, code)
    assert only_of_results.stderr.count("error: ") == (code == 2)


def error_classes():
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RemaphoreError)]


def test_the_page_and_the_commands_that_default_hints_name_exist():
    hints = " ".join(kind.default_hint for kind in error_classes())
    pages = {name.rpartition(".")[0] for name in man.pages("1")}
    assert set(re.findall(r"man ([\w.-]+)", hints)) <= pages
    assert {f"remaphore-{command}" for command in re.findall(r"remaphore ([a-z]+)", hints)} <= pages


@pytest.mark.parametrize("kind", [kind for kind in error_classes() if kind is not RemaphoreError])
def test_an_error_class_has_a_hint_or_states_why_none_can_exist(kind):
    assert bool(kind.default_hint) != bool(kind.no_hint)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["-x"], "flag provided but not defined: -x"),
        (["-r", "-s"], "mutually exclusive"),
        (["-d", "-D", "x"], "mutually exclusive"),
        (["-s", "-p", "nokey"], "the given public key does not parse"),
        (["-p", "nokey"], "the given public key does not parse"),
        (["-s", "-S", "a.*"], "wildcard"),
        (["-S", "a b"], "white space"),
        (["-r", "-S", "a..b"], "empty part"),
        (["-c", "/nonexistent/x.conf"], "/nonexistent/x.conf"),
        (["send", "--nosuch"], "unrecognized"),
    ],
)
def test_wrong_usage_exits_2_with_an_error_and_a_hint(typed, message):
    done = run(*typed)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("remaphore: error: ")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["-x"], "remaphore --help lists commands and options"),
        (["ping", "--nosuch"], "remaphore ping --help lists the options"),
        (["peer", "remove"], "remaphore peer remove --help lists the options"),
    ],
)
def test_the_hint_of_a_usage_error_names_the_help(typed, hint):
    assert run(*typed).stderr.splitlines()[-1] == f"remaphore: hint: {hint}"


def test_a_command_that_runs_for_long_collects_new_objects_and_ignores_those_of_the_imports():
    gc.disable()
    try:
        cli.enable_gc()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        gc.enable()


FAST = {
    "send": ["-s", "x"],
    "request": ["-r", "x"],
    "receive": ["-o"],
    "example": ["-C"],
}


@pytest.mark.parametrize("name", FAST)
def test_the_flag_syntax_does_not_import_argparse_or_other_commands(name):
    code = (
        f"import sys; before = set(sys.modules);"  # coverage, for one, has loaded modules already
        f"from remaphore.cli.legacy import flags; flags.read({FAST[name]!r});"
        "print(sorted({'argparse', 'asyncio', 'nats', 'structlog', 'json', 'textwrap'} & set(sys.modules) - before),"
        " sorted(name for name in sys.modules if name.startswith('remaphore.cli.commands.')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    own = [] if name == "example" else [f"remaphore.cli.commands.{name}"]
    assert shown == f"[] {own}\n"
