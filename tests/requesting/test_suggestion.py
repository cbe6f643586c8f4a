"""What may have been meant by a destination or pattern that matches no known peer."""

import pytest

from remaphore.requesting.suggestion import LEVELS, hint, pattern_problem, similar

KNOWN = [
    *("com.example.web.1", "com.example.web.2", "com.example.web.10", "com.example.db.1", "com.example.eu.cache"),
    *("org.other", "com.example.London.1"),
]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("com.exmaple.web.1", "did you mean 'com.example.web.1'"),
        ("com.example.wbe.10", "did you mean 'com.example.web.10'"),
        ("com.example.web.1.", "did you mean 'com.example.web.1'?"),
        (" com.example.web.1", "did you mean 'com.example.web.1'?"),
        ("Com.Example.WEB.1", "did you mean 'com.example.web.1'?"),
        ("com.example.london.1", "did you mean 'com.example.London.1'?"),
        ("web.1", "did you mean 'com.example.web.1'?"),
        ("cache", "did you mean 'com.example.eu.cache'?"),
        ("1", "did you mean 'com.example.London.1', 'com.example.db.1' or 'com.example.web.1'?"),
        ("1.web.example.com", "did you mean 'com.example.web.1'?"),  # a host name
        ("com.example.web", "'com.example.web.**' matches all below it"),
        ("web", "'com.example.web.**' matches all below it"),
        ("web.example.com", "'com.example.web.**' matches all below it"),
        ("com.*.cache", f"'com.*.*.cache' matches com.example.eu.cache; {LEVELS}"),
        ("com.**.cache", f"'com.*.*.cache' matches com.example.eu.cache; {LEVELS}"),
        ("**.cache", f"'*.*.*.cache' matches com.example.eu.cache; {LEVELS}"),
        ("com.*", f"'com.**' matches com.example.web.1; {LEVELS}"),
        ("*", f"'**' matches com.example.web.1; {LEVELS}"),
        ("com.example.web**", f"'com.example.web.**' matches com.example.web.1; {LEVELS}"),
        ("*eb*", LEVELS),
        ("com.example.*.web", LEVELS),
        ("COM.example.**", "did you mean 'com.example.**'?"),
        ("com.exmaple.**", "did you mean 'com.example.**'?"),
        ("com.exmaple.web.*", "did you mean 'com.example.web.*'?"),
        (
            "com.example.web.[1-2]",
            "only ping, status and the --to of send, request, explain and doctor take several destinations",
        ),
        ("net.**", ""),
        ("something.else", ""),
        ("", ""),
        (".", ""),
    ],
)
def test_the_hint_is_what_was_probably_meant(typed, expected):
    assert hint(typed, KNOWN).startswith(expected)
    assert bool(hint(typed, KNOWN)) == bool(expected)
    assert "did you mean" not in hint(typed, [])


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("com.**.web", "** is only possible at the end"),
        ("**.**", "** is only possible at the end"),
        ("com.web**", "a level can contain only one *"),
        ("*web*.x", "a level can contain only one *"),
        ("com.***", "a level can contain only one *"),
        ("**", ""),
        ("com.*.w*b.**", ""),
        ("com.web.1", ""),
    ],
)
def test_a_pattern_that_can_match_nothing_has_a_problem(pattern, problem):
    assert pattern_problem(pattern) == problem


def test_nothing_is_similar_to_a_pattern():
    assert similar("com.example.*", KNOWN) == ()
