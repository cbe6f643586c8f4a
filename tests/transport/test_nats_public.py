"""With a nats-py whose private names are others, messages still arrive, and no login is sent in clear text."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from remaphore.config.settings import Auth, Tls
from remaphore.errors import BrokerRefusedError
from remaphore.transport import nats_connection, nats_reader, stream
from remaphore.transport.nats_reader import PRIVATE_ATTRIBUTES, PRIVATE_METHODS, missing_names
from tests.harness.fake_server import fake_server
from tests.harness.nats_server import CA_FILE, TLS_FILES, NatsServer, connected, running
from tests.harness.node_files import write_private
from tests.harness.waiting import until

OURS = Tls(ca_file=CA_FILE)
FIRST = Tls(ca_file=CA_FILE, handshake_first=True)
HANDSHAKE_FIRST = f"""
tls {{
  cert_file: "{TLS_FILES / "server.pem"}"
  key_file: "{TLS_FILES / "server.key"}"
  handshake_first: true
}}
"""
# Publishes and receives, and prints the messages after the notices.
PROGRAM = """
import asyncio, sys
from remaphore.config.settings import Auth
from remaphore.errors import RemaphoreError
from remaphore.transport.nats_client import NatsBus

async def main():
    got = asyncio.Queue()
    bus = await NatsBus.connect([sys.argv[1]], auth=Auth(kind="none"), limit=10, on_notice=print)
    await bus.subscribe("a.b", got.put_nowait)
    for number in range(3):
        await bus.publish("a.b", b"message %d" % number)
        print((await got.get()).decode())
    await bus.close()

try:
    asyncio.run(asyncio.wait_for(main(), 20))
except RemaphoreError as error:
    print(error, error.hint, sep="; ")
"""


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A nats-py without one of the names."""
    monkeypatch.setattr(nats_connection, "missing_names", lambda: ("_read_loop",))


def private_names(module: object) -> set[str]:
    """Return all attributes and methods in the source of *module* that begin with an underscore."""
    tree = ast.parse(Path(str(module.__file__)).read_text())  # type: ignore[attr-defined]
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
    return {name for name in names if re.match("_[a-z]", name)}


def test_each_private_name_that_is_used_is_in_the_list() -> None:
    private = {*dir(Client), *vars(Client())}
    assert private_names(nats_reader) & private == {*PRIVATE_METHODS, *PRIVATE_ATTRIBUTES}
    assert private_names(nats_connection) & private == set()
    transport = TcpTransport()  # type: ignore[no-untyped-call]
    assert private_names(stream) & {*dir(transport), *vars(transport)} == set()
    assert missing_names() == ()


@pytest.mark.parametrize("name", [*PRIVATE_METHODS, *PRIVATE_ATTRIBUTES])
def test_a_name_that_nats_py_no_longer_has_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in PRIVATE_METHODS:
        monkeypatch.delattr(Client, name)
    else:
        begin = Client.__init__

        def begin_otherwise(client: Client) -> None:
            begin(client)
            delattr(client, name)

        monkeypatch.setattr(Client, "__init__", begin_otherwise)
    assert missing_names.__wrapped__() == (name,)


def another_nats_py(folder: Path, pattern: str, replacement: str) -> str:
    """Copy nats-py to *folder*, with *pattern* replaced everywhere; return the folder for PYTHONPATH."""
    shutil.copytree(Path(str(nats.__file__)).parent, folder / "nats")
    for path in (folder / "nats").rglob("*.py"):
        path.write_text(re.sub(pattern, replacement, path.read_text()))
    return str(folder)


def run_with(path: str, server: NatsServer) -> list[str]:
    words = [sys.executable, "-c", PROGRAM, server.url]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


def test_where_nats_py_has_renamed_them_messages_arrive_and_a_notice_says_so(
    server: NatsServer, tmp_path: Path
) -> None:
    names = (*PRIVATE_METHODS, *PRIVATE_ATTRIBUTES)
    path = another_nats_py(tmp_path, rf"\b({'|'.join(names)})\b", r"\1_of_another_version")
    notice, *messages = run_with(path, server)
    assert messages == ["message 0", "message 1", "message 2"]
    assert f"has no {', '.join(names)}: receiving is slower" in notice
    assert "hint: install a version of nats-py" in notice


def test_where_nats_py_does_not_call_our_reader_that_is_an_error(server: NatsServer, tmp_path: Path) -> None:
    path = another_nats_py(tmp_path, r"create_task\(self\._read_loop\(\)\)", "create_task(asyncio.sleep(60))")
    (line,) = run_with(path, server)
    assert "does not start remaphore's reader; install a version of nats-py" in line


@pytest.mark.usefixtures("without")
async def test_without_them_a_login_is_sent_over_tls_or_not_at_all(tmp_path: Path) -> None:
    auth = Auth(kind="token", file=write_private(tmp_path / "token", "secret"))
    async with fake_server() as fake:
        for tls, address in ((OURS, fake.url), (None, fake.url.replace("nats", "tls"))):
            with pytest.raises(BrokerRefusedError, match="unless TLS comes before the server's first line"):
                async with connected(address, auth=auth, tls=tls):
                    pass
        assert fake.lines == []
    async with running(tmp_path / "secure", HANDSHAKE_FIRST) as server:
        got: list[bytes] = []
        async with connected(f"tls://localhost:{server.port}", tls=FIRST) as bus:
            await bus.subscribe("a", got.append)
            await bus.publish("a", b"x")
            await until(lambda: got == [b"x"])


@pytest.mark.usefixtures("without")
async def test_without_them_a_lost_connection_is_made_again_with_its_subscriptions(server: NatsServer) -> None:
    got: list[bytes] = []
    async with connected(server) as bus:
        await bus.subscribe("a", got.append)
        await server.stop()
        await until(lambda: not bus.connected)
        await server.start()
        await until(lambda: bus.connected)
        await bus.publish("a", b"after")
        await until(lambda: got == [b"after"])
