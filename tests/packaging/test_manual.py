"""The man pages agree with the parsers, format without warnings, and are generated without any dependency."""

import re
import shutil
import subprocess
import sys

import pytest

from docs.generate import man, manual
from remaphore.cli.commands import COMMANDS
from tests.docs.pages import ROOT

PAGES = man.pages("1.2.3")
# .ci/run installs the first; the second is on most machines.
LINTS = {"mandoc": ["mandoc", "-T", "lint", "-W", "warning"], "groff": ["groff", "-ww", "-man", "-z", "-T", "utf8"]}


def plain(page):
    """Return the text of a page as a reader sees it."""
    return re.sub(r"\\f[BIR]|\\&", "", PAGES[page]).replace("\\-", "-").replace("\\(aq", "'").replace("\\(ha", "^")


def test_there_is_a_page_for_each_command_and_for_the_configuration():
    assert set(PAGES) == {"remaphore.1", "remaphore.toml.5", *(f"remaphore-{name}.1" for name in COMMANDS)}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_of_its_command_its_exit_codes_and_an_example(name):
    text = plain(f"remaphore-{name}.1")
    (command,) = [command for command in manual.commands() if command.name == name]
    for each in (command, *command.actions):
        assert [option.name for group in each.groups for option in group.options if option.name not in text] == []
        assert each.name in text
    assert ".SH EXAMPLES" in text
    assert f"remaphore {name}" in text.partition(".SH EXAMPLES")[2]
    codes = re.findall(r"^(\d+)$", text.partition(".SH EXIT STATUS")[2].partition(".SH EXAMPLES")[0], re.MULTILINE)
    assert {"0", "2", "3", "130", "141"} <= set(codes)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_page_hold_only_lines_to_paste(name):
    text = plain(f"remaphore-{name}.1").partition(".SH EXAMPLES\n.nf\n")[2].partition("\n.fi")[0]
    (command,) = [command for command in manual.commands() if command.name == name]
    assert text.splitlines() == command.example.splitlines()
    assert "exit code" not in text


def test_the_main_page_names_every_command_and_every_flag():
    text = plain("remaphore.1")
    assert set(re.findall(r"^remaphore-(\w+)\(1\)$", text, re.MULTILINE)) == set(COMMANDS)
    assert set(re.findall(r"^-(\w)\b", text, re.MULTILINE)) == set("CDScdoprstuv")


@pytest.mark.parametrize("lint", [name for name in LINTS if shutil.which(name)])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_formatted_without_warnings(page, lint, tmp_path):
    (tmp_path / page).write_text(PAGES[page])
    ran = subprocess.run([*LINTS[lint], tmp_path / page], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_the_pages_are_generated_without_any_dependency_because_a_build_has_none():
    code = (
        "import sys; sys.modules |= dict.fromkeys(('nats', 'nacl', 'nkeys', 'base58', 'pluggy', 'tomli', 'structlog',"
        " 'tomlkit', 'argcomplete', 'prometheus_client'));"
        "from docs.generate import man; print(len(man.pages('1')))"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.stdout == f"{len(PAGES)}\n", made.stderr
