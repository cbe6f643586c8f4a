"""The demonstration: a broker, a sender and three receivers on this machine, with the commands a user would type.

It runs the installed command as a user would, waits for what a user would wait for, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remaphore.errors import RemaphoreError
from remaphore.protocol.keys import PrivateKey

LIMIT_SECONDS = 60.0  # for all of it, on a machine that is busy with other things
NODES = {
    "uploader": "com.example.uploader",
    "left": "com.example.us.left",
    "right": "com.example.us.right",
    "tokyo": "com.example.jp.tokyo",
}
RECEIVERS = ("left", "right", "tokyo")
SCRIPTS = {
    "left": "echo all is well",
    "right": "echo disk 41% used; echo load 0.12",
    "tokyo": "echo no space left on device; exit 1",
}


def show() -> None:
    """Run the demonstration. Raises RemaphoreError if anything in it does not end as it should."""
    folder = Path(tempfile.mkdtemp(prefix="remaphore-demo-"))
    try:
        asyncio.run(_show(folder))
    finally:
        shutil.rmtree(folder)


async def _show(folder: Path) -> None:
    try:
        async with asyncio.timeout(LIMIT_SECONDS), _broker(folder) as lines:
            _write_nodes(folder, lines)
            await _semaphore(folder)
            await _request(folder)
    except TimeoutError:
        raise RemaphoreError(f"the demonstration did not end within {LIMIT_SECONDS:.0f} s") from None
    _tell("That was all. Broker, keys and files are gone again.")


@asynccontextmanager
async def _broker(folder: Path) -> AsyncIterator[list[str]]:
    _tell("A broker for this machine alone, with real authentication:")
    async with _background(folder, "remaphore broker --data broker --port 0") as broker:
        lines = [(await _line(broker.stdout)) for _ in range(2)]
        for line in lines:
            _print(f"    {line}")
        yield lines


async def _semaphore(folder: Path) -> None:
    _tell("Three machines wait for a file. Each of these would go on with its download:")
    async with contextlib.AsyncExitStack() as stack:
        waiting = [
            await stack.enter_async_context(
                _background(folder, f'remaphore -c {name}.toml -u upload_done && echo "{name} goes on"')
            )
            for name in RECEIVERS
        ]
        for receiver in waiting:
            await _until_ready(receiver)
        _tell("The uploader has finished, and says so:")
        await _foreground(folder, "remaphore -c uploader.toml -s -u upload_done")
        for receiver in waiting:
            _print(await _line(receiver.stdout))
            if await receiver.wait() != 0:
                raise RemaphoreError("a waiter was not released")


async def _request(folder: Path) -> None:
    for name, script in SCRIPTS.items():
        path = folder / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
    _tell("Now each runs a script for the verb `status`:")
    async with contextlib.AsyncExitStack() as stack:
        for name in RECEIVERS:
            _print(f"$ cat {name}.sh\n    {SCRIPTS[name]}")
            command = f"remaphore -c {name}.toml -v status ./{name}.sh"
            await _until_ready(await stack.enter_async_context(_background(folder, command)))
        _tell("One asks, three answer; destination, exit code and output of each, several lines in a frame:")
        await _foreground(folder, "remaphore -c uploader.toml -r -v status -t 20s")


def _write_nodes(folder: Path, broker_lines: list[str]) -> None:
    server, credentials = (line.partition(": ")[2] for line in broker_lines)
    keys = {name: PrivateKey.generate() for name in NODES}
    for name, key in keys.items():
        secret = folder / f"{name}.key"
        secret.touch(mode=0o600)
        secret.write_text(key.reveal() + "\n")
        peers = [other for other in NODES if other != name]
        (folder / f"{name}.toml").write_text(
            f'destination = "{NODES[name]}"\nservers = ["{server}"]\ncredentials = "{credentials}"\n\n'
            f'[[identities]]\nkey = "{key.public}"\nprivate_key_file = "{name}.key"\nverbs = ["ping", "status"]\n'
            + "".join(
                f'\n[[peers]]\ndestination = "{NODES[peer]}"\nkey = "{keys[peer].public}"\nverbs = ["ping", "status"]\n'
                for peer in peers
            )
        )
    _tell(f"Four nodes, each with its key, and the public keys of the others: {', '.join(NODES)}")
    _print("$ cat left.toml")
    _print(textwrap.indent("".join((folder / "left.toml").read_text().splitlines(keepends=True)[:14]) + "...", "    "))


@asynccontextmanager
async def _background(folder: Path, command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    _print(f"$ {command} &")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *_shell(command), cwd=folder, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()


async def _foreground(folder: Path, command: str) -> None:
    _print(f"$ {command}")
    process = await asyncio.create_subprocess_exec(*_shell(command), cwd=folder)
    if await process.wait() != 0:
        raise RemaphoreError(f"`{command}` ended with {process.returncode}")


def _shell(command: str) -> list[str]:
    # The line runs as it is shown, also where the command is not on the PATH.
    return ["sh", "-c", f'remaphore() {{ "$0" -m remaphore "$@"; }}; {command}', sys.executable]


async def _until_ready(process: asyncio.subprocess.Process) -> None:
    seen: list[str] = []
    while not seen or "Ready" not in seen[-1]:
        seen.append(await _line(process.stderr))
        if not seen[-1]:
            raise RemaphoreError(f"a receiver ended before it was ready: {' '.join(seen)}")


async def _line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None  # made with PIPE
    return (await stream.readline()).decode().rstrip("\n")


def _tell(text: str) -> None:
    _print(f"\n# {text}")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
