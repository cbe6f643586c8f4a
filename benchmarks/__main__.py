"""The suite: `python -m benchmarks [--short] [--json FILE] [--only GROUP...]`.

Exit code 1 if a target was not reached; with --short, if a row is worse than its floor: two thirds of the target or,
where docs/performance.md says that the target cannot be reached, of the result there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import broker, limits, locks, memory, startup
from benchmarks.handlers import Handlers
from benchmarks.receive import Receiver
from benchmarks.report import Results, Samples
from benchmarks.requests import Requester

ROUNDS = 3
QUIET = 0.5  # load average of a machine that does nothing else
ONCE = ("memory",)  # it takes its time, and does not depend on the machine's speed
GROUPS = ("receive", "one-shot", "drop", "request", "startup", "handlers", "locks", "memory", "peers")

Group = Callable[[], Samples]


def main() -> int:
    """Run the suite, print the table, return the exit code."""
    options = _options()
    begin = time.monotonic()
    load = os.getloadavg()[0]
    if load > QUIET:
        say(f"the load average is {load:.1f}: rows in CPU time hold, the others are noisy")
    results = Results()
    with (
        tempfile.TemporaryDirectory(prefix="remaphore-bench-") as name,
        _groups(Path(name), short=options.short) as groups,
    ):
        # Round by round: the speed of a machine drifts, and every row is to see all of its phases.
        for number in range(ROUNDS):
            for group in options.only or GROUPS:
                if number and group in ONCE:
                    continue
                say(group)
                results.add(groups[group]())
    say(f"{time.monotonic() - begin:.0f} s")
    print(results.table())
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results.document(), indent=2) + "\n")
    failed = results.fallen() if options.short else results.failed()
    if failed:
        names = "".join(f"\n  {target.what}" for target in failed)
        say(("worse than the floor:" if options.short else "target not reached:") + names)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure remaphore on this machine.")
    parser.add_argument("--short", action="store_true", help="small counts, about a minute; fails on floors")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, versions and machine there")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help=f"some of: {', '.join(GROUPS)}")
    return parser.parse_args()


@contextmanager
def _groups(folder: Path, *, short: bool) -> Iterator[Mapping[str, Group]]:
    """Prepare what all rounds share, and yield what measures each group once."""
    with ExitStack() as stack:
        server = stack.enter_context(broker.running(folder))
        commands = stack.enter_context(startup.prepared(folder))
        held = stack.enter_context(locks.prepared(folder / "locks"))
        receiver = Receiver(folder, server.url)
        requester = Requester(folder, server.url)
        handlers = Handlers(folder, server.url)
        forgetful = Receiver(folder, server.url, name="memory", skew=memory.SKEW)
        peers = memory.Peers(folder)
        yield {
            "receive": lambda: {
                **receiver.measure(short=short),
                "L2_per_second": [limits.deliveries_per_second(server.url)],
            },
            "one-shot": lambda: receiver.measure_one_shot(short=short),
            "drop": lambda: receiver.measure_dropped(short=short),
            "request": requester.measure,
            "startup": lambda: commands.measure(runs=5 if short else startup.RUNS),
            "handlers": lambda: handlers.measure(starts=10, requests=300) if short else handlers.measure(),
            "locks": lambda: held.measure(runs=3, operations=20) if short else held.measure(),
            # Growth takes all of the messages: of fewer, the window has not forgotten the first yet.
            "memory": lambda: memory.daemon_memory(forgetful, messages=0 if short else memory.MESSAGES),
            "peers": peers.measure,
        }


def say(*words: str) -> None:
    """Tell how far it is, on stderr."""
    print(*words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
