"""One server with JetStream for all tests here; each test has a root of subjects, and so streams, of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.setup import make_streams
from remaphore.transport.nats_client import NatsBus
from tests.harness.nats_server import NatsServer, connected, running_jetstream

ROOTS = count()
Site = tuple[JetStream, NatsBus, str]


@pytest.fixture(autouse=True)
def state_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory below which nodes remember streams."""
    folder = tmp_path / "state"
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The server."""
    with running_jetstream(tmp_path_factory.mktemp("jetstream")) as server:
        yield server


@pytest.fixture
def streams_of(server: NatsServer) -> Callable[..., AbstractAsyncContextManager[Site]]:
    """What connects below a new root, and makes the streams there unless they are not to be *made*."""

    @asynccontextmanager
    async def connect(*, made: bool = True) -> AsyncIterator[Site]:
        root = f"root{next(ROOTS)}"
        async with connected(server) as bus:
            found = JetStream(bus, root)
            if made:
                await make_streams(found, root, replicas=1)
            yield found, bus, root

    return connect
