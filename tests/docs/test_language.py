"""Code and pages are in plain standard English: no retired words. docs/glossary.md has the words to use."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

# Each word that is not used, with a standard one.
RETIRED = {
    r"\bmend(?:s|ed|ing)?\b": "fix, hint",
    r"\bto who\b": "to the requester, to the sender",
    r"\bwho asked\b": "the requester",
    r"\banew\b": "again",
    r"\bTells? whether\b": "Return whether",
    r"\b(?:some|no|any)body\b": "a peer, no peer, unprivileged users",
    r"\baloud\b": "explicitly",
    r"\bgoes on\b": "continues",
    r"\bat the begin\b": "at the beginning",
}
# Where such a word has to be: (path, the text in which it is) and the reason.
ALLOWED = {
    ("CHANGELOG.md", "`nobody-"): "old names, in the table of renamed ones",
    ("CHANGELOG.md", "`mend`"): "an old name, in the table of renamed ones",
    ("CHANGELOG.md", "; mend it: ..."): "an old text, in the table of renamed ones",
    ("CHANGELOG.md", "`Step.mend`"): "an old name, in the table of renamed ones",
    ("tests/docs/test_language.py", ""): "this list",
    ("tests/plugins/hooks_d/test_account.py", '"nobody"'): "the name of an account",
}
SUFFIXES = {".py", ".md", ".toml", ".service", ".conf", ".yml"}
WORDS = re.compile("|".join(f"(?:{each})" for each in RETIRED))


def tracked():
    """The files that are in the language of the project: code, pages, samples, and the files that drive them."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = (
        listed.stdout.splitlines() if listed.returncode == 0 else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    )
    paths = [Path(name) for name in names if not name.startswith((".venv", ".site", "tests/vectors/"))]
    return [
        path
        for path in paths
        if (path.suffix in SUFFIXES or path.name == "Makefile" or path.parts[0] == "hooks.d")
        and (ROOT / path).is_file()
    ]


def found(text):
    """Line number and line of each retired word. Names such as `nobody_reads` are one word, and are not looked into."""
    for number, line in enumerate(text.splitlines(), 1):
        if WORDS.search(line):
            yield number, line.strip()


def allowed(path, line):
    return any(name == str(path) and part in line for name, part in ALLOWED)


@pytest.mark.parametrize("path", tracked(), ids=str)
def test_no_retired_word_is_used(path):
    here = [(number, line) for number, line in found((ROOT / path).read_text()) if not allowed(path, line)]
    assert here == [], f"use standard words: {RETIRED}"


@pytest.mark.parametrize(("path", "part"), ALLOWED)
def test_an_exception_is_still_needed(path, part):
    assert [line for _, line in found((ROOT / path).read_text()) if part in line] != []


@pytest.mark.parametrize(
    "text",
    [
        "mends it",
        "sent to who asked",
        "send it anew",
        "Tell whether it runs",
        "nobody knows",
        "goes on",
        "`mend`",
    ],
)
def test_a_retired_word_is_found(text):
    assert list(found(text)) == [(1, text)]


@pytest.mark.parametrize("text", ["recommended", "a new key", "Tell the peer whether", "bodies", "amendment"])
def test_other_words_are_not(text):
    assert list(found(text)) == []
