"""docs/wire.md agrees with the code: its example is a valid message, and its patterns match as in its table."""

import re

from remaphore.protocol import match, wire
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "wire.md").read_text()


def test_the_example_is_a_message_with_the_fields_that_the_page_names():
    (line,) = re.findall(r"^(\w{43,44},.*)$", PAGE, re.MULTILINE)
    frame = wire.decode(line.encode())
    assert wire.verify(frame)
    assert (frame.destination, frame.verb, frame.uuid) == ("com.crypto.*.us", "update", b"upload_done")
    assert (frame.wants_reply, frame.payload) == (False, b"")


def test_the_form_on_the_page_is_that_of_the_code():
    (form,) = re.findall(r"^(base58\(public key\).*)$", PAGE, re.MULTILINE)
    assert form in wire.__doc__
    named = re.findall(r"^\| (?!what)([a-z ]+) \|", PAGE.partition("| field ")[2].partition("\n\n")[0], re.MULTILINE)
    assert named == re.sub(r"base58\(([a-z ]+)\)", r"\1", form).split(",")


def test_the_patterns_match_what_the_page_says():
    rows = re.findall(r"^\| `([^`]+)` \| (yes|no) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 8
    assert [(pattern, "yes" if match.matches("com.crypto.host.us", pattern) else "no") for pattern, _ in rows] == rows
