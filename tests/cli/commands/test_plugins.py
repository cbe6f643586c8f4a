"""`remaphore plugins` lists what is installed; a broken plugin is a line of the list, not its end."""

import json
from pathlib import Path

import pytest

from remaphore.cli.commands.plugins import Row
from remaphore.cli.main import main
from remaphore.config import search
from tests.harness.node_files import Entry, write_toml
from tests.harness.plugins import installer

GOOD = """
print("on stdout while it is imported")
from remaphore import hookimpl
class Plugin:
    @hookimpl
    def remaphore_shutdown(self): pass
    @hookimpl
    def remaphore_message(self): pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    return installer(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch):
    monkeypatch.delenv("REMAPHORE_CONFIG", raising=False)
    monkeypatch.setattr(search, "default_paths", lambda environ, *, user: ())


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a configuration that enables plugins, and returns its path."""

    def write(*names):
        tables = f"[plugins]\nenable = {json.dumps(names)}\n"
        return str(write_toml(tmp_path / "node.toml", 1, "com.a", peers=[Entry("com.b", 2, ["deploy"])], tables=tables))

    return write


def listed(capsys, *typed):
    """Return the exit code and the rows by name."""
    code = main(["plugins", "--json", *typed])
    return code, {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}


SILENT = """
from remaphore import hookimpl
class Plugin:
    @hookimpl
    def remaphore_message(self): pass
"""
PLANNING = """
from remaphore import Action, Step, hookimpl
class Plugin:
    @hookimpl
    def remaphore_message(self): pass
    @hookimpl
    def remaphore_plan(self, message):
        return [Step(action=Action.RUN, name="note", argv=("logger", message.verb))]
"""


@pytest.mark.parametrize(
    ("enabled", "line"),
    [
        (["quiet"], "nothing: a request is answered with exit code 127, unless one of these plugins replies: quiet"),
        (["quiet", "note"], "run    logger deploy"),
        ([], "nothing: a request is answered with exit code 127"),
    ],
)
def test_enabled_plugins_are_asked_and_those_that_cannot_state_what_they_do_are_named(
    install, config, capsys, enabled, line
):
    install("quiet", SILENT)
    install("note", PLANNING)
    file = config(*enabled)
    assert main(["hooks", "-c", file, "deploy"]) == 0
    assert capsys.readouterr().out == f"deploy:\n  {line}\n"
    assert main(["explain", "-c", file, "--from", "com.b", "--verb", "deploy"]) == 0
    assert capsys.readouterr().out.endswith(f"would run:\n  {line}\n")
    main(["check", "-c", file])
    noted = [row.partition("; hint")[0] for row in capsys.readouterr().out.splitlines() if "note     deploy: " in row]
    what = "note     deploy: peers may send this verb, but it has no handler: requests are answered with 127"
    assert noted == {0: [what], 1: [f"{what}, unless one of these plugins replies: quiet"], 2: []}[len(enabled)]


def test_the_bundled_plugins_are_listed_with_distribution_and_hooks(capsys):
    code, rows = listed(capsys)
    assert code == 0
    assert {"hooks-d", "log", "metrics", "reply-collector", "script"} <= set(rows)
    assert rows["log"]["distribution"].startswith("remaphore ")
    assert rows["log"]["enabled"]
    assert "remaphore_dropped" in rows["log"]["hooks"]


def test_a_missing_configuration_is_reported_on_stderr(capsys):
    assert main(["plugins"]) == 0
    assert "no configuration found" in capsys.readouterr().err


def test_a_named_configuration_that_does_not_exist_is_an_error(capsys):
    assert main(["plugins", "-c", "/nonexistent/node.toml"]) == 2
    assert capsys.readouterr().out == ""


def test_an_installed_plugin_is_listed_and_enabled_only_by_the_configuration(capsys, install, config):
    install("mine", GOOD)
    row = {
        "name": "mine",
        "distribution": "remaphore-mine 1.5",
        "enabled": False,
        "hooks": ["remaphore_message", "remaphore_shutdown"],
        "error": "",
        "hint": "",
    }
    assert listed(capsys, "-c", config())[1]["mine"] == row
    assert listed(capsys, "-c", config("mine"))[1]["mine"] == row | {"enabled": True}


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("source", ["import no_such_module", "import sys; sys.exit(0)", "raise BaseException('no')"])
def test_a_broken_plugin_does_not_end_the_list_and_is_a_failure_only_if_enabled(
    capsys, install, config, source, enabled
):
    install("aaa", source)
    install("zzz", GOOD)
    code, rows = listed(capsys, "-c", config(*["aaa"] * enabled))
    assert code == int(enabled)
    assert rows["aaa"]["error"].startswith("plugin 'aaa' from remaphore-aaa 1.5 cannot be loaded: ")
    assert rows["aaa"]["hooks"] == []
    assert (rows["zzz"]["error"], rows["log"]["error"]) == ("", "")


def test_two_plugins_with_one_name_are_one_row_that_names_both(capsys, install, config):
    install("twin", GOOD, distribution="remaphore-one")
    install("twin", GOOD, distribution="remaphore-two")
    code, rows = listed(capsys, "-c", config("twin"))
    assert code == 1
    assert set(rows["twin"]["distribution"].split(", ")) == {"remaphore-one 1.5", "remaphore-two 1.5"}
    assert "two plugins are named 'twin'" in rows["twin"]["error"]


def test_a_plugin_that_is_enabled_and_not_installed_is_listed(capsys, config):
    code, rows = listed(capsys, "-c", config("gone"))
    assert code == 1
    assert rows["gone"]["distribution"] == ""
    assert "plugin 'gone' is not installed" in rows["gone"]["error"]


SETTINGS = """
    @dataclass(frozen=True)
    class Settings:
        path: str
        interval: timedelta = timedelta(seconds=1)
"""


def test_a_wrong_table_is_an_error_of_its_plugin_with_the_text_of_the_core(capsys, install, tmp_path):
    imports = "from dataclasses import dataclass\nfrom datetime import timedelta\n"
    for name in ("disk", "idle", "unset"):
        install(name, imports + GOOD + SETTINGS)
    tables = '[plugins]\nenable = ["disk"]\n[plugins.disk]\npaht = "/"\n[plugins.idle]\npath = "/"\ninterval = 5\n'
    config = str(write_toml(tmp_path / "node.toml", 1, "com.a", tables=tables + "[plugins.dsik]\n"))
    code, rows = listed(capsys, "-c", config)
    assert code == 1
    assert {
        name: (rows[name]["error"], rows[name]["hint"].partition("?")[0]) for name in ("disk", "idle", "unset")
    } == {
        "disk": (f"{config}: plugins.disk.paht: unknown key", "did you mean path"),
        "idle": (f"{config}: plugins.idle.interval: must be a string, not an integer", 'write interval = "30s"'),
        "unset": ("", ""),
    }
    assert (
        rows["dsik"]["hint"] == f"did you mean disk? If not, install it with pip, or delete [plugins.dsik] of {config}"
    )
    write_toml(Path(config), 1, "com.a", tables=tables)
    for command in ("check", "run"):
        assert main([command, "-c", config]) != 0
        shown = capsys.readouterr()
        assert f"{config}: plugins.disk.paht: unknown key" in shown.out + shown.err
        assert "did you mean path?" in shown.out + shown.err
    assert main(["config", "show", "-c", config]) == 0  # which shows what the file says


def test_for_people_there_is_a_table_without_control_characters(capsys, install, config):
    install("good", GOOD)
    install("bad", "raise ValueError('a\\x1b[2Jb')")
    assert main(["plugins", "-c", config("good", "bad")]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0].split() == ["NAME", "DISTRIBUTION", "ENABLED", "HOOKS"]
    lines = {line.split()[0]: line.split(maxsplit=4)[1:] for line in shown.out.splitlines()}
    assert lines["good"] == ["remaphore-good", "1.5", "yes", "message, shutdown"]
    assert lines["bad"][3] == "FAILED: plugin 'bad' from remaphore-bad 1.5 cannot be loaded: a\\x1b[2Jb"
    assert "on stdout" not in shown.out
    assert "\x1b" not in shown.out


def test_the_hint_of_an_error_is_a_field_and_follows_the_error_in_the_table():
    row = Row(name="a", distribution="", enabled=True, hooks=[], error="what happened", hint="how to fix it")
    assert row.describe() == "FAILED: what happened; hint: how to fix it"


def test_a_file_that_may_have_plugins_and_cannot_be_read_is_a_warning(install, tmp_path, capsys):
    install("good", GOOD)
    (tmp_path / "half-1.0.dist-info").mkdir()
    (tmp_path / "half-1.0.dist-info" / "entry_points.txt").write_bytes(b"[remaphore.plugins]\nh\xe4lf = half:main\n")
    assert main(["plugins"]) == 0
    out, errors = capsys.readouterr()
    assert "half-1.0.dist-info: entry_points.txt cannot be read: " in errors
    assert "good" in out
