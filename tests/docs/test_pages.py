"""Rules for pages: every command is typed by a test, or listed here with the reason why not."""

import re

import pytest

from tests.docs.pages import ROOT, SETUP, fences, page_blocks, pages, setup_of
from tests.docs.test_blocks import READERS

# Every block that is not typed, with its reason. Do not add to it lightly.
NOT_TYPED = {
    "CONTRIBUTING.md": ["it makes this environment, and runs the tests"],
    "README.md": ["the tests are what types this; CI runs both", "it installs; CI does it, see .ci/run"],
    "docs/coordination.md": ["it needs jq", *["the tests of the command type it on a broker of a site"] * 2],
    "docs/explain.md": ["it needs the command `nats`"],
    "docs/running.md": ["it needs a machine that systemd runs", "it makes a user", "it installs"],
    "docs/tutorial.md": [
        "it installs; .ci/run types this page from the wheel, with this block",
        "both machines are one here, and have one loopback",
    ],
    "docs/howto/agent.md": ["it makes a user", "it needs users", "it needs a machine that systemd runs"],
    "docs/howto/broker.md": ["it makes a user", "it changes the firewall"],
    "docs/howto/fleet.md": ["it installs", "it uninstalls"],
    "docs/howto/s3.md": ["it makes a user"],
    "hooks.d/README.md": ["a handler, and no command"],
}
PAGES = [str(page) for page in pages()]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_has_a_language_so_that_commands_are_known(page):
    inside, outside = fences((ROOT / page).read_text())
    assert {language for language, _ in inside} <= {*READERS}
    assert re.findall(r"\n\n    (?! )\S.*", outside) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_a_block_of_text(page):
    inside, _ = fences((ROOT / page).read_text())
    hidden = [
        line
        for language, text in inside
        for line in text.splitlines()
        if language == "text" and re.match(r"\$ |remaphore (?!.*(\[|: ))", line)
    ]
    assert hidden == []


def test_each_block_that_is_not_typed_is_listed_with_its_reason():
    found = {page: [block.why_not for block in page_blocks(page) if block.why_not] for page in PAGES}
    assert {page: reasons for page, reasons in found.items() if reasons} == NOT_TYPED


def test_most_blocks_are_typed():
    typed = [block for page in PAGES for block in page_blocks(page) if not block.why_not]
    assert len(typed) > 4 * sum(map(len, NOT_TYPED.values()))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_comments_so_that_a_terminal_shows_what_a_browser_shows(page):
    _, outside = fences((ROOT / page).read_text())
    assert "<!--" not in re.sub(r"`[^`]*`", "", outside)


def test_each_setup_file_belongs_to_a_page():
    assert set(SETUP.rglob("*.sh")) - {setup_of(page) for page in PAGES} == set()
