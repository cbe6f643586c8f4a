"""What a user may have meant by a destination or pattern that matches no known peer: hints for errors, nothing else."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from remaphore.protocol.match import ALL, matches
from remaphore.text import natural_key, quoted

_CLOSEST = 0.8  # ratio of difflib: com.exmaple.web.1 and com.example.web.1 have 0.94
_MAX_SHOWN = 3
MAX_NAMED = 5  # names that an error lists
# The search for a better pattern is polynomial in the length of a name, with the number of stars as its degree.
_MAX_STARS, _MAX_LENGTH = 3, 128
_STARS = re.compile(r"\*+")

LEVELS = "* stands for text within one level, and ** for one or more levels, only at the end"


def pattern_problem(pattern: str) -> str:
    """Return why *pattern* can match no destination at all; empty if it can."""
    segments = pattern.split(".")
    if ALL in segments[:-1]:
        return "** is only possible at the end"
    if any(segment.count("*") > 1 for segment in segments if segment != ALL):
        return "a level can contain only one *"
    return ""


def similar(name: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the destinations of *known* that *name*, which is none of them, probably stands for; the closest first.

    Spaces, a dot at the end, upper case, a short name (`web.1` for `com.example.web.1`) and the order of a host name
    (`web.example.com`) are recognized before spelling mistakes are.
    """
    plain, turned = _folded(name)
    if not plain or "*" in plain:
        return ()
    lower = {each.lower(): each for each in sorted(known, key=natural_key, reverse=True)}
    exact = [lower[each] for each in (plain, turned) if each in lower]
    ends = [each for folded, each in lower.items() if folded.endswith((f".{plain}", f".{turned}"))]
    if found := exact or sorted(ends, key=natural_key):
        return tuple(found[:_MAX_SHOWN])
    from difflib import get_close_matches  # only for an error, as below

    return tuple(lower[each] for each in get_close_matches(plain, lower, n=_MAX_SHOWN, cutoff=_CLOSEST))


def hint(pattern: str, known: Collection[str]) -> str:
    """Return how to correct *pattern*, which matches none of *known*; empty if nothing is like it."""
    if any(each in pattern for each in "[],"):
        several = "ping, status and the --to of send, request, explain and doctor"
        return f"only {several} take several destinations; use a pattern here"
    if "*" in pattern:
        return _pattern_hint(pattern, known)
    for name in sorted(known, key=natural_key):
        for group in _folded(pattern):
            place = f".{name.lower()}".find(f".{group}.")
            if place >= 0:  # com.example.web, or only web, above com.example.web.1
                return f"{name[: place + len(group)] + '.**'!r} matches all below it"
    names = similar(pattern, known)
    return f"did you mean {alternatives(names)}?" if names else ""


def _pattern_hint(pattern: str, known: Collection[str]) -> str:
    """Return the hint for a pattern with stars: the one that matches, as each star of it stands for several levels.

    `com.*.web` does not match com.example.eu.web, `com.*.*.web` does; `com.*` and `com.**.web` likewise.
    """
    folded, _ = _folded(pattern)
    names = {name.lower(): name for name in sorted(known, key=natural_key)}
    fixed, stars, rest = folded.partition(".*")
    candidates = [folded, _misspelled(fixed, names) + stars + rest if stars else ""]
    for better in candidates:
        if any(matches(name, better) for name in known):
            return f"did you mean {better!r}?"
    fixed_texts = _STARS.split(folded)
    loose = re.compile("(.*)".join(map(re.escape, fixed_texts)))
    for name in known if len(fixed_texts) <= _MAX_STARS + 1 else ():
        found = loose.fullmatch(name.lower()) if len(name) <= _MAX_LENGTH else None
        if not found:
            continue
        levels = iter(found.groups())
        spread = _STARS.sub(lambda _stars: ".".join("*" * (next(levels).count(".") + 1)), folded)  # noqa: B023 - now
        for better in (re.sub(r"\.?\*+$", ".**", f".{folded}")[1:], spread):
            if matches(name, better):
                return f"{better!r} matches {name}; {LEVELS}"
    return LEVELS if "*" in folded.removesuffix(ALL) else ""


def _folded(text: str) -> tuple[str, str]:
    """Return *text* as destinations are usually written, and the same in the order of a host name."""
    plain = text.strip().strip(".").lower()
    return plain, ".".join(reversed(plain.split(".")))


def _misspelled(start: str, known: Collection[str]) -> str:
    """Return what the first levels of a pattern, *start*, were probably meant to be, after those of *known*."""
    from difflib import get_close_matches  # only for an error: every request would import it

    depth = start.count(".") + 1
    found = get_close_matches(start, {".".join(name.split(".")[:depth]) for name in known}, n=1, cutoff=_CLOSEST)
    return found[0] if found else ""


def alternatives(names: Sequence[str]) -> str:
    """Return *names* quoted, and joined by commas and `or`; of more than MAX_NAMED the number of the others."""
    *others, last = map(quoted, names[:MAX_NAMED])
    if len(names) > MAX_NAMED:
        others, last = [*others, last], f"{len(names) - MAX_NAMED} more"
    return f"{', '.join(others)} or {last}" if others else last
