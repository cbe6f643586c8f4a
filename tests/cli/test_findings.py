"""Findings as lines and as JSON, and the exit code that they lead to."""

import json

import pytest

from remaphore.cli.findings import FindingPrinter
from remaphore.diagnostics.findings import Code, Finding, Level

NASTY = "\x1b]0;title\x07\x9b31m\u202e\r\nline \udcff"


def test_equal_findings_are_one_line_and_in_json_one_object_each(capsys):
    findings = [Finding(Level.NOTE, Code.PERMISSIONS_REJECTED, f"com.{number}", "text") for number in (1, 2)]
    FindingPrinter(to_json=False).show(*findings)
    assert capsys.readouterr().out == "note     com.[1-2] (2): text\n"
    FindingPrinter(to_json=True).show(*findings)
    assert [json.loads(line)["where"] for line in capsys.readouterr().out.splitlines()] == ["com.1", "com.2"]


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ([Level.WARNING], 4),
        ([Level.NOTE], 0),  # a peer that runs the Go implementation
        ([Level.NOTE, Level.WARNING], 4),
        ([Level.WARNING, Level.ERROR], 1),
    ],
)
def test_a_silent_peer_is_exit_code_4_unless_there_is_an_error(levels, code):
    printer = FindingPrinter(to_json=False)
    printer.show(*(Finding(level, Code.PEER_SILENT, "com.two", "text") for level in levels))
    assert printer.conclude() == code


def test_control_characters_of_a_finding_are_escaped(capsys):
    FindingPrinter(to_json=False).show(Finding(Level.ERROR, Code.PEER_REJECTS, NASTY, NASTY, NASTY))
    (line,) = capsys.readouterr().out.splitlines()
    assert all(character.isprintable() for character in line)
    assert "\\x1b]0;title" in line


def test_a_finding_in_json_is_one_line_of_ascii_and_a_byte_of_no_encoding_is_text(capsys):
    FindingPrinter(to_json=True).show(Finding(Level.ERROR, Code.PEER_REJECTS, NASTY, NASTY, "", {"a": [1]}))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isascii()
    text = NASTY.replace(
        "\udcff", "\\udcff"
    )  # as JSON it would be half a pair of surrogates, which many parsers reject
    row = {"level": "error", "code": "peer-rejects", "where": text, "what": text, "hint": "", "facts": {"a": [1]}}
    assert json.loads(line) == row


@pytest.mark.parametrize(
    ("levels", "code", "summary"),
    [
        ({Level.OK: 9}, 0, "no problems found"),
        ({Level.WARNING: 1, Level.NOTE: 2}, 0, "1 warning, 2 notes"),
        ({Level.ERROR: 2, Level.OK: 1}, 1, "2 errors"),
    ],
)
def test_the_exit_code_is_1_exactly_if_there_is_an_error(levels, code, summary, capsys):
    printer = FindingPrinter(to_json=False)
    for level, number in levels.items():
        for _ in range(number):
            printer.show(Finding(level, Code.CLOCK_OK, "clock", "text"))
    assert printer.conclude() == code
    assert capsys.readouterr().err == f"remaphore: {summary}\n"
