"""Matching: which destinations a pattern matches, and that no pattern can crash a receiver."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remaphore.protocol.match import matches
from tests.harness.factories import bounded

segments = st.sampled_from(
    ["", "a", "b", "ab", "aba", "*", "**", "a*", "*b", "a*b", "a*a", "ab*ba", "*a*", "a**", "***"]
)
dotted = st.lists(segments, min_size=1, max_size=4).map(".".join) | st.text("ab.*", max_size=8)
anything = dotted | st.text(max_size=12)


def reference(destination: str, pattern: str) -> bool:
    """Decide by one regular expression, with none of the code under test."""
    if "*" in destination:
        return False
    head, last = pattern.rsplit(".", 1) if "." in pattern else (None, pattern)
    parts = [] if head is None else [segment_expression(segment) for segment in head.split(".")]
    parts.append(".*" if last == "**" else segment_expression(last))
    return re.fullmatch(r"\.".join(parts), destination, re.DOTALL) is not None


def segment_expression(segment: str) -> str:
    return "(?!)" if segment.count("*") > 1 else r"[^.]*".join(map(re.escape, segment.split("*")))


@settings(bounded, max_examples=500)
@given(anything, anything)
@example("", "**")
@example("", "")
@example("com", "com.**")
@example("com.", "com.**")
def test_matches_what_an_independent_reference_matches(destination: str, pattern: str) -> None:
    assert matches(destination, pattern) is reference(destination, pattern)


@bounded
@given(st.text("ab.", max_size=8))
def test_a_name_is_reached_by_itself_and_by_everybody(destination: str) -> None:
    assert matches(destination, destination)
    assert matches(destination, "**")


@pytest.mark.parametrize("pattern", ["*", "**", "h*st", "com.*"])
def test_a_destination_with_a_star_is_reached_by_nothing(pattern: str) -> None:
    assert not matches(pattern, pattern)
    assert not matches(pattern, "**")


@pytest.mark.parametrize(
    ("destination", "pattern"),
    [("com", "longprefix*"), ("com", "*longsuffix"), ("aba", "ab*ba"), ("aba", "aba*aba"), ("", "a*")],
)
def test_a_prefix_or_suffix_that_does_not_fit_is_no_match(destination: str, pattern: str) -> None:
    assert not matches(destination, pattern)


@pytest.mark.parametrize("pattern", ["**.left", "com.**.left", "com.*e*t", "com.l**", "com.**t", "com.***"])
def test_two_stars_but_as_the_last_segment_alone_match_nothing(pattern: str) -> None:
    assert not matches("com.left", pattern)


def test_two_stars_stand_for_one_segment_or_more() -> None:
    assert [name for name in ("com", "com.a", "com.a.b", "org.a") if matches(name, "com.**")] == ["com.a", "com.a.b"]


def test_one_star_stays_within_its_segment() -> None:
    assert [name for name in ("com.us", "com.a.us", "com.a.b.us") if matches(name, "com.*.us")] == ["com.a.us"]


def test_letters_are_compared_as_they_are() -> None:
    assert not matches("com.left", "com.LEFT")
