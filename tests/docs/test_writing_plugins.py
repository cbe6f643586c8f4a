"""docs/writing-plugins.md is typed: its files, each of its commands, with the pip that this Python brings, and a node.

Nothing comes from a network: pip gets the wheels of what is installed here from a directory.
"""

import ensurepip
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from remaphore.config.search import load as load_config
from tests.harness.fresh_venv import ROOT, FreshVenv, build_wheel, clean_environment, wheelhouse
from tests.harness.processes import Process

# The environment takes seconds to make: the tests share it, in one process.
pytestmark = pytest.mark.xdist_group("writing plugins")

PAGE = (ROOT / "docs" / "writing-plugins.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
(ENABLING,) = re.findall(r"```toml\n(\[plugins\].*?)```", PAGE, re.DOTALL)
MAKE_VENV, INSTALL, TEST, LIST, BUILD, INSTALL_WHEEL, CHECK, ASK, *PUBLISH = COMMANDS
WHEEL = "remaphore_disk-1.0.0-py3-none-any.whl"


class Author:
    """Types commands in the folder of the page's project; `/opt` and `/etc/remaphore` are in the same place."""

    def __init__(self, folder, **environment):
        self.folder = folder
        self.project = folder / "remaphore-disk"
        self.etc = folder / "etc" / "remaphore"
        self.opt = folder / "opt" / "remaphore"
        self.etc.mkdir(parents=True)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}")
        offline = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONFIG_FILE": os.devnull}
        path = f"{programs}:{self.opt / 'bin'}:{os.environ['PATH']}"
        self.environment = clean_environment(PATH=path, **offline, **environment)
        for name, text in FILES.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def type(self, line, **environment):
        """Return what *line* prints; it must exit with 0."""
        line = line.replace("/opt/remaphore", str(self.opt)).replace("/etc/remaphore", str(self.etc))
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.project,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def author(tmp_path_factory):
    """An author whose environments see what is installed here, so that pip has nothing to install but the wheels."""
    folder = tmp_path_factory.mktemp("author")
    author = Author(folder, PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0")  # of pip's options, "0" is what means "no"
    wheel = build_wheel(ROOT, folder / "host")
    for place in (author.project / ".venv", author.opt):
        FreshVenv(place, "pytest", "hatchling").install(wheel)
    return author


def configure(author, config, text):
    """Write the configuration of the page's node: *config* of a test, with *text* at its end."""
    (author.etc / "remaphore.toml").write_text(config.read_text() + text)
    (author.etc / "remaphore.toml").chmod(0o600)


def test_the_page_names_a_project_a_module_and_a_test():
    assert set(FILES) == {"pyproject.toml", "src/remaphore_disk/__init__.py", "tests/test_disk.py"}
    assert MAKE_VENV == "python3 -m venv .venv"
    uploads = [".venv/bin/python -m pip install build twine", ".venv/bin/python -m build"]
    assert [*uploads, ".venv/bin/python -m twine upload dist/*"] == PUBLISH  # not typed: there is no index


@pytest.mark.long  # .ci/run types it
def test_the_page_can_be_typed_from_the_files_to_the_reply_of_a_node(author, fleet):
    assert f"pip {ensurepip.version()} " in author.type(".venv/bin/python -m pip --version")
    check_typed(author, fleet)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_page_can_be_typed_with_nothing_but_python(tmp_path, fleet):
    house = tmp_path / "wheels"
    build_wheel(ROOT, house)
    wheelhouse(house, "pytest", "hatchling", *(re.split("[^a-z0-9-]", line)[0] for line in dependencies()))
    build_wheel(editables(tmp_path / "editables"), tmp_path / "built").rename(house / "editables-0.5-py3-none-any.whl")
    author = Author(tmp_path, PIP_FIND_LINKS=str(house))
    author.type(MAKE_VENV)
    author.type("python3 -m venv /opt/remaphore")
    check_typed(author, fleet)


def dependencies():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def editables(folder):
    """Return a project of this name: hatchling wants it installed, and does not use it where `dev-mode-dirs` is set."""
    folder.mkdir()
    (folder / "editables.py").touch()
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    (folder / "pyproject.toml").write_text(f'{build}[project]\nname = "editables"\nversion = "0.5"\n')
    return folder


def check_typed(author, fleet):
    author.type(INSTALL)
    assert "4 passed" in author.type(TEST)
    (row,) = [line for line in author.type(LIST).splitlines() if line.startswith("disk ")]
    assert row.split(maxsplit=4)[1:] == ["remaphore-disk", "1.0.0", "no", "configure, message"]
    author.type(BUILD)
    assert [path.name for path in (author.project / "dist").iterdir()] == [WHEEL]
    author.type(INSTALL_WHEEL)
    configure(author, fleet.config("two"), ENABLING)
    (row,) = [line for line in author.type(CHECK).splitlines() if line.startswith("disk ")]
    assert row.split(maxsplit=4)[3] == "yes"
    where = author.type("/opt/remaphore/bin/python -c 'import remaphore_disk as disk; print(disk.__file__)'")
    assert where.startswith(str(author.opt))  # the wheel's, not the source
    words = ("run", "-c", author.etc / "remaphore.toml")
    state = author.environment | {"STATE_DIRECTORY": str(fleet.folder / "state")}
    daemon = Process(words, command=[author.opt / "bin" / "remaphore"], cwd=fleet.folder, env=state)
    fleet.processes.append(daemon)
    daemon.wait_for(" ready")
    asked = author.type(ASK, REMAPHORE_CONFIG=str(fleet.config("one", peers=["two"])))
    assert re.fullmatch(r"com\.example\.two,0,\d+ bytes left\n", asked)


@pytest.mark.long  # after the first one, which installs the plugin
def test_the_table_of_the_page_is_the_plugins_and_a_mistake_in_it_is_named(author, fleet):
    table = tomllib.loads(ENABLING)["plugins"]["disk"]
    configure(author, fleet.config("two"), ENABLING)
    assert load_config(str(author.etc / "remaphore.toml"), {}).plugins == {"disk": table}
    configure(author, fleet.config("two"), ENABLING.replace("path", "paht"))
    listed = author.type(f"{CHECK} --json || test $? = 1")
    (row,) = [row for row in map(json.loads, listed.splitlines()) if row["name"] == "disk"]
    assert row["error"] == f"{author.etc}/remaphore.toml: plugins.disk.paht: unknown key"
    assert row["hint"].startswith("did you mean path? ")


def test_every_name_that_the_page_imports_is_public():
    from remaphore import __all__ as names
    from remaphore import testing

    for module, imported in re.findall(r"^from (remaphore\S*) import (.*)$", PAGE, re.MULTILINE):
        public = {"remaphore": names, "remaphore.testing": testing.__all__, "remaphore_disk": ["Disk"]}[module]
        assert set(imported.split(", ")) <= set(public)
    assert {*re.findall(r"`(make_\w+)`", PAGE)} == {name for name in testing.__all__ if name.startswith("make_")}
