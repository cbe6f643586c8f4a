"""A program that runs a command under a guardian, as `remaphore lock` does; in place of a lease it reads orders.

    python guarded.py SECONDS GRACE COMMAND...

SECONDS: from now to the deadline. A line on the descriptor 3 is an order: `prolong SECONDS`, `end WHY`, `signal N`. The
descriptor 4 gets JSON: {"guardian": pid, "lock": pid},
then {"left": pids}, then {"exit_code": n, "why": text} or {"errno": n}.
"""

import json
import os
import sys

from remaphore.coordination import guardian

SECONDS, GRACE, *COMMAND = sys.argv[1:]
forked = guardian.fork(COMMAND)

import asyncio  # noqa: E402 - the guardian is forked before

from remaphore.coordination.command import GuardedCommand  # noqa: E402


def tell(**fields):
    os.write(4, json.dumps(fields).encode() + b"\n")


async def main():
    command = GuardedCommand(forked, grace=float(GRACE), left=lambda pids: tell(left=list(pids)))

    def obey():
        for line in os.read(3, 4096).decode().splitlines():
            what, _, value = line.partition(" ")
            if what == "prolong":
                command.prolong(guardian.boottime() + float(value))
            elif what == "end":
                command.end(value)
            else:
                command.signal(int(value))

    asyncio.get_running_loop().add_reader(3, obey)
    tell(guardian=forked.pid, lock=os.getpid())
    try:
        ending = await command.run({"TOKEN": "7"}, deadline=guardian.boottime() + float(SECONDS))
    except OSError as error:
        tell(errno=error.errno)
    else:
        tell(exit_code=ending.exit_code, why=ending.why)


asyncio.run(main())
