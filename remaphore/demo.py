"""The demonstration: a broker, a sender and three receivers on this machine, with the commands that a user would type.

It runs the installed command, waits for the output that a user would wait for, and deletes its files at the end.
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
from remaphore.tasks import run

LIMIT_SECONDS = 60.0  # for all of it, on a busy machine
NODES = {
    "uploader": "com.example.uploader",
    "left": "com.example.us.left",
    "right": "com.example.us.right",
    "tokyo": "com.example.jp.tokyo",
}
EXIT_FAILED = 5  # of `remaphore request`
REPORT = "run remaphore demo again, and report a bug if it fails again"
SCRIPTS = {
    "left": "echo all is well",
    "right": "echo disk 41% used; echo load 0.12",
    "tokyo": "echo no space left on device; exit 1",
}
RECEIVERS = tuple(SCRIPTS)


def show() -> None:
    """Run the demonstration. Raise RemaphoreError if one of its commands does not end as expected."""
    folder = Path(tempfile.mkdtemp(prefix="remaphore-demo-"))
    try:
        run(asyncio.wait_for(_show(folder), LIMIT_SECONDS), patient=True)
    except TimeoutError:
        raise RemaphoreError(f"the demonstration did not end within {LIMIT_SECONDS:.0f} s", hint=REPORT) from None
    finally:
        shutil.rmtree(folder)
    _comment("The demonstration is complete. The broker has been stopped, and all files have been deleted.")


async def _show(folder: Path) -> None:
    _comment("Start a broker for this machine only, with authentication:")
    async with _background(folder, "remaphore broker --data broker --port 0") as broker:
        lines = [(await _line(broker.stdout)) for _ in range(2)]
        if not all(lines):
            _, errors = await broker.communicate()
            error, _, hint = errors.decode().removeprefix("remaphore: error: ").partition("\nremaphore: hint: ")
            raise RemaphoreError(error.strip(), hint=hint.strip() or REPORT)
        for line in lines:
            _print(f"    {line}")
        _write_nodes(folder, lines)
        _comment("Three machines wait for a file; each continues when it receives the message:")
        async with contextlib.AsyncExitStack() as stack:
            waiting = []
            for name in RECEIVERS:
                command = f'remaphore receive -c {name}.toml --id upload_done && echo "{name} continues"'
                waiting.append(await stack.enter_async_context(_background(folder, command)))
            for receiver in waiting:
                await _until_ready(receiver)
            _comment("The uploader has finished, and sends the message:")
            await _foreground(folder, "remaphore send -c uploader.toml --id upload_done")
            for receiver in waiting:
                _print(await _line(receiver.stdout))
                if await receiver.wait() != 0:
                    raise RemaphoreError("a waiting command failed", hint=REPORT)
        _comment("Each machine now runs a script for every message with the verb `status`:")
        async with contextlib.AsyncExitStack() as stack:
            for name, script in SCRIPTS.items():
                path = folder / f"{name}.sh"
                path.write_text(f"#!/bin/sh\n{script}\n")  # run by sh: TMPDIR may be mounted noexec
                _print(f"$ cat {name}.sh\n    {script}")
                command = f"remaphore receive -c {name}.toml --verb status sh {name}.sh"
                await _until_ready(await stack.enter_async_context(_background(folder, command)))
            _comment("The uploader sends a request, and prints destination, exit code and output of each reply:")
            request = "remaphore request -c uploader.toml --to 'com.example.*.*' --verb status --timeout 20s"
            await _foreground(folder, request, expected=EXIT_FAILED)
            _comment("The exit code is 5, because tokyo failed: a command behind && would not run.")


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
    _comment(f"Configure four nodes ({', '.join(NODES)}), each with its private key and the public keys of the others:")
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


async def _foreground(folder: Path, command: str, *, expected: int = 0) -> None:
    _print(f"$ {command}")
    process = await asyncio.create_subprocess_exec(*_shell(command), cwd=folder)
    if await process.wait() != expected:
        raise RemaphoreError(f"`{command}` failed with exit code {process.returncode}", hint=REPORT)


def _shell(command: str) -> list[str]:
    # The line runs as it is shown, even if the command is not in the PATH.
    return ["sh", "-c", f'remaphore() {{ "$0" -m remaphore "$@"; }}; {command}', sys.executable]


async def _until_ready(process: asyncio.subprocess.Process) -> None:
    seen: list[str] = []
    while not seen or "ready" not in seen[-1].lower():
        seen.append(await _line(process.stderr))
        if not seen[-1]:
            raise RemaphoreError(f"a receiver ended before it was ready: {' '.join(seen)}", hint=REPORT)


async def _line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None  # made with PIPE
    return (await stream.readline()).decode().rstrip("\n")


def _comment(text: str) -> None:
    _print("\n" + textwrap.fill(text, width=80, initial_indent="# ", subsequent_indent="# "))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
