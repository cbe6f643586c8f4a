"""Containment of patterns: does one pattern match everything that another one matches?

Whoever may address `com.example.web*` may also send to the pattern `com.example.web1*`, but not to `com.example.**`.
That cannot be decided by the peers which we know, since a pattern also reaches nodes that are not in our configuration.
The language of the patterns is that of `match`.
"""

from __future__ import annotations

from remaphore.protocol.match import ALL


def contains(wide: str, narrow: str) -> bool:
    """Return whether every destination that the pattern *narrow* matches is matched by the pattern *wide*, too.

    False also for a *narrow* that matches nothing, such as `com.a*b*`: it is a mistake.

    With `**` a pattern has a least depth, else an exact one. `a.**` matches from 2 segments on, so it contains `a.b`
    (exactly 2), `a.b.**` and `a.*.**` (from 3 on), but neither `a` nor `**`.
    """
    outer, inner = wide.split("."), narrow.split(".")
    outer_open, inner_open = outer[-1] == ALL, inner[-1] == ALL
    outer, inner = outer[: len(outer) - outer_open], inner[: len(inner) - inner_open]
    if any(segment.count("*") > 1 for segment in (*outer, *inner)):
        return False
    least, exact = len(inner) + inner_open, not inner_open
    fits = least > len(outer) if outer_open else exact and least == len(outer)
    return fits and all(map(_segment_contains, outer, inner))


def _segment_contains(wide: str, narrow: str) -> bool:
    prefix, star, suffix = wide.partition("*")
    if not star:
        return wide == narrow
    own_prefix, own_star, own_suffix = narrow.partition("*")
    if not own_star:
        return len(narrow) >= len(prefix) + len(suffix) and narrow.startswith(prefix) and narrow.endswith(suffix)
    # What `*` of *narrow* stands for can be empty or any text, so the ends of *wide* must be in those of *narrow*.
    return own_prefix.startswith(prefix) and own_suffix.endswith(suffix)
