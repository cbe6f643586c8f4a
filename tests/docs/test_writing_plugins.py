"""docs/writing-plugins.md is followed step by step: its files, its installation, its test, its commands."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from remaphore.config.search import load as load_config
from tests.harness.fresh_venv import ROOT, FreshVenv, build_wheel
from tests.harness.node_files import write_toml

# The environment takes seconds to make: the tests share it, in one process.
pytestmark = pytest.mark.xdist_group("writing plugins")

PAGE = (ROOT / "docs" / "writing-plugins.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
(ENABLING,) = re.findall(r"```toml\n(\[plugins\].*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "remaphore-disk"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def venv(project, tmp_path_factory):
    """An environment with remaphore's wheel, and the page's plugin installed as the page says."""
    folder = tmp_path_factory.mktemp("venv")
    fresh = FreshVenv(folder / "venv", "pytest", "hatchling")
    fresh.install(build_wheel(ROOT, folder / "wheel"))
    assert "pip install -e ." in SHELL
    fresh.install("-e", project)
    return fresh


def rows(venv, folder, *words):
    listed = venv.run("remaphore", "plugins", "--json", *words, cwd=folder)
    return listed.returncode, {row["name"]: row for row in map(json.loads, listed.stdout.splitlines())}


def test_the_page_names_a_project_a_module_and_a_test():
    assert set(FILES) == {"pyproject.toml", "src/remaphore_disk/__init__.py", "tests/test_disk.py"}


def test_the_pages_own_tests_pass(project, venv):
    assert ".venv/bin/python -m pytest\n" in SHELL
    ran = venv.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert "4 passed" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 0


def test_the_command_lists_the_plugin_with_its_distribution_and_hooks(project, venv):
    assert ".venv/bin/remaphore plugins\n" in SHELL
    code, listed = rows(venv, project, "-c", enabled(project, ""))
    assert code == 0
    assert listed["disk"] == {
        "name": "disk",
        "distribution": "remaphore-disk 1.0.0",
        "enabled": False,
        "hooks": ["remaphore_configure", "remaphore_message"],
        "hint": "",
        "error": "",
    }


def test_the_lines_that_enable_it_do(project, venv):
    config = enabled(project, ENABLING)
    assert load_config(str(config), {}).plugins == {"disk": tomllib.loads(ENABLING)["plugins"]["disk"]}
    code, listed = rows(venv, project, "-c", config)
    assert code == 0
    assert listed["disk"]["enabled"]


def test_it_can_be_built_and_the_wheel_has_the_entry_point(project, tmp_path):
    assert "twine upload dist/*" in SHELL
    assert build_wheel(project, tmp_path / "dist").name == "remaphore_disk-1.0.0-py3-none-any.whl"


def test_every_name_that_the_page_imports_is_public():
    from remaphore import __all__ as names
    from remaphore import testing

    for module, imported in re.findall(r"^from (remaphore\S*) import (.*)$", PAGE, re.MULTILINE):
        public = {"remaphore": names, "remaphore.testing": testing.__all__, "remaphore_disk": ["Disk"]}[module]
        assert set(imported.split(", ")) <= set(public)


def enabled(folder: Path, text: str) -> Path:
    """Write the configuration of a node, with *text* at its end."""
    return write_toml(folder / "node.toml", 1, "com.example.one", tables=text)
