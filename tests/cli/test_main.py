"""Exit codes and the one line of an error, as a user sees them, without a network."""

import os
import re
import subprocess
import sys

import pytest

from docs.generate import man
from remaphore.cli import main as cli
from remaphore.cli import words
from remaphore.errors import BrokerUnavailableError, ConfigError, NoReceiversError, PluginError, UsageError


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
    ("error", "code", "further"),
    [
        (UsageError, 2, ""),
        (ConfigError, 2, " (see man remaphore.toml)"),
        (PluginError, 2, ""),
        (NoReceiversError, 3, ""),
        (BrokerUnavailableError, 3, " (see remaphore doctor)"),
    ],
)
def test_errors_become_one_line_on_stderr_and_an_exit_code(error, code, further, monkeypatch, capsys):
    def fail(words):
        raise error("what happened")

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main([]) == code
    shown = capsys.readouterr()
    assert shown.err == f"remaphore: ERROR: what happened{further}\n"
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
    assert only_of_results.stderr.count("\n") == (code == 2)


def test_where_an_error_sends_its_reader_is_there():
    pages, listed = man.pages("1"), cli.HELP
    for further in cli.FURTHER.values():
        tool, name = further.split()
        assert any(page.startswith(f"{name}.") for page in pages) if tool == "man" else f"  {name} " in listed, further


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
    assert done.stderr.startswith("remaphore: ERROR: ")
    assert done.stderr.count("\n") == 1
