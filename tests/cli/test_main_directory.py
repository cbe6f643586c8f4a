"""A current directory that has been deleted, or that our user may not search: commands that do not need it work."""

import os
import subprocess
import sys

import pytest

from remaphore.cli import main as cli
from tests.harness.fleet import environment

LOST = "remaphore: error: the current directory does not exist\nremaphore: hint: change to a directory that exists"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "remaphore.toml"
    assert cli.main(["init", "-c", str(path), "--destination", "com.example.here"]) == 0
    return str(path)


@pytest.fixture
def lost(config, monkeypatch, tmp_path):
    """Delete the current directory."""
    monkeypatch.delenv("REMAPHORE_CONFIG", raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


@pytest.mark.parametrize(
    "words",
    [
        ("send", "-c", "remaphore.toml"),
        ("-s", "-c", "remaphore.toml"),
        ("hooks", "-c", "CONFIG", "--hooks", "hooks.d"),
        ("init", "-c", "new.toml", "--destination", "com.example.new"),
        ("init", "-c", "CONFIG2", "--destination", "com.example.new", "--credentials", "nats.creds"),
        ("keygen", "k"),
        ("explain", "-c", "CONFIG", "message"),
        ("peer", "add", "-c", "CONFIG", "--verbs", "ping", "--file", "nosuch"),
        ("config", "convert", "x.conf"),
        ("broker", "--data", "data"),
        ("send", "-c", "CONFIG", "@payload"),
        ("request", "-c", "CONFIG", "--to-file", "list"),
        ("request", "-c", "CONFIG", "--retry", "saved"),
        ("request", "-c", "CONFIG", "--save", "saved"),
        ("identity", "add", "-c", "CONFIG", "new.key"),
    ],
)
def test_a_relative_path_in_a_deleted_directory_is_an_error_that_says_so(lost, config, words, capsys):
    names = {"CONFIG": config, "CONFIG2": config + "2"}
    capsys.readouterr()
    code = cli.main([names.get(word, word) for word in words])
    assert (code, capsys.readouterr().err[: len(LOST)]) == (2, LOST)


def test_so_is_one_in_the_environment_and_a_finding_of_check(lost, monkeypatch, capsys):
    assert cli.main(["check", "-c", "remaphore.toml"]) == 1
    assert "remaphore.toml: the current directory does not exist; hint: change to" in capsys.readouterr().out
    monkeypatch.setenv("REMAPHORE_CONFIG", "remaphore.toml")
    assert cli.main(["send"]) == 2
    assert capsys.readouterr().err.startswith(LOST)


def test_absolute_paths_work_there_and_other_errors_are_reported_as_what_they_are(lost, config, capsys):
    for words in (["hooks", "-c", config], ["keygen", f"{config}.other.key"], ["peer", "list", "-c", config]):
        assert cli.main(words) == 0, capsys.readouterr()
    assert cli.main(["keygen", f"{config}.other.key"]) == 2
    assert "current directory" not in capsys.readouterr().err


def test_the_command_starts_there(config, tmp_path):
    enter = 'mkdir gone && cd gone && rmdir "$PWD" && exec "$0" -m remaphore plugins -c "$1"'
    words = ["sh", "-c", enter, sys.executable, config]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user in a directory of root's")
def test_a_directory_that_our_user_may_not_search_is_no_traceback(tmp_path):
    other = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c"]
    if subprocess.run([*other, "import remaphore"], cwd="/", capture_output=True, check=False).returncode:
        pytest.skip("no other user may read this environment")
    tmp_path.chmod(0o700)
    code = "from remaphore.cli.main import main; print(main(['keygen', 'k']), main(['send', '-c', 'remaphore.toml']))"
    done = subprocess.run(
        [*other, code], cwd=tmp_path, env=environment(PYTHONSAFEPATH="1"), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr.count("ermission denied")) == ("2 2\n", 2), done
