"""Matching a node's destination against the pattern in a message.

Both are split on `.`. A segment of a pattern may contain one `*`, which stands for any text within that segment; `**`,
alone and as the last segment, stands for one or more segments. A destination is a name: one that contains `*` matches
nothing. A prefix and a suffix around `*` may not overlap.

`com.example.web*` matches `com.example.web1`, `com.**` matches `com.example` and `com.example.web1`, but not `com`, and
`ab*ba` does not match `aba`.
"""

from __future__ import annotations

ALL = "**"  # matches every destination


def matches(destination: str, pattern: str) -> bool:
    """Return whether *pattern* matches *destination*."""
    if "*" not in pattern:
        return destination == pattern
    # The text before the first `*` must be the same. That is compared before the segments, since it is cheaper: each
    # node compares the patterns of all messages on the subject.
    if not destination.startswith(pattern[: pattern.index("*")]) or "*" in destination:
        return False
    if pattern == ALL:
        return True
    names = destination.split(".")
    wanted = pattern.split(".")
    if wanted[-1] == ALL:
        wanted.pop()
        names, rest = names[: len(wanted)], names[len(wanted) :]
        if not rest:
            return False
    return len(names) == len(wanted) and all(map(_segment_matches, names, wanted))


def _segment_matches(name: str, wanted: str) -> bool:
    prefix, star, suffix = wanted.partition("*")
    if not star:
        return name == wanted
    if "*" in suffix:
        return False
    return len(name) >= len(prefix) + len(suffix) and name.startswith(prefix) and name.endswith(suffix)
