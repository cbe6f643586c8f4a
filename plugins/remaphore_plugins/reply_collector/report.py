"""What is said on stderr: how far a request is, and how it ended, with the names of those that did not succeed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from remaphore_plugins.reply_collector.folding import listed
from remaphore_plugins.reply_collector.tally import WORDS, Kind, Tally
from remaphore_plugins.reply_collector.terminal import paint

_BAD: tuple[Kind, ...] = ("without_code", "failed", "rejected", "missing", "not_asked")
_PREFIX = "remaphore: "
_SHOWN = 50  # names of those that are waited for; no terminal shows more of them in a line


def progress(tally: Tally) -> str:
    """Return the progress line: answered, failed, waiting for whom."""
    bad = sum(tally.count(kind) for kind in ("without_code", "failed", "rejected"))
    parts = [f"{len(tally.verdicts)}/{len(tally.expected)} answered"]
    parts += [f"{bad} failed"] if bad else []
    if tally.waiting:
        parts.append(f"waiting for {' '.join(islice(tally.waiting, _SHOWN))}")
    elif tally.count("not_asked"):
        parts.append(f"{tally.count('not_asked')} not asked yet")
    return ", ".join(parts)


def summary(tally: Tally, *, colour: bool) -> str:
    """Return the lines of the summary: the numbers, then a line for each way not to succeed, with all names."""
    counts = [f"{len(tally.expected)} expected", f"{tally.count('ok')} ok"]
    counts += [f"{tally.count(kind)} {WORDS[kind]}" for kind in _BAD if tally.count(kind)]
    first = ("interrupted: " if tally.interrupted else "") + ", ".join(counts)
    return "".join(f"{_PREFIX}{line}\n" for line in (first, *_named(tally, colour=colour)))


def _named(tally: Tally, *, colour: bool) -> Iterator[str]:
    for kind in _BAD:
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name in tally.names(kind):
            groups[str(tally.verdicts[name]) if name in tally.verdicts else WORDS[kind]].append(name)
        for what, names in sorted(groups.items(), key=lambda group: -len(group[1])):
            yield f"{paint(what, kind) if colour else what}: {listed(names)}"
