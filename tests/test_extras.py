"""The command that installs an extra fits how remaphore was installed."""

import sys

import pytest

from remaphore import extras


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    prefix = tmp_path / "my venvs" / "remaphore"
    prefix.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "python"))
    return prefix


def test_pip_is_that_of_the_python_that_runs(prefix):
    assert extras.install_hint("operator") == f"'{prefix}/bin/python' -m pip install 'remaphore[operator]'"


def test_pipx_has_an_environment_of_its_own(prefix):
    (prefix / "pipx_metadata.json").touch()
    assert extras.install_hint("embedded") == "pipx runpip remaphore install 'remaphore[embedded]'"


def test_without_pip_it_is_an_environment_of_uv(prefix, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    assert extras.install_hint("metrics") == f"uv pip install --python '{prefix}/bin/python' 'remaphore[metrics]'"
