"""The metrics of the agent, which Prometheus fetches over HTTP: the text format 0.0.4, written here.

The daemon's plugin has prometheus_client, which needs 3 MiB and a thread. An agent loads no plugin, and its numbers are
few. No name of a user, a verb or a destination is among them: whoever can connect can read them.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from remaphore.agent import frames
from remaphore.errors import describe

# A connection lasts this long at most, and there are so many at a time: others are closed at once.
SCRAPE_SECONDS = 2.0
MAX_SCRAPES = 16
MAX_REQUEST_BYTES = 16 * 1024

# The labels of what was not understood, and of an operation that ended with the exit codes 0 and 1.
UNKNOWN = "unknown"
OK, NOTHING = "ok", "nothing"
_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_log = structlog.get_logger()


class OperationCounts:
    """The operations that have ended. A counter that appears with its first event shows no increase: so 0 is there."""

    def __init__(self) -> None:
        self._results: Counter[tuple[str, str]] = Counter()
        for operation in frames.OPERATIONS:
            self._results[operation, OK] = self._results[operation, "refused"] = 0
        for operation in (frames.REQUEST, frames.RECEIVE):
            self._results[operation, NOTHING] = 0
        self._results[frames.SEND, "BrokerUnavailableError"] = self._results[UNKNOWN, "busy"] = 0

    @property
    def total(self) -> int:
        """The number of all operations, also of those that were not done."""
        return self._results.total()

    def add(self, operation: str, exit_code: int, kind: str) -> None:
        """Count an operation. *kind*: that of the error, if the exit code is neither 0 nor 1."""
        self._results[operation, {0: OK, 1: NOTHING}.get(exit_code, kind)] += 1

    def samples(self) -> dict[str, float]:
        """Return the numbers by their labels."""
        return {
            f'{{operation="{operation}",result="{result}"}}': number
            for (operation, result), number in sorted(self._results.items())
        }


def build_info(release: str) -> dict[str, float]:
    """Return the sample that has the versions as its labels."""
    return {f'{{version="{release}",python="{platform.python_version()}"}}': 1}


def render(families: Mapping[str, tuple[str, float | Mapping[str, float]]]) -> bytes:
    """Return *families*, by their names without the prefix: the meaning, and the value or the values by labels."""
    lines = []
    for name, (meaning, values) in families.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP remaphore_{name} {meaning}", f"# TYPE remaphore_{name} {kind}"]
        labelled = values if isinstance(values, Mapping) else {"": values}
        lines += [f"remaphore_{name}{labels} {float(value)!r}" for labels, value in labelled.items()]
    return "\n".join([*lines, ""]).encode()


@asynccontextmanager
async def served(listen: str, collect: Callable[[], bytes]) -> AsyncIterator[None]:
    """Serve what *collect* returns on the address *listen* for the length of a block; nothing if it is empty.

    The agent works without it: that the address cannot be used is logged.
    """
    async with contextlib.AsyncExitStack() as stack:
        if listen:
            host, _, port = listen.rpartition(":")
            scrapes = _Scrapes(collect)
            try:
                server = await asyncio.start_server(
                    scrapes.answer, host.strip("[]"), int(port), limit=MAX_REQUEST_BYTES, reuse_port=False
                )
            except OSError as error:
                hint = "stop the process that uses it, or set another address in [agent] metrics, and restart"
                _log.error("metrics_failed", address=listen, error=describe(error), hint=hint)
            else:
                stack.callback(server.close)
                _log.info("metrics_served", url=f"http://{host}:{server.sockets[0].getsockname()[1]}/metrics")
        yield


class _Scrapes:
    def __init__(self, collect: Callable[[], bytes]) -> None:
        self._collect = collect
        self._open = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        self._open += 1
        try:
            if self._open <= MAX_SCRAPES:
                async with asyncio.timeout(SCRAPE_SECONDS):
                    method = (await reader.readuntil(b"\r\n\r\n")).partition(b" ")[0]
                    writer.write(self._response(method))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # nothing can be done about the client here
        finally:
            self._open -= 1
            writer.transport.abort()

    def _response(self, method: bytes) -> bytes:
        if method not in {b"GET", b"HEAD"}:
            return b"HTTP/1.0 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Length: 0\r\n\r\n"
        body = self._collect()
        head = f"HTTP/1.0 200 OK\r\nContent-Type: {_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + (body if method == b"GET" else b"")
