"""The pictures of `fleet` and `soak`, as SVG. The only module that needs matplotlib (`pip install --group bench`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    from benchmarks.fleet import Asked
    from benchmarks.soak import Sample

matplotlib.use("svg")
matplotlib.rcParams.update(
    {"svg.hashsalt": "remaphore", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
)


def fleet(path: Path, everyone: Sequence[Asked]) -> None:
    """Draw what a request to all costs against the number of nodes."""
    from matplotlib import pyplot

    nodes = [asked.nodes for asked in everyone]
    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for name, label in (("first_ms", "first reply"), ("last_ms", "last reply"), ("cpu_ms", "requester's CPU")):
        time.loglog(nodes, [getattr(asked, name) for asked in everyone], "o-", label=label)
    time.set(xlabel="nodes", ylabel="ms", title="one request to all")
    memory.loglog(nodes, [asked.broker_mib for asked in everyone], "o-", label="broker")
    memory.loglog(nodes, [asked.receivers_mib for asked in everyone], "o-", label="all receivers, 4 processes")
    memory.set(xlabel="nodes", ylabel="MiB", title="resident memory")
    time.legend()
    memory.legend()
    figure.savefig(path, metadata={"Date": None})


def soak(path: Path, samples: Sequence[Sample]) -> None:
    """Draw memory, descriptors and the time to a reply over the hours."""
    from matplotlib import pyplot

    hours = [sample.seconds / 3600 for sample in samples]
    figure, panels = pyplot.subplots(3, 1, figsize=(8, 6), sharex=True, layout="constrained")
    panels[0].plot(hours, [sample.resident_mib for sample in samples])
    panels[0].set(ylabel="resident MiB")
    for name in ("descriptors", "threads"):
        panels[1].plot(hours, [getattr(sample, name) for sample in samples], label=name)
    panels[1].legend()
    for name, label in (("median_ms", "median"), ("worst_ms", "worst")):
        panels[2].semilogy(hours, [getattr(sample, name) for sample in samples], label=label)
    panels[2].set(ylabel="ms to a reply", xlabel="hours")
    panels[2].legend()
    figure.savefig(path, metadata={"Date": None})
