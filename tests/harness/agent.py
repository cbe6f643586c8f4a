"""The local agent, a client of it in this process, and one with the uid and groups of another user."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remaphore.agent import frames
from tests.harness.processes import SECONDS, Process

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start clients of other users")
ROOT_RULE = '[[agent.allow]]\nuser = "root"\ndo = ["send", "request", "receive"]\nverbs = ["*"]\nto = ["**"]\n'
# Without site and imports of ours, so that a client of another user costs a bare interpreter.
_CLIENT = """\
import os, socket, sys
path, data, uid, gid, groups = sys.argv[1], bytes.fromhex(sys.argv[2]), *map(eval, sys.argv[3:6])
os.setgroups(groups)
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
client = socket.socket(socket.AF_UNIX)
client.connect(path)
try:
    client.sendall(data)
except OSError:
    pass
answer = b""
while chunk := client.recv(65536):
    answer += chunk
sys.stdout.write(answer.hex())
"""
# What systemd does in the process that becomes the service.
_ACTIVATOR = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def listening() -> Iterator[tuple[str, socket.socket]]:
    """A listening socket as systemd makes it, and its path: every user can connect, and it outlives the agent."""
    with tempfile.TemporaryDirectory(prefix="agent") as folder, socket.socket(socket.AF_UNIX) as listener:
        Path(folder).chmod(0o755)
        path = f"{folder}/agent.sock"
        listener.bind(path)
        Path(path).chmod(0o666)
        listener.listen(128)
        yield path, listener


def start_agent(fleet, config, listener, *words, ready="Ready") -> Process:
    """Start the agent with the socket *listener*, as systemd does; it is ended with the other processes of *fleet*."""
    number = listener.fileno()
    command = (sys.executable, "-IS", "-c", _ACTIVATOR, str(number), sys.executable, "-m", "remaphore")
    process = Process(("agent", "--log-format", "json", "-c", config, *words), command=command, pass_fds=[number])
    fleet.processes.append(process)
    if ready:
        process.wait_for(ready)
    return process


@contextmanager
def running_agent(fleet, rules: str) -> Iterator[Process]:
    """An agent of node one with *rules*, and as its `path` that of its socket."""
    with listening() as (path, listener):
        process = start_agent(fleet, fleet.config("one", extra=rules), listener)
        process.path = path
        yield process


def encode_head(payload: bytes | None = None, /, **head: object) -> bytes:
    """Return the frames of a client: its head, and the payload if the operation has one."""
    head = {"v": frames.VERSION, **head}
    raw = frames.encode(frames.HEAD, json.dumps(head).encode())
    if payload is None and head.get("op") in frames.WITH_PAYLOAD:
        payload = b""
    return raw if payload is None else raw + frames.encode(frames.PAYLOAD, payload)


class Client:
    """A connection to the agent, from this process."""

    def __init__(self, path: str, payload: bytes | None = None, /, **head: object) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)  # with a timeout, a full backlog would be an error
        self.socket.settimeout(SECONDS)
        self._decoder = frames.Decoder(frames.FROM_AGENT)
        self._frames: list[tuple[bytes, bytes]] = []
        if head:
            self.socket.sendall(encode_head(payload, **head))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()

    def next(self) -> tuple[bytes, bytes]:
        """Return kind and body of the next frame; b"" for both at the end of the connection."""
        while not self._frames:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return b"", b""
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def until(self, kind: bytes) -> bytes:
        """Return the body of the next frame of this *kind*."""
        while True:
            found, body = self.next()
            if found == kind:
                return body
            assert found, f"the connection ended without a frame {kind!r}"

    def end(self) -> dict:
        """Return what the last frame says."""
        return frames.decode_end(self.until(frames.END))


def call(path: str, payload: bytes | None = None, /, **head: object) -> dict:
    """Return the end of an operation."""
    with Client(path, payload, **head) as client:
        return client.end()


def call_as(path: str, uid: int, payload: bytes | None = None, /, *, gid=None, groups=(), wrap=(), **head: object):
    """Return the end of an operation of user *uid*, in a process of its own. wrap: words before its command."""
    owner = (uid, uid if gid is None else gid, list(groups))
    words = [*wrap, sys.executable, "-IS", "-c", _CLIENT, path, encode_head(payload, **head).hex(), *map(repr, owner)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True)
    for kind, body in frames.Decoder(frames.FROM_AGENT).feed(bytes.fromhex(done.stdout)):
        if kind == frames.END:
            return frames.decode_end(body)
    raise AssertionError("the connection ended without an end")


def audit(process: Process) -> list[dict]:
    """Return the lines of the log about operations."""
    events = [json.loads(line) for line in process.lines if line.startswith("{")]
    return [each for each in events if each["event"] in {"operation_ended", "operation_refused", "refusals_suppressed"}]
