"""What the configuration and the broker's administrator change: lists of servers, logins, permissions, limits."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import time
from pathlib import Path

import pytest

from remaphore.tasks import spawn
from remaphore.transport import nats_connection
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import ask, in_touch, meet, metrics, said
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.nats_server import NatsServer, Realm, connected, running, serving
from tests.harness.node_files import write_private
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


async def test_of_several_servers_each_is_used_by_some_nodes(server: NatsServer, tmp_path: Path) -> None:
    async with running(tmp_path / "other") as other:

        async def used() -> str:
            async with connected(server.url, other.url) as bus:
                return bus.about["address"]

        found = {await used() for _ in range(30)}  # all the same: once in 500 million times
    assert found == {server.url, other.url}


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
