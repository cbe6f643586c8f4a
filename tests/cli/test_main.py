"""Exit codes and the one line of an error, as a user sees them, without a network."""

import os
import re
import subprocess
import sys

import pytest

from docs.generate import man
from remaphore import errors
from remaphore.cli import main as cli
from remaphore.cli import words
from remaphore.errors import (
    BrokerUnavailableError,
    ConfigError,
    NoReceiversError,
    PluginError,
    RemaphoreError,
    UsageError,
)


def run(*words):
    return subprocess.run([sys.executable, "-m", "remaphore", *words], capture_output=True, text=True, check=False)


def test_help_and_version_go_to_stdout_and_exit_0():
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    listed = re.findall(r"^  (\w+) .*", shown.stdout.partition("\nas the original")[0], re.MULTILINE)
    assert sorted(listed) == sorted(words.WORDS)
    assert len(shown.stdout.splitlines()) <= 40
    assert max(map(len, shown.stdout.splitlines())) <= 120
    assert "\nexample:" in shown.stdout
    version = run("--version")
    assert version.returncode == 0
    assert version.stdout.startswith("remaphore ")


def test_help_imports_neither_nats_nor_nacl():
    heavy = "{'nats', 'nacl', 'asyncio', 'argparse'} & set(sys.modules)"
    code = f"import sys; from remaphore.cli.main import main; main(['--help']); print({heavy})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError, 2), (ConfigError, 2), (PluginError, 2), (NoReceiversError, 3), (BrokerUnavailableError, 3)],
)
def test_an_error_becomes_a_line_a_hint_and_an_exit_code(error, code, monkeypatch, capsys):
    def fail(words):
        raise error("what happened", hint="how to fix it")

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main([]) == code
    shown = capsys.readouterr()
    assert shown.err == "remaphore: error: what happened\nremaphore: hint: how to fix it\n"
    assert shown.out == ""


def test_an_interrupt_is_130(monkeypatch):
    def interrupt(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupt)
    assert cli.main([]) == 130


def run_without_reader(*words):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "remaphore", *words]
    yield subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    yield subprocess.run(command, stdout=writing, stderr=writing, text=True, check=False)
    os.close(writing)


@pytest.mark.parametrize(("words", "code"), [(["--help"], 141), (["send", "--help"], 141), (["send", "--nosuch"], 2)])
def test_a_reader_that_has_gone_is_no_traceback_and_changes_the_code_of_no_error(words, code):
    only_of_results, of_all = run_without_reader(*words)
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
    ("words", "message"),
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
def test_wrong_usage_exits_2_with_a_line_that_says_what(words, message):
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("remaphore: error: ")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["error", "hint"]
