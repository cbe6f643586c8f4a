"""What is written to stderr: the progress of a request, and its result, with the names of failed destinations.

Many names are folded: `com.db.[1-30]`.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

from remaphore import nodeset
from remaphore.text import encodable, escape, fitting, wrap
from remaphore_plugins.reply_collector.request_stats import LABELS, Kind, RequestStats
from remaphore_plugins.reply_collector.terminal import colorize

_FAILED: tuple[Kind, ...] = ("without_code", "failed", "rejected")
_COUNTED: tuple[Kind, ...] = (*_FAILED, "missing", "not_asked")
_LISTED: tuple[Kind, ...] = (*_FAILED, "running", "silent", "not_asked")  # the missing ones are running or silent
_PREFIX = "remaphore: "
_MARGIN = 4  # columns before the further lines of a long list of names
_MANY = 8  # names; up to here a plain list is as easy to read
_SHOWN = 50  # destinations in the progress line; no terminal shows more of them in one line


def progress(stats: RequestStats, columns: int) -> str:
    """Return the progress line: how many answered and failed, and which destinations have not answered yet.

    Once one of them has confirmed that it is running, the others could have: they are silent. What is wider than
    *columns* will be clipped, and the silent ones, which may need attention, come last: so the running ones are only
    counted then.
    """
    failed = sum(stats.count(kind) for kind in _FAILED)
    parts = [f"{len(stats.verdicts)}/{len(stats.expected)} answered"]
    parts += [f"{stats.count('ok')}/{stats.required} required ok"] if stats.required else []
    parts += [f"{failed} failed"] if failed else []
    running, silent = (" ".join(islice(names, _SHOWN)) for names in (stats.running, stats.silent))
    if running and silent:
        line = ", ".join([*parts, f"{LABELS['running']}: {running}", f"{LABELS['silent']}: {silent}"])
        if fitting(line, columns) == len(line):
            return line
        counts = [f"{stats.count(kind)} {LABELS[kind]}" for kind in ("running", "silent")]
        return f"{', '.join([*parts, *counts])}: {silent}"
    if running:
        parts.append(f"{LABELS['running']}: {running}")
    elif silent:
        parts.append(f"waiting for {silent}")
    elif stats.count("not_asked"):
        parts.append(f"{stats.count('not_asked')} not asked yet")
    return ", ".join(parts)


def summary(stats: RequestStats, *, color: bool, columns: int | None = None, encoding: str | None = None) -> str:
    """Return the lines of the summary: the numbers and the id, then a line for each kind of failure, with all names.

    columns: of the terminal, at which lines are wrapped between names; None leaves each of them whole, for files and
    programs. encoding: of the terminal.
    """
    counts = [f"{len(stats.expected)} expected"]
    counts += [f"{stats.required} required"] if stats.required else []
    counts += [f"{stats.count('ok')} ok"]
    counts += [f"{stats.count(kind)} {LABELS[kind]}" for kind in _COUNTED if stats.count(kind)]
    first = (
        ("interrupted: " if stats.interrupted else "") + ", ".join(counts) + (f" (id {stats.id})" if stats.id else "")
    )
    lines = _wrap(encodable(first, encoding), columns)
    for kind in _LISTED:
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name in stats.names(kind):
            groups[str(stats.verdicts[name]) if name in stats.verdicts else LABELS[kind]].append(name)
        for what, names in sorted(groups.items(), key=lambda group: -len(group[1])):
            listed = nodeset.fold(names) if len(names) > _MANY else ", ".join(names)
            head, *rest = _wrap(encodable(f"{what}: {listed}", encoding), columns)
            if color:  # after wrapping, as escape sequences have no width
                end = len(_PREFIX) + len(what)
                head = _PREFIX + colorize(head[len(_PREFIX) : end], kind) + head[end:]
            lines += [head, *rest]
    return "".join(f"{line}\n" for line in lines)


def _wrap(text: str, columns: int | None) -> list[str]:
    line = _PREFIX + escape(text)
    # Names are never broken: a part of one could be taken for another.
    return [line] if columns is None else wrap(line, columns, indent=_MARGIN, whole_words=True)
