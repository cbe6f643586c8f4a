"""docs/architecture.md and CONTRIBUTING.md name files and folders that exist, and every package."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

BASES = (ROOT, ROOT / "remaphore", ROOT / "plugins" / "remaphore_plugins")
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
NAMED = [
    (page, name)
    for page in PAGES
    for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)*(?:/|\.py))`", (ROOT / page).read_text())
    if "NAME" not in name and name not in {"utils.py", ".venv/"}
]


@pytest.mark.parametrize(("page", "name"), sorted(set(NAMED)))
def test_a_file_or_folder_that_is_named_exists(page, name):
    nested = [base for base in (ROOT / "remaphore").rglob("*") if base.is_dir()] if "/" not in name.rstrip("/") else []
    assert any((base / name).exists() for base in (*BASES, *nested))


def test_every_package_of_the_core_is_on_the_page():
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = {path.parent.name for path in (ROOT / "remaphore").glob("*/__init__.py")}
    assert {name for name in packages if f"`{name}/`" not in text and f"`{name}/" not in text} == set()


def test_every_bundled_plugin_is_on_the_page():
    text = (ROOT / "docs" / "architecture.md").read_text()
    folder = ROOT / "plugins" / "remaphore_plugins"
    plugins = {path.name.removesuffix(".py") for path in folder.iterdir() if not path.name.startswith(("_", "py."))}
    assert {name for name in plugins if f"`{name}" not in text} == set()


def test_the_reading_order_names_existing_files_in_order():
    text = (ROOT / "docs" / "architecture.md").read_text()
    order = re.findall(
        r"^\d\. `([\w/]+\.py)`", text.partition("## Reading order")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert len(order) > 4
    assert [name for name in order if not Path(ROOT / name).is_file()] == []
