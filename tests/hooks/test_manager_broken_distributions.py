"""Broken files of other distributions in the same Python: no command fails of them, and what matters is named."""

import os

import pytest

from remaphore.errors import PluginError
from remaphore.hooks.manager import find, find_installed, load, origin
from tests.harness.plugins import installer

GOOD = """print("printed while it is imported")
from remaphore import hookimpl
class Plugin:
    @hookimpl
    def remaphore_message(self, message): return None
"""
OURS = b"[remaphore.plugins]\nmine = half:Plugin\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    return installer(tmp_path, monkeypatch)


@pytest.fixture
def broken(tmp_path, install):
    """Return a function that leaves the metadata of a distribution as an interrupted pip or a disk error does."""

    def make(entry_points, *, metadata=b"Name: half\nVersion: 1\n"):
        folder = tmp_path / "half-1.0.dist-info"
        folder.mkdir()
        if metadata is not None:
            (folder / "METADATA").write_bytes(metadata)
        if entry_points is None:
            (folder / "entry_points.txt").symlink_to("entry_points.txt")
        else:
            (folder / "entry_points.txt").write_bytes(entry_points)
        return folder

    return make


OTHERS = {
    "a line without =": b"[console_scripts]\nhalf half:main\n",
    "not UTF-8": b"[console_scripts]\nh\xe4lf = half:main\n",
    "UTF-16": "[console_scripts]\nhalf = half:main\n".encode("utf-16"),
    "no section": b"half = half:main\n",
    "an unclosed section": b"[console_scripts\nhalf = half:main\n",
    "zeros, as after a crash": bytes(4096),
    "a link to itself": None,
    "an empty file": b"",
}


@pytest.mark.parametrize("case", OTHERS)
def test_file_of_another_package_breaks_nothing(case, broken, install):
    install("good", GOOD)
    broken(OTHERS[case])
    assert {"good", "log", "hooks-d"} <= {point.name for point in find_installed().points}
    assert {"good", "log"} <= set(find())
    assert load(["good", "log"]).has_plugin("good")


def test_distribution_without_metadata_keeps_its_sound_plugins(broken):
    folder = broken(OURS, metadata=None)
    [point] = [point for point in find_installed().points if point.name == "mine"]
    assert origin(point) == str(folder)


@pytest.mark.parametrize("content", [OURS + b"half half\n", OURS + b"h\xe4lf = x:y\n"], ids=["line", "encoding"])
def test_own_plugin_in_a_broken_file_is_an_error_that_names_the_file(content, broken):
    folder = broken(content)
    with pytest.raises(PluginError, match="plugin 'mine' is not installed") as caught:
        load(["mine"])
    assert f"{folder}: entry_points.txt cannot be read: " in str(caught.value)
    assert caught.value.hint == "reinstall the package whose file cannot be read"


def test_first_distribution_of_a_name_on_the_path_counts(install, tmp_path, monkeypatch):
    """As for `import`: an older copy of it later on the path is no second plugin of that name."""
    older = tmp_path / "older" / "remaphore_good-1.0.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Name: remaphore-good\nVersion: 1.0\n")
    (older / "entry_points.txt").write_text("[remaphore.plugins]\ngood = elsewhere:Plugin\n")
    monkeypatch.syspath_prepend(tmp_path / "older")
    install("good", GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert find()["good"].value == "remaphore_good:Plugin"


def test_unreadable_distribution_is_left_out(broken, install):
    install("good", GOOD)
    folder = broken(OURS)
    folder.chmod(0)
    try:
        assert "good" in find()
        assert os.geteuid() == 0 or "mine" not in find()
    finally:
        folder.chmod(0o755)


def test_what_a_plugin_prints_while_it_is_imported_goes_to_stderr(install, capsys):
    install("good", GOOD)
    load(["good"])
    assert capsys.readouterr() == ("", "printed while it is imported\n")
