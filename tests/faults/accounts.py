"""The checker of the random faults: how every request ended, and which ends are not explained."""

from __future__ import annotations

from collections import Counter

UNDER_WAY = "under way"

# How often a handler may have been started for a request that ended so. Of what is lost, the request may be, or the
# reply; a run that was interrupted by kill -9 may not have come to the handler's first line.
_IN_TROUBLE = {"answered": {1}, "rejected": {0}, "lost": {0, 1}, "interrupted 143": {0, 1}}
# While nothing is broken, nothing may be lost, rejected or interrupted.
_IN_CALM = {"answered": {1}}


class Accounts:
    """Every request by its payload, which no two share. `ends`: how each ended, see `site.asked`."""

    def __init__(self) -> None:
        self.ends: dict[str, str] = {}
        self._calm: set[str] = set()

    def open(self, name: str, *, calm: bool) -> str:
        """Return the payload of a new request. *calm*: from now to its end nothing is broken."""
        payload = f"{name}.{len(self.ends)}"
        self.ends[payload] = UNDER_WAY
        if calm:
            self._calm.add(payload)
        return payload

    def may_repeat(self, payload: str) -> bool:
        """Return whether a captured request may be sent again: its reply, sent again, would hide that one was lost."""
        return payload not in self._calm or self.ends[payload] != UNDER_WAY

    @property
    def counted(self) -> Counter[str]:
        """How many requests ended how; those made in calm by themselves."""
        return Counter(f"{end} in calm" if payload in self._calm else end for payload, end in self.ends.items())

    def unexplained(self, started: Counter[str]) -> dict[str, str]:
        """Return each request whose end and number of starts do not go together, and what is wrong with it."""
        wrong = {}
        for payload, end in self.ends.items():
            allowed = _IN_CALM if payload in self._calm else _IN_TROUBLE
            if started[payload] not in allowed.get(end, ()):
                when = " in calm" if payload in self._calm else ""
                wrong[payload] = f"{end}{when}, started {started[payload]} times"
        return wrong | dict.fromkeys(started.keys() - self.ends.keys(), "started, and never sent")
