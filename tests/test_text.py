"""Text of others: escaped, measured, cut and wrapped for terminals, and as JSON. Tables hold for every code point."""

import io
import json
import sys
import unicodedata

import pytest
from wcwidth import wcwidth  # what pyte, our terminal, goes by

from remaphore import text
from remaphore_plugins.reply_collector.terminal import for_terminal

HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Default_Ignorable_Code_Point of Unicode 16 outside of these categories, and two that are drawn as a blank.
HIDDEN_OTHERS = {
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0, 0x1D159),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}


def is_hidden(code):
    return unicodedata.category(chr(code)) in HIDDEN_CATEGORIES or code in HIDDEN_OTHERS


# All planes with assigned characters, and of the others, which are unassigned or private, one in a thousand.
CODES = [*range(0x32400), *range(0xE0000, 0xE1000), *range(0x32400, sys.maxunicode, 1000), sys.maxunicode]
HIDDEN = [code for code in CODES if is_hidden(code)]
VISIBLE = "".join(chr(code) for code in CODES if not is_hidden(code))


def escaped(code):
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def test_every_code_point_that_a_terminal_interprets_or_does_not_show_is_escaped_and_no_other():
    assert text.escape("".join(map(chr, HIDDEN))) == "".join(map(escaped, HIDDEN))
    assert text.escape(VISIBLE) == VISIBLE


def test_a_table_remembers_few_characters_however_many_a_peer_sends():
    table = text.CharacterTable(text.show)
    assert VISIBLE.translate(table) == VISIBLE
    assert len(table) <= text._MAX_CACHED


def test_in_a_reply_every_such_code_point_is_removed_or_escaped_and_ends_no_line():
    removed = {*range(0x20), *range(0x7F, 0xA0), 0xFE0E, 0xFE0F} - {*map(ord, "\v\f\x1c\x1d\x1e\x85")}
    hidden = [code for code in HIDDEN if chr(code) not in "\n\t\x1b" and not 0xD800 <= code < 0xE000]
    assert for_terminal("".join(map(chr, hidden)).encode()).decode() == "".join(
        escaped(code) for code in hidden if code not in removed
    )
    assert for_terminal(VISIBLE.encode()).decode() == VISIBLE
    assert for_terminal(b"a\tb\nc") == b"a\tb\nc"


def test_no_character_is_wider_than_it_is_measured():
    measured_wider = [hex(ord(each)) for each in VISIBLE if wcwidth(each) > text.width(each)]
    assert measured_wider == []
    assert (text.width("a\u6771e\u0301"), text.width("")) == (4, 0)


@pytest.mark.parametrize(
    ("line", "columns", "pieces"),
    [
        ("abcdef", 4, ["abcd", "ef"]),
        ("\u6771\u4eac\u90fd", 4, ["\u6771\u4eac", "\u90fd"]),
        ("a\u6771\u4eac", 4, ["a\u6771", "\u4eac"]),
        ("e\u0301e\u0301e\u0301", 2, ["e\u0301e\u0301", "e\u0301"]),
        ("\u6771\u4eac", 1, ["\u6771", "\u4eac"]),
        ("ab", 0, ["a", "b"]),
        ("", 4, [""]),
    ],
)
def test_a_text_is_cut_into_pieces_that_fit(line, columns, pieces):
    assert text.cut(line, columns) == pieces


@pytest.mark.parametrize(
    ("line", "columns", "lines"),
    [
        ("one two three", 13, ["one two three"]),
        ("one two three", 12, ["one two", "  three"]),
        ("  a   b c", 7, ["  a   b", "  c"]),
        ("\u6771\u4eac \u6771\u4eac \u6771", 9, ["\u6771\u4eac \u6771\u4eac", "  \u6771"]),
        ("one\u00a0two\u3000three", 8, ["one\u00a0two", "  three"]),  # no space keeps a line together
        ("a toolongforit b", 6, ["a", "  toolongforit", "  b"]),
        ("toolongforit", 6, ["toolongforit"]),
        ("      ab      ", 6, ["      ab"]),
        ("           ", 6, [""]),
    ],
)
def test_a_line_is_wrapped_at_words_by_columns(line, columns, lines):
    assert text.wrap(line, columns, indent=2, whole_words=True) == lines


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("a toolongforit b", ["a tool", "  ongf", "  orit", "  b"]),
        ("toolongforit", ["tool", "  ongf", "  orit"]),
        ("\u6771\u4eac\u6771\u4eac b", ["\u6771\u4eac", "  \u6771\u4eac", "  b"]),
    ],
)
def test_a_word_that_is_wider_than_the_line_is_broken_if_it_need_not_be_whole(line, lines):
    assert text.wrap(line, 6, indent=2) == lines


class Stream(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("variable", "columns"), [("", 80), ("0", 80), ("-3", 80), ("wide", 80), ("1", 1), ("9" * 5000, 80), ("132", 132)]
)
def test_the_columns_are_80_if_neither_the_terminal_nor_its_variable_says_more(monkeypatch, variable, columns):
    monkeypatch.setenv("COLUMNS", variable)
    assert text.columns_of(Stream()) == columns
    assert text.columns_of(io.StringIO()) is None


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_ascii_that_strict_parsers_accept(indent):
    value = {"name": "b\udcffd", "text": '\u6771\x7f\u2028"\\ud83d\U0001f600\ud83d\n', "n": [1.5, None, True]}
    shown = text.to_json(value, indent=indent)
    assert all(" " <= each <= "~" or each == "\n" for each in shown)
    assert ("\n" in shown) == (indent is not None)
    read = json.loads(shown)
    assert read == {"name": "b\\udcffd", "text": '\u6771\x7f\u2028"\\ud83d\U0001f600\\ud83d\n', "n": [1.5, None, True]}
    json.dumps(read, ensure_ascii=False).encode()  # no half of a pair of surrogates


def test_names_with_numbers_are_sorted_as_people_count():
    names = " 1 2 10 a a01 a1 a1.b2 a1.b10 a2 a10 b b.1 web-2"
    ordered = [*names.split(" "), "x" + "9" * 5000, "x1" + "0" * 5000]
    shuffled = ordered[::3] + ordered[1::3] + ordered[2::3]
    assert sorted(shuffled, key=text.natural_key) == ordered


def test_a_long_text_is_cut_and_its_length_named():
    assert text.shorten("x" * 200) == "x" * 200
    assert text.shorten("x" * 1000) == "x" * 200 + "... (1000 characters)"
    assert text.quoted("it's") == '"it\'s"'
    assert text.quoted("x" * 1000) == "'" + "x" * 200 + "'... (1000 characters)"
