"""A profile of the daemon while it receives: `python -m benchmarks.profile [accepted|misaddressed|unknown|forbidden]`.

cProfile sees the event loop's thread, and makes every call dearer: read the shares and the number of calls; what it
costs without a profiler is in the table of `python -m benchmarks`. Microseconds are for each message of the flood.
"""

from __future__ import annotations

import pstats
import sys
import tempfile
from pathlib import Path

from benchmarks import broker
from benchmarks.receive import MESSAGES, Receiver

TOP = 45
_CODE = (
    "import cProfile, gc, sys; from remaphore.cli.main import main; gc.disable();"
    "profile = cProfile.Profile(); code = profile.runcall(main, sys.argv[2:]); profile.dump_stats(sys.argv[1])"
)


def main(kind: str = "accepted") -> None:
    """Profile a flood of messages of *kind*, and print the dearest functions."""
    with tempfile.TemporaryDirectory(prefix="remaphore-bench-") as name:
        folder = Path(name)
        found = folder / "profile"
        with broker.running(folder) as server:
            receiver = Receiver(folder, server.url)
            flood = receiver.flood(getattr(receiver, kind), command=(sys.executable, "-c", _CODE, str(found)))
        rates = f"{flood.per_second:.0f}/s under the profiler, L1 = {flood.l1.per_second:.0f}/s"
        print(f"{kind}: {MESSAGES} messages, {rates}\n")
        _print(pstats.Stats(str(found)))


def _print(stats: pstats.Stats) -> None:
    functions = sorted(stats.stats.items(), key=lambda item: item[1][2], reverse=True)  # type: ignore[attr-defined]
    print(f"{'own us':>8} {'all us':>8} {'calls':>7}  a message of the flood")
    for (path, line, function), (_, calls, own, total, _) in functions[:TOP]:
        place = "/".join(Path(path).parts[-2:]) if line else ""
        costs = f"{own / MESSAGES * 1e6:8.2f} {total / MESSAGES * 1e6:8.2f} {calls / MESSAGES:7.2f}"
        print(f"{costs}  {place}:{line} {function}")


if __name__ == "__main__":
    main(*sys.argv[1:])
