"""Containment: compared with what the matcher of messages does, for every destination of a small alphabet."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remaphore.protocol.containment import contains
from remaphore.protocol.match import matches
from tests.harness.factories import bounded

segments = st.sampled_from(["a", "b", "ab", "ba", "", "*", "a*", "*a", "a*b", "ab*ba", "b*", "*a*", "a**"])
patterns = st.builds(
    lambda parts, end: ".".join([*parts, *end]),
    st.lists(segments, min_size=1, max_size=2),
    st.sampled_from([[], ["**"]]),
) | st.sampled_from(["**", "", "**.a"])

# `c` is in no pattern, so it shows that a `*` stands for any text. `abcba` is longer than each prefix and suffix.
NAMES = ["", "a", "b", "c", "ab", "ba", "aba", "abba", "abcba", "acb", "bca"]
DESTINATIONS = [".".join(parts) for depth in (1, 2, 3) for parts in product(NAMES, repeat=depth)]


@settings(bounded, max_examples=300)
@given(patterns, patterns)
@example("a.**", "a.b.**")
@example("a.*.**", "a.**")
@example("**", "**")
@example("a*a", "a*")
@example("*", "**.a")
def test_a_pattern_contains_another_exactly_if_it_matches_all_that_the_other_matches(wide: str, narrow: str) -> None:
    reached = [name for name in DESTINATIONS if matches(name, narrow)]
    contained = bool(reached) and all(matches(name, wide) for name in reached)
    assert contains(wide, narrow) is contained


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("com.example.r*", "com.example.**"),
        ("com.example.*", "com.example.web.1"),
        ("com.example.web1", "com.example.web*"),
        ("com.example.**", "com.**"),
        ("com.example.**", "com.example"),
        ("com.example.web*", "com.example.we*"),
        ("com.*.web", "com.**"),
        ("com.example", "COM.example"),
        ("**", "com.a*b*"),
        ("com.a*b*", "com.a1b1"),
    ],
)
def test_a_pattern_that_can_reach_further_is_not_contained(wide: str, narrow: str) -> None:
    assert not contains(wide, narrow)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("**", "**"),
        ("**", "com"),
        ("com.**", "com.example.web*"),
        ("com.*.web*", "com.example.web1*"),
        ("com.example.*", "com.example.*"),
        ("com.example.web1", "com.example.web1"),
    ],
)
def test_a_pattern_that_reaches_less_is_contained(wide: str, narrow: str) -> None:
    assert contains(wide, narrow)
