"""Typing commands in a directory of their own: `run`, and a node that `init` created."""

import io
import sys

import pytest

from remaphore.cli import main as cli


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Return a function that runs a command line with stdin, and returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMAPHORE_CONFIG", str(tmp_path / "left.toml"))

    def run(line, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = cli.main(line if isinstance(line, list) else line.split())
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def left(run, tmp_path):
    """Return the configuration of com.left, created by `init`."""
    assert run("init --destination com.left")[0] == 0
    return tmp_path / "left.toml"
