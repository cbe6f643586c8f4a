"""What the configuration and the broker's administrator change: lists of servers, logins, permissions, limits."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import sys
import time
from pathlib import Path

import pytest

from remaphore.tasks import spawn
from remaphore.transport import nats_connection
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import ask, in_touch, meet, metrics, said
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.names import another_address, can_replace_hosts, with_hosts
from tests.harness.nats_server import CA_FILE, TLS_FILES, NatsServer, Realm, connected, running, serving
from tests.harness.node_files import write_private
from tests.harness.processes import Process
from tests.harness.waiting import until

USERS = """
authorization {{ users = [
  {{ user: daemon, password: a, permissions: {{ publish: "{publish}", subscribe: "{subscribe}" }} }}
  {{ user: requester, password: b }}
] }}
"""


def users(*, publish: str = "remaphore.>", subscribe: str = "remaphore.>") -> str:
    """Return the configuration of a server that permits the daemon these subjects."""
    return USERS.format(publish=publish, subscribe=subscribe)


PERMITTED = users()


async def test_a_list_with_dead_silent_refusing_and_good_servers_works_in_every_order(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(random, "shuffle", lambda _servers: None)  # their order is the test's
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        async with (
            fake_server(FakeServer(greeting=None)) as silent,
            running(tmp_path / "rejecting", "authorization { user: joe, password: right }") as rejecting,
        ):
            urls = [f"nats://127.0.0.1:{dead.getsockname()[1]}", silent.url, rejecting.url, server.url]

            async def good(order: tuple[str, ...]) -> str:
                async with connected(*order) as bus:
                    assert bus._connection is not None
                    return bus._connection.server.url

            found = await asyncio.gather(*map(good, itertools.permutations(urls)))
    assert found == [server.url] * 24


needs_hosts = pytest.mark.skipif(not can_replace_hosts(), reason="needs root, and a mount namespace")


def with_names(folder: Path, hosts: str) -> tuple[Path, tuple[str, ...]]:
    """Return a file with *hosts*, and the words of the command that sees it as /etc/hosts."""
    file = folder / "hosts"
    file.write_text(hosts)
    return file, (*with_hosts(file, folder / "nsswitch.conf"), sys.executable, "-m", "remaphore")


@needs_hosts
async def test_a_broker_whose_name_does_not_exist_yet_is_waited_for(
    server: NatsServer, sites: MakeSite, tmp_path: Path
) -> None:
    hosts, command = with_names(tmp_path, "127.0.0.1 localhost\n")
    site = sites(f"nats://broker.internal:{server.port}")
    config = site.config()
    sender = Process(["send", "-c", config, "--timeout", "0.2s", "x"], command=command)
    daemon = Process(["run", "-c", config], command=command)
    receiver = Process(["receive", "--once", "-c", config], command=command)
    site.processes += [sender, daemon, receiver]
    code, _ = await asyncio.to_thread(sender.finish)
    assert code == 3
    assert "no broker within 0.2 s: nats://broker.internal" in sender.lines[0]
    assert sender.lines[-1].startswith("remaphore: hint: check the host name in servers")
    for waiting in (daemon, receiver):
        await said(waiting, "unknown host")
    with hosts.open("a") as file:
        file.write("127.0.0.1 broker.internal\n")
    await said(daemon, " ready")
    await said(receiver, "Ready")


@needs_hosts
@pytest.mark.parametrize("greeting", [b"", None], ids=["closes", "silent"])
async def test_another_program_on_the_first_address_of_localhost_does_not_hide_the_broker(
    greeting: bytes | None, server: NatsServer, sites: MakeSite, tmp_path: Path
) -> None:
    first = another_address()
    _, command = with_names(tmp_path, f"127.0.0.1 localhost\n{first} localhost\n")
    config = sites(f"nats://localhost:{server.port}").config()
    async with fake_server(FakeServer(greeting=greeting), host=first, port=server.port) as other:
        for _ in range(20):  # the order is random
            sender = Process(["send", "-c", config, "x"], command=command)
            assert await asyncio.to_thread(sender.finish) == (0, "")
            sender.end()
            if other.connections:
                break
    assert other.connections


async def test_a_command_over_tls_prints_nothing_but_its_result(sites: MakeSite, tmp_path: Path) -> None:
    tls = f'tls {{ cert_file: "{TLS_FILES}/server.pem", key_file: "{TLS_FILES}/server.key" }}'
    async with running(tmp_path / "server", tls) as server:
        site = sites(f"tls://localhost:{server.port}")
        config = site.config(extra=f'[tls]\nca_file = "{CA_FILE}"\n')
        for words in (["send", "x"], ["-s", "-v", "say", "x"], ["receive", "--timeout", "0.1s"]):
            command = Process([words[0], "-c", config, *words[1:]])
            site.processes.append(command)
            code, out = await asyncio.to_thread(command.finish)
            assert (code, out) == (1 if words[0] == "receive" else 0, "")
            assert [line for line in command.lines if "Ready" not in line] == []


def password(folder: Path, user: str, word: str) -> str:
    """Return the table of a login by password."""
    file = write_private(folder / f"{user}.password", word)
    return f'[auth]\nuser = "{user}"\npassword_file = "{file}"'


async def test_logins_that_expire_are_revoked_or_rotated_are_read_again(tmp_path: Path, sites: MakeSite) -> None:
    realm, file = Realm(), tmp_path / "x.creds"
    realm.write_login(file, expires=int(time.time()) + 3)
    async with serving(realm, tmp_path) as server:
        site = sites(server.url)
        site.login = f'credentials = "{file}"'
        # It has been let in by the time that the login expires, or not yet, on a busy machine.
        starting = spawn(site.daemon(site.counting("note"), quiet=1.0), name="starting")
        await until(lambda: site.processes and any("no broker yet" in line for line in site.processes[0].lines))
        expired, *_ = await said(site.processes[0], "no broker yet")
        assert server.url in expired  # and mostly "expired", but a client in its last second is let in, and closed
        user = realm.write_login(file)
        daemon = await starting
        await in_touch(daemon, 1)
        server.reload(realm.server_config(**{user: int(time.time())}))
        *_, revoked = await said(daemon, "no broker yet", times=2)
        assert "revoked" in revoked
        user = realm.write_login(file)
        await in_touch(daemon, 1)
        realm.write_login(file)  # rotated, which has no effect until the next connection
        server.config = realm.server_config(**{user: int(time.time())})
        await server.restart()
        async with site.requester() as node:
            await meet(node, "note")
        site.end()


async def test_a_daemon_whose_permission_is_withdrawn_says_so_and_comes_back_with_it(
    tmp_path: Path, sites: MakeSite
) -> None:
    async with running(tmp_path / "server", PERMITTED) as server:
        site = sites(server.url)
        site.login = password(tmp_path, "daemon", "a")
        daemon = await site.daemon(site.counting("note"))
        server.reload(users(subscribe="other.>"))
        await said(daemon, "no permission for subscription to remaphore.all")
        assert (await metrics(daemon))["remaphore_connected",] == 0
        server.reload(PERMITTED)
        await said(daemon, "connected to")
        site.login = password(tmp_path, "requester", "b")
        async with site.requester() as node:
            assert await ask(node, "note", "x") == (0, "")
        site.end()


async def test_a_reply_that_the_daemon_may_no_longer_publish_is_said_and_not_run_again(
    tmp_path: Path, sites: MakeSite
) -> None:
    async with running(tmp_path / "server", PERMITTED) as server:
        site = sites(server.url)
        site.login = password(tmp_path, "daemon", "a")
        daemon = await site.daemon(site.counting("note"))
        site.login = password(tmp_path, "requester", "b")
        async with site.requester() as node:
            await meet(node, "note")
            server.reload(users(publish="other.>"))
            await until(lambda: "Reloaded: authorization users" in server.log)
            assert await ask(node, "note", "x", timeout=2) is None
            (failed,) = await said(daemon, "reply_failed")
            assert "no permission for publish to remaphore." in failed
            server.reload(PERMITTED)
            await until(lambda: server.log.count("Reloaded: authorization users") == 2)
            assert await ask(node, "note", "y") == (0, "")
        site.end()
    assert site.started["x"] == site.started["y"] == 1


async def test_a_payload_limit_that_is_lowered_cuts_the_reply_and_not_the_daemon(
    server: NatsServer, sites: MakeSite
) -> None:
    site = sites(server.url)
    site.handler("long", "head -c 5000 /dev/zero | tr '\\0' x")
    await site.daemon()
    async with site.requester() as node:
        assert await ask(node, "long") == (0, "x" * 5000)
        server.reload("max_payload: 2000\n")
        await until(lambda: "max_payload = 2000" in server.log)
        for _ in range(2):
            answer = await ask(node, "long", timeout=20)
            assert answer is not None
            assert answer[0] == 0
            assert answer[1].endswith("remaphore: output cut to fit the broker's limit: 5000 bytes in all\n")


async def test_a_reply_beyond_the_limit_of_the_daemons_login_arrives_cut(tmp_path: Path, sites: MakeSite) -> None:
    realm = Realm()
    realm.write_login(tmp_path / "daemon.creds", payload=1000)
    realm.write_login(tmp_path / "requester.creds")
    async with serving(realm, tmp_path) as server:
        site = sites(server.url)
        site.login = f'credentials = "{tmp_path}/daemon.creds"'
        site.handler("long", "head -c 5000 /dev/zero | tr '\\0' x")
        await site.daemon()
        site.login = f'credentials = "{tmp_path}/requester.creds"'
        async with site.requester() as node:
            answer = await ask(node, "long", timeout=20)
        site.end()
        assert answer is not None
        assert answer[0] == 0
        assert answer[1].endswith("5000 bytes in all\n")
