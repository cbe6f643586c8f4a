"""Where the time of `remaphore -s` goes, stage by stage: `python -m benchmarks.timeline`.

The same calls as the command's, in the same order, each timed in a fresh process; medians of RUNS of them.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks import limits, startup

RUNS = 30

# time.monotonic() is one clock for all processes of a machine.
_STAGES = """
import time
marks = [("interpreter", time.monotonic())]
def mark(name): marks.append((name, time.monotonic()))
import gc; gc.disable()
import asyncio; mark("import asyncio")
import remaphore.cli.main, remaphore.cli.legacy.flags, remaphore.cli.commands.send
import remaphore.config.search, remaphore.protocol.keys; mark("import the command, pure protocol, PyNaCl")
import sys; from remaphore.cli.configuration import load_config
options = remaphore.cli.legacy.flags.read(["-s", "-c", sys.argv[1], "-v", "note", "hello"])
config = load_config(options.config); config.identity().load(); mark("read arguments, configuration, key")
import nats; mark("import nats-py")
import remaphore.transport.nats_client; mark("import the transport")
async def main():
    async with remaphore.connect(config) as node:
        mark("connect with the creds file")
        await node.send("note", payload="hello"); mark("sign, publish, confirm")
    mark("close")
asyncio.run(main()); mark("end the event loop")
import json, os
os.write(1, json.dumps(marks).encode()); os._exit(0)
"""


def main() -> None:
    """Print the median milliseconds of each stage, and of a bare interpreter beside it."""
    stages: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="remaphore-bench-") as name, startup.prepared(Path(name)) as commands:
        for _ in range(RUNS):
            stages["L3, a bare interpreter, start to end"].append(limits.interpreter_seconds())
            for stage, seconds in _run(commands.config).items():
                stages[stage].append(seconds)
    for stage, values in stages.items():
        print(f"{statistics.median(values) * 1000:8.2f} ms  {stage}")


def _run(config: str) -> dict[str, float]:
    words = [sys.executable, "-c", _STAGES, config]
    reader, writer = os.pipe()
    begin = last = time.monotonic()
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    with os.fdopen(reader) as pipe:
        marks = json.loads(pipe.read())
    os.waitpid(pid, 0)
    end = time.monotonic()
    stages = {}
    for stage, at in [*marks, ("end of the process", end)]:
        stages[stage], last = at - last, at
    return {**stages, "all": end - begin}


if __name__ == "__main__":
    main()
