"""README.md is short before its reference, and leads to every page; the glossary is in order."""

import re

from tests.docs.pages import ROOT, pages

README = (ROOT / "README.md").read_text()


def test_at_most_700_words_stand_before_the_reference_tables():
    before, reference, _ = README.partition("\n## Commands\n")
    assert reference
    assert len(before.split()) <= 700


def test_every_page_is_linked():
    linked = set(re.findall(r"\]\(([\w./-]+\.md)\)", README))
    assert {str(page) for page in pages()} - linked == {"README.md"}


def test_the_glossary_is_in_alphabetical_order_and_linked_for_contributors():
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    terms = re.findall(r"^\| ([^|]+) \|", glossary.partition("|---|---|")[2], re.MULTILINE)
    assert len(terms) >= 30
    assert terms == sorted(terms, key=str.lower)
    assert "(docs/glossary.md)" in (ROOT / "CONTRIBUTING.md").read_text()
