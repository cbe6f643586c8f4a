"""The site builds without warnings, loads nothing from elsewhere, and its reference has all that the parsers have."""

import os
import re
import subprocess
import sys
from html import unescape

import pytest

from remaphore.cli.commands import COMMANDS
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return folder


@pytest.mark.xdist_group("site")
def test_the_site_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert {"index.html", "tutorial.html", "commands.html", "configuration.html"} <= {page.name for page in pages}
    loaded = re.compile(r'<(?:script|img|iframe|link rel="(?:stylesheet|icon|preload)")[^>]*(?:src|href)="([^"]+)"')
    found = {link for page in pages for link in loaded.findall(page.read_text())}
    assert found
    assert {link for link in found if "//" in link} == set()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_of_every_command(site, name):
    from remaphore.cli import arguments

    text = unescape((site / "reference" / "commands.html").read_text())
    shown = arguments.make_parser(name).format_help()
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*\b", shown.partition("\n\n")[2].partition("\nexamples:")[0]))
    assert {option for option in options if option not in text} == set()
    assert f">remaphore {name}<" in text
