"""Verbs as label values: those that the configuration names, and one word for all others.

A peer that may send every verb may invent as many as it likes, and Prometheus keeps a series for each label value: only
who writes the configuration decides how many there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remaphore import Config

OTHER = "other"

_ANY = "*"  # permits every verb, and is none itself
_VERB_DIRECTORY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class VerbLabels:
    """The verbs with a label of their own. Frozen, so that the thread of a scrape always sees all of it or none.

    A verb once known stays so, and what was counted before it was known stays with the others: a counter that went
    down would be taken for a restart, and all of it for new. before: those counts, by verb.
    """

    known: frozenset[str] = frozenset()
    before: Mapping[str, int] = field(default_factory=dict)

    def learn(self, config: Config, handled: Mapping[str, int]) -> VerbLabels:
        """Return these labels and those that *config* names. *handled*: the counts up to now, by verb."""
        new = frozenset(_named(config)) - self.known
        before = {verb: handled[verb] for verb in new if verb in handled}
        return VerbLabels(self.known | new, {**self.before, **before})

    def of(self, verb: str) -> str:
        """Return the label of *verb*."""
        return verb if verb in self.known else OTHER

    def count(self, handled: Mapping[str, int]) -> dict[str, int]:
        """Return *handled*, by verb, as counts by label: 0 for a known verb that is not in it."""
        totals = dict.fromkeys(sorted(self.known), 0)
        for verb, number in handled.items():
            before = self.before.get(verb, 0)
            for label, part in ((self.of(verb), number - before), (OTHER, before)):
                if part:
                    totals[label] = totals.get(label, 0) + part
        return totals


def _named(config: Config) -> Iterator[str]:
    for verbs in (*(peer.verbs for peer in config.peers), *(own.verbs for own in config.identities), config.verbs):
        # A .conf may hold bytes that are no UTF-8, which no exposition could carry. An empty label is none at all.
        yield from (verb for verb in verbs if verb and verb != _ANY and verb.isprintable())
    for folder in config.hooks:
        yield from _directories(folder)


def _directories(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if _VERB_DIRECTORY.fullmatch(entry.name) and entry.is_dir()]
    except OSError:
        return []  # hooks-d reports what is wrong with it; here it names no verb
