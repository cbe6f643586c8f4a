"""The site builds without warnings, loads nothing from other hosts, and has every option of the parsers."""

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
def test_the_site_loads_nothing_from_other_hosts(site):
    pages = sorted(site.rglob("*.html"))
    assert {"index.html", "tutorial.html", "commands.html", "configuration.html", "python.html"} <= {
        page.name for page in pages
    }
    loaded = re.compile(r'<(?:script|img|iframe|link rel="(?:stylesheet|icon|preload)")[^>]*(?:src|href)="([^"]+)"')
    found = {link for page in pages for link in loaded.findall(page.read_text())}
    assert found
    assert {link for link in found if "//" in link} == set()


@pytest.mark.xdist_group("site")
def test_the_copy_button_copies_commands_without_prompts_and_output(site):
    text = (site / "tutorial.html").read_text()
    copied = [unescape(each) for each in re.findall(r'data-copy="([^"]*)"', text)]
    assert "scp right:right.peer .\nremaphore peer add --verbs ping --file right.peer" in copied[5]
    assert [each for each in copied if re.search(r"^\w*\$ |^server: ", each, re.MULTILINE)] == []
    assert re.findall(r'<span class="gp">(.*?)</span>', text)[0] == "left$ "
    assert {"content.code.copy", "navigation.footer"} <= set(re.findall(r'"([\w.]+)"', text))


@pytest.mark.xdist_group("site")
def test_links_have_titles_instead_of_file_names(site):
    named = {
        (page.name, shown)
        for page in site.rglob("*.html")
        for shown in re.findall(r'<a [^>]*href="[^"]+"[^>]*>([^<]+)</a>', page.read_text())
        if re.fullmatch(r"[\w/.-]+\.(md|html)", shown.strip())
    }
    assert named == set()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_of_every_command(site, name):
    from remaphore.cli import arguments

    text = unescape((site / "reference" / "commands.html").read_text())
    shown = arguments.make_parser(name).format_help()
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*\b", shown.partition("\n\n")[2].partition("\nexamples:")[0]))
    assert {option for option in options if option not in text} == set()
    assert f">remaphore {name}<" in text
