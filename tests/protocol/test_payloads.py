"""Payload rules: what they permit, which patterns are refused at load, and with which sentence."""

from __future__ import annotations

import re
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remaphore.errors import ConfigError
from remaphore.protocol import payloads
from remaphore.protocol.payloads import PayloadRule, compile_pattern
from tests.harness.factories import bounded


def refusal(pattern: str, max_length: int = payloads.DEFAULT_LENGTH) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compile_pattern(pattern, max_length=max_length)
    return caught.value


def test_exact_payloads_are_compared_as_a_whole() -> None:
    rule = PayloadRule.of(payloads=["stop", "start", "größe"])
    assert all(map(rule.permits, [b"stop", b"start", "größe".encode()]))
    assert not any(
        map(rule.permits, [b"", b"sto", b"stop\n", b"STOP", b" stop", b"stop start", "größe".encode("latin-1")])
    )


def test_a_pattern_is_compared_with_the_whole_payload_in_bytes() -> None:
    rule = PayloadRule.of(pattern="v[0-9]{1,4}( --dry-run)?")
    assert all(map(rule.permits, [b"v1", b"v1234", b"v42 --dry-run"]))
    refused = [
        b"",
        b"v",
        b"v12345",
        b"v1\n",
        b"\nv1",
        b"v1\0",
        b"v1 --dry-run;id",
        b"xv1",
        b"v\xff",
        "v\N{ARABIC-INDIC DIGIT ONE}".encode(),
        b"V1",
    ]
    assert not any(map(rule.permits, refused))


def test_exact_payloads_add_to_a_pattern_and_are_not_limited_by_its_length() -> None:
    rule = PayloadRule.of(payloads=["", "x" * 300], pattern="[a-z]+", max_length=3)
    assert all(map(rule.permits, [b"", b"x" * 300, b"abc"]))
    assert not any(map(rule.permits, [b"abcd", b"x" * 299]))


def test_a_pattern_without_max_length_permits_256_bytes() -> None:
    rule = PayloadRule.of(pattern="a+")
    assert rule.permits(b"a" * 256)
    assert not rule.permits(b"a" * 257)


def test_the_settings_of_a_rule_make_the_same_rule() -> None:
    for values in ({"payloads": ["", "b"]}, {"pattern": "a+", "max_length": 9, "payloads": ["b"]}, {"max_length": 3}):
        rule = PayloadRule.of(**values)  # type: ignore[arg-type]
        assert rule.settings() == values
        assert PayloadRule.of(**rule.settings()) == rule  # type: ignore[arg-type]


def test_max_length_alone_permits_any_payload_up_to_it() -> None:
    rule = PayloadRule.of(max_length=5)
    assert all(map(rule.permits, [b"", b"\0\xff\n", b"12345"]))
    assert not rule.permits(b"123456")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({}, "permits nothing"),
        ({"payloads": ["a"], "max_length": 5}, "has no effect on exact payloads"),
        ({"pattern": "a", "max_length": 4097}, "more than 4096, the limit with a pattern"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(values: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        PayloadRule.of(**values)  # type: ignore[arg-type]
    assert caught.value.hint


DOT, NEGATED, ANCHOR = "bare dot", "negated class", "anchor"
LOOK, BACK, FLAG = "look-ahead or look-behind", "reference to a group", "a flag"
NESTED, CHOICE, WAYS = "repetition inside a repetition", "choice inside a repetition", "too many ways"
OTHER = "element that payload patterns do not have"

REFUSED = {
    # what matches more than it seems to
    **dict.fromkeys([".", "v.", "(.)", "[a-z]+.", "a|."], DOT),
    **dict.fromkeys(["[^a]", "[^ab]", r"\D", r"\W", r"\S", r"[\D]", r"[a\W]", r"[\d\D]"], NEGATED),
    **dict.fromkeys([r"\s", r"[\s]", r"[\s\S]"], "line breaks"),
    **dict.fromkeys([r"[\x00-\xff]", r"[ -\xff]", r"[\n-z]", r"[a-\x7f]"], "range that exceeds printable ASCII"),
    **dict.fromkeys(["é", "a\n", "\x00", "[ä-ü]", "v١"], "beyond printable ASCII"),  # noqa: RUF001 - an Arabic digit
    # what changes the meaning of the rest
    **dict.fromkeys(["^a", "a$", r"\Aa", r"a\Z", r"\ba", r"\Ba", "(^a|b)"], ANCHOR),
    **dict.fromkeys(["(?=a)a", "(?!a)b", "a(?<=a)", "a(?<!b)", "(?!)"], LOOK),
    **dict.fromkeys(["(?i)a", "(?x) a", "(?s)a", "(?i:a)b", "(?a:a)", "(?-i:a)", "(?L)a"], FLAG),
    **dict.fromkeys([r"(a)\1", "(?P<n>a)(?P=n)", "(a)?(?(1)b|c)"], BACK),
    # what can take long
    **dict.fromkeys(["(a+)+", "(a*)*b", "([a-z]+,)*[a-z]+", "(a?){200}", "(a{1,9}){1,9}", "((a+))*?"], NESTED),
    **dict.fromkeys(["(ab|cd)*", "(a|aa)+", "(a|ab)(a|ab){2,}", "((a|bc)){1,3}", "(a|)+b"], CHOICE),
    **dict.fromkeys([r"\d+\d+\d+", "a*a*a*", "(a|aa)" * 17, "a?" * 17, "(a?b?c?)(a?b?c?)" * 3, "([a-z]+-)?" * 3], WAYS),
    **dict.fromkeys(["(){4000000000}", "(a{0}){9}"], "repetition of nothing"),
    **dict.fromkeys(["a{257}", "(a{100}){100}", "(a{4294967294}){4294967294}"], "matches no payload"),
    # what is no pattern
    **dict.fromkeys(["a{1,9999}{1,9999}", "a**", "(a", "[z-a]", "*", r"\p", "a{2,1}"], "not a regular expression"),
    **dict.fromkeys(["a{99999999999}", "[[a]", "[a--b]"], "not usable"),
    **dict.fromkeys(["(" * 490 + "a" + ")" * 490], "nested too deeply"),
    "": "empty",
    "a" * 1001: "longer than 1000 characters",
    "|".join(f"name{number}" for number in range(10_000)): "longer than 1000 characters",
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "what"), REFUSED.items(), ids=lambda value: value[:24].encode("ascii", "replace"))
def test_a_pattern_is_refused_with_a_sentence_that_says_what_to_write(pattern: str, what: str) -> None:
    error = refusal(pattern)
    assert what in str(error)
    assert error.hint


@pytest.mark.skipif(sys.version_info < (3, 11), reason="from 3.11 on")
@pytest.mark.parametrize("pattern", ["a++", "a?+", "(?>a)"])
def test_an_element_that_is_not_listed_is_refused(pattern: str) -> None:
    assert OTHER in str(refusal(pattern))


@pytest.mark.parametrize("hint", [r"write \. for a dot", "compared with the whole payload", "such as [Aa]", "{1,20}"])
def test_a_hint_names_what_to_write_instead(hint: str) -> None:
    assert any(hint in refusal(pattern).hint for pattern in (".", "a$", "(?i)a", "a*a*a*"))


@pytest.mark.parametrize(
    "pattern",
    [
        *("stop|start", "v[0-9]{1,4}( --dry-run)?", r"\d+\.\d+", r"[\w.-]{1,64}", "[a-z]+-[a-z]+", "(a|b)*", "[ -~]*"),
        *(
            "([0-9]{3}-){1,4}[0-9]{3}",
            "(a+)?",
            "((a)){2}",
            r"[ \t]*",
            r"a\nb",
            r"\x00",
            "(?:ab)+",
            "(?P<name>a)",
            "a+?",
        ),
    ],
)
def test_a_pattern_that_cannot_take_long_is_accepted(pattern: str) -> None:
    assert compile_pattern(pattern, max_length=payloads.DEFAULT_LENGTH).flags == 0


def test_the_work_that_a_pattern_may_cause_counts_the_length_of_the_payload() -> None:
    compile_pattern("[a-z]*[a-z]*", max_length=256)
    assert WAYS in str(refusal("[a-z]*[a-z]*", 4096))
    compile_pattern("[a-z]{1,20}[a-z]{1,20}", max_length=4096)


parts = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "ab", r"\d", "."]),
    lambda inner: (
        st.builds("({}{}){}".format, inner, inner, st.sampled_from(["", "?", "*", "+", "{0,99}", "{2}", "{100}"]))
        | st.builds("({}|{})".format, inner, inner)
        | st.builds("{}{}".format, inner, inner)
    ),
    max_leaves=8,
)


@settings(bounded, max_examples=150)
@given(parts, st.sampled_from([b"a" * 255 + b"!", b"ab" * 127 + b"!", b"aab" * 85, b"1a" * 128]))
def test_no_accepted_pattern_runs_away(pattern: str, payload: bytes) -> None:
    try:
        compiled = compile_pattern(pattern, max_length=256)
    except ConfigError:
        return
    start = time.thread_time()
    compiled.fullmatch(payload)
    assert time.thread_time() - start < 2  # a runaway would never end; the slowest accepted ones take 0.1 s


def test_without_the_parser_of_re_only_patterns_without_repetitions_are_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(re, "_parser")
    monkeypatch.setitem(sys.modules, "re._parser", None)
    for pattern in ("stop|start", r"v[0-9][0-9]\.\d", "a b/c:=@%"):
        assert compile_pattern(pattern, max_length=256)
    for pattern in ("a+", "a*", "a?", "a{2}", ".", "^a", "a$", r"\b", "(a|b)", "(?i)a", r"\s", r"\W", "[^a]", r"(a)\1"):
        assert "cannot analyse" in str(refusal(pattern))
    assert "not a regular expression" in str(refusal("[z-a]"))
