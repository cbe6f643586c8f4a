"""The rules for pages: whoever adds a command to the documentation has it typed, or says here why not."""

import re

import pytest

from tests.docs.pages import ROOT, blocks, pages

LANGUAGES = {"sh", "console", "text", "toml", "python", "json", "yaml"}
# Every block that is not typed, with its reason. Do not add to it lightly.
NOT_TYPED = {
    "CONTRIBUTING.md": ["it makes this environment, and runs the tests"],
    "README.md": ["the tests are what types this; CI runs both", "it installs; CI does it, see .ci/run"],
    "docs/explain.md": ["it needs the command `nats`"],
    "docs/running.md": ["it needs a machine that systemd runs", "it makes a user", "it installs"],
    "docs/tutorial.md": [
        "it installs; .ci/run types this page from the wheel, with this block",
        "both machines are one here, and have one loopback",
    ],
    "hooks.d/README.md": ["a handler, and no command"],
}
PAGES = [str(page) for page in pages()]


def fences(text):
    """Language and text of each fenced block, and what stands outside of them."""
    parts = re.split(r"^```(.*)\n", text, flags=re.MULTILINE)
    inside = [(parts[number], parts[number + 1]) for number in range(1, len(parts) - 1, 4)]
    return inside, "\n".join(parts[number] for number in range(0, len(parts), 4))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_has_a_language_so_that_commands_are_known(page):
    inside, outside = fences((ROOT / page).read_text())
    assert {language for language, _ in inside} <= LANGUAGES
    assert re.findall(r"\n\n    (?! )\S.*", re.sub(r"<!--.*?-->", "", outside, flags=re.DOTALL)) == []


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


def test_what_is_not_typed_is_listed_with_its_reason():
    found = {page: [block.why_not for block in blocks((ROOT / page).read_text()) if block.why_not] for page in PAGES}
    assert {page: reasons for page, reasons in found.items() if reasons} == NOT_TYPED


def test_most_of_what_is_said_is_typed():
    typed = [block for page in PAGES for block in blocks((ROOT / page).read_text()) if not block.why_not]
    assert len(typed) > 4 * sum(map(len, NOT_TYPED.values()))
