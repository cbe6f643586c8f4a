"""The man pages agree with the parsers, are clean for those who format them, and need nothing to be made."""

import re
import shutil
import subprocess
import sys

import pytest

from docs.generate import man, manual
from remaphore.cli import words
from tests.docs.pages import ROOT

PAGES = man.pages("1.2.3")
# .ci/run installs the first; the second is on most machines.
LINTS = {"mandoc": ["mandoc", "-T", "lint", "-W", "warning"], "groff": ["groff", "-ww", "-man", "-z", "-T", "utf8"]}


def plain(page):
    """The text of a page as a reader sees it."""
    return re.sub(r"\\f[BIR]|\\&", "", PAGES[page]).replace("\\-", "-").replace("\\(aq", "'").replace("\\(ha", "^")


def test_there_is_a_page_for_each_command_and_for_the_configuration():
    assert set(PAGES) == {"remaphore.1", "remaphore.toml.5", *(f"remaphore-{word}.1" for word in words.WORDS)}


@pytest.mark.parametrize("word", words.WORDS)
def test_a_page_has_every_option_of_its_command_and_an_example(word):
    text = plain(f"remaphore-{word}.1")
    (command,) = [command for command in manual.commands() if command.name == word]
    for each in (command, *command.commands):
        assert [option.name for group in each.groups for option in group.options if option.name not in text] == []
        assert each.name in text
    assert ".SH EXAMPLES" in text
    assert f"remaphore {word}" in text.partition(".SH EXAMPLES")[2]


def test_the_main_page_names_every_command_and_every_flag_of_the_original():
    text = plain("remaphore.1")
    assert set(re.findall(r"^remaphore-(\w+)\(1\)$", text, re.MULTILINE)) == set(words.WORDS)
    assert set(re.findall(r"^-(\w)\b", text, re.MULTILINE)) == set("CDScdoprstuv")


@pytest.mark.parametrize("lint", [name for name in LINTS if shutil.which(name)])
@pytest.mark.parametrize("page", PAGES)
def test_who_formats_a_page_has_nothing_to_say(page, lint, tmp_path):
    (tmp_path / page).write_text(PAGES[page])
    ran = subprocess.run([*LINTS[lint], tmp_path / page], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_the_pages_are_made_without_any_dependency_because_a_build_has_none():
    code = (
        "import sys; sys.modules |= dict.fromkeys(('nats', 'nacl', 'nkeys', 'base58', 'pluggy', 'tomli', 'structlog',"
        " 'tomlkit', 'ClusterShell', 'argcomplete', 'prometheus_client'));"
        "from docs.generate import man; print(len(man.pages('1')))"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.stdout == f"{len(PAGES)}\n", made.stderr
