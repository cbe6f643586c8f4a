"""A soak: `python -m benchmarks.soak --hours 2 --output FOLDER`, or `make soak HOURS=2`.

A real daemon, a real broker, a steady load of requests that run a handler. Memory, descriptors, threads and the time to
each reply are sampled; the summary compares the last quarter with the second one, as the first still fills windows: six
minutes are the least that says anything.
Exit code 1 if an answer was missing, or if it grew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import broker, pictures
from benchmarks.daemon import Daemon
from benchmarks.handlers import Handlers

REQUESTS_PER_SECOND = 20
SAMPLES = 240
# What is remembered is forgotten within a minute and a half: until then the daemon grows by each message.
SKEW = "30s"
SHORTEST_SAMPLE = 1.0  # seconds
GROWTH_MIB = 2.0
GROWTH_DESCRIPTORS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The daemon at one moment, *seconds* from the start, and the replies since the sample before."""

    seconds: float
    resident_mib: float
    descriptors: int
    threads: int
    median_ms: float
    worst_ms: float
    answered: int
    missing: int


def main() -> int:
    """Soak, print the summary, write samples and picture; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="remaphore-soak-") as name:
        samples = soak(Path(name), seconds=options.hours * 3600)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "soak.json").write_text(json.dumps([asdict(sample) for sample in samples], indent=2) + "\n")
    pictures.soak(options.output / "soak.svg", samples)
    text, sound = summary(samples)
    print(text)
    print(f"picture: {options.output / 'soak.svg'}")
    return 0 if sound else 1


def soak(folder: Path, *, seconds: float) -> list[Sample]:
    """Load a daemon for *seconds*, and return what was sampled."""
    every = max(SHORTEST_SAMPLE, seconds / SAMPLES)
    samples: list[Sample] = []
    with broker.running(folder) as server:
        handlers = Handlers(folder, server.url, skew=SKEW)
        with handlers.daemon() as running:
            begin = time.monotonic()
            while (passed := time.monotonic() - begin) < seconds:
                taken, missing = handlers.steady(seconds=every, per_second=REQUESTS_PER_SECOND)
                samples.append(_sample(running, passed + every, taken, missing))
                if sys.stderr.isatty():
                    print(f"\r{passed / seconds:4.0%}  {samples[-1].resident_mib:.1f} MiB", end="", file=sys.stderr)
    return samples


def _sample(running: Daemon, seconds: float, taken: Sequence[float], missing: int) -> Sample:
    process = Path(f"/proc/{running.pid}")
    return Sample(
        seconds=seconds,
        resident_mib=running.resident_mib(),
        descriptors=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
        median_ms=statistics.median(taken) * 1000 if taken else 0.0,
        worst_ms=max(taken, default=0.0) * 1000,
        answered=len(taken),
        missing=missing,
    )


def summary(samples: Sequence[Sample]) -> tuple[str, bool]:
    """Return the summary, and whether nothing grew and nothing is missing."""
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    lines = [f"{'':14} {'2nd quarter':>12} {'4th quarter':>12}"]
    change = {}
    for name in ("resident_mib", "descriptors", "threads", "median_ms", "worst_ms"):
        early, late = (statistics.median(getattr(sample, name) for sample in part) for part in (second, last))
        change[name] = late - early
        lines.append(f"{name:14} {early:12.2f} {late:12.2f}")
    missing = sum(sample.missing for sample in samples)
    lines.append(f"{sum(sample.answered for sample in samples)} requests answered, {missing} missing")
    grew = change["resident_mib"] > GROWTH_MIB or change["descriptors"] > GROWTH_DESCRIPTORS
    return "\n".join(lines), not grew and not missing


if __name__ == "__main__":
    sys.exit(main())
