"""Logins of nodes: one can be added or revoked without a change for the others, and nothing replaces them silently."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from remaphore.config.settings import Auth
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.setup import make_streams
from remaphore.embedded.broker import Broker
from remaphore.embedded.logins import MAX_NAME_BYTES, Logins
from remaphore.errors import BrokerRefusedError, ConfigError, CoordinationUnavailableError, SubjectDeniedError
from remaphore.transport.nats_client import NatsBus
from tests.harness.nats_server import connected
from tests.harness.waiting import until

NOW = int(time.time()) - 10


def logins(folder: Path, subject: str = "remaphore") -> Logins:
    return Logins(folder, subject=subject)


def connecting(broker: Broker, file: Path) -> AbstractAsyncContextManager[NatsBus]:
    return connected(broker.url, auth=Auth(kind="credentials", file=file))


async def test_a_node_is_added_and_one_revoked_while_the_others_stay_connected(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    one, two = logins(folder).add(["one", "two"], now=NOW)
    assert (one, two) == (folder / "creds" / "one.creds", folder / "creds" / "two.creds")
    async with Broker(folder) as broker, connecting(broker, one) as first:
        assert broker.credentials == folder / "creds"
        config = (folder / "nats-server.conf").read_text()
        (three,) = logins(folder).add(["one", "three"], now=NOW)
        async with connecting(broker, three) as third:  # no reload, no restart
            await third.publish("remaphore.all", b"x")
        async with connecting(broker, two) as second:
            before = two.read_text()
            logins(folder).revoke(["two"], now=NOW)
            await broker.reload()
            assert (folder / "nats-server.conf").read_text() != config
            await until(lambda: not second.connected)
        assert not two.exists()
        two.write_text(before)
        two.chmod(0o600)
        with pytest.raises(BrokerRefusedError, match=r"(?i)revoked|authorization"):
            async with connecting(broker, two):
                pass
        two.unlink()
        logins(folder).add(["two"], now=NOW)
        async with connecting(broker, two) as again, connecting(broker, three) as third:
            await again.publish("remaphore.all", b"x")
            await third.publish("remaphore.all", b"x")
        await first.publish("remaphore.all", b"x")
        assert first.reconnects == 0


async def test_the_login_of_a_node_may_use_its_subject_and_nothing_else(tmp_path: Path) -> None:
    (file,) = logins(tmp_path / "b").add(["one"], now=NOW)
    async with Broker(tmp_path / "b") as broker, connecting(broker, file) as bus:
        await bus.subscribe("remaphore.all", lambda _data: None)
        for subject in ("remaphore", "remaphorex.all", "_INBOX.x", "$JS.API.INFO", "$SYS.REQ.SERVER.PING"):
            with pytest.raises(SubjectDeniedError):
                await bus.publish(subject, b"x")
        for wider in (">", "*.all"):
            with pytest.raises(SubjectDeniedError):
                await bus.subscribe(wider, lambda _data: None)


def test_what_a_server_needs_contains_no_key_that_signs_logins(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    logins(folder).add(["one"], now=NOW)
    seeds = {
        path.name: [seed[:2] for seed in re.findall(r"\bS[AOU][A-Z2-7]{56}\b", path.read_text())]
        for path in (*folder.glob("*.*"), *folder.glob("creds/*"))
        if path.is_file()
    }
    users = {"one.creds": ["SU"], "admin.creds": ["SU"]}
    assert seeds == {"login.json": [], "signing-keys.json": ["SO", "SA"], **users}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE((folder / "creds").stat().st_mode) == 0o700


async def test_another_server_needs_only_the_public_part(tmp_path: Path) -> None:
    (file,) = logins(tmp_path / "one").add(["node"], now=NOW)
    (tmp_path / "two").mkdir(mode=0o700)
    (tmp_path / "two" / "login.json").write_text((tmp_path / "one" / "login.json").read_text())
    async with Broker(tmp_path / "two") as broker, connecting(broker, file) as bus:
        await bus.publish("remaphore.all", b"x")
    assert not (tmp_path / "two" / "remaphore.creds").exists()
    with pytest.raises(ConfigError, match="without keeping the signing keys") as caught:
        logins(tmp_path / "two").add(["other"], now=NOW)
    assert caught.value.hint


async def test_a_site_keeps_the_shared_login_that_it_began_with_also_without_its_file(tmp_path: Path) -> None:
    async with Broker(tmp_path / "b") as broker:
        broker.credentials.rename(tmp_path / "moved")
    stored = logins(tmp_path / "b").server_config(now=NOW, create=False)
    assert stored in (tmp_path / "b" / "nats-server.conf").read_text()
    with pytest.raises(ConfigError, match="made without keeping the signing keys"):
        logins(tmp_path / "b").add(["one"], now=NOW)


async def test_a_node_may_use_the_streams_and_only_the_administrator_make_them(tmp_path: Path) -> None:
    (node,) = logins(tmp_path / "b").add(["one"], now=NOW)
    async with Broker(tmp_path / "b") as broker:
        async with connecting(broker, node) as bus:
            js = JetStream(bus, "remaphore")
            with pytest.raises(CoordinationUnavailableError, match="no stream remaphore-coord"):
                await js.check()
            for name in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT"):
                with pytest.raises(CoordinationUnavailableError, match="no permission for publish"):
                    await js.api(f"STREAM.{name}.remaphore-coord", {})
        async with connecting(broker, logins(tmp_path / "b").administrator) as bus:
            for subject in ("remaphore.all", "remaphore.coord.lock.a.0", "remaphore.inbox.x", "$SYS.REQ.SERVER.PING"):
                with pytest.raises(SubjectDeniedError):
                    await bus.publish(subject, b"")
            with pytest.raises(SubjectDeniedError):
                await bus.subscribe("remaphore.all", lambda _data: None)
            await make_streams(JetStream(bus, "remaphore"), "remaphore", replicas=1)
        async with connecting(broker, node) as bus:
            js = JetStream(bus, "remaphore")
            await js.check()
            token = await js.publish("remaphore.coord.lock.a.0", b"x", after=0)
            assert await js.last("remaphore.coord.lock.a.0") == await js.at(token)
            assert len(await js.history("remaphore.coord.lock.a.0")) == 1
            for subject in ("remaphore.inbox.x.y", "remaphore.happened.lock.a.0"):  # the broker's words
                with pytest.raises(SubjectDeniedError):
                    await bus.publish(subject, b"")


async def test_a_lost_login_of_the_administrator_is_replaced_and_revoked(tmp_path: Path) -> None:
    administrator = logins(tmp_path / "b").administrator
    logins(tmp_path / "b").add(["one"], now=NOW)
    lost = administrator.rename(tmp_path / "lost.creds")
    async with Broker(tmp_path / "b") as broker:
        async with connecting(broker, lost) as bus:
            assert logins(tmp_path / "b").add(["one"], now=NOW) == []
            await broker.reload()
            await until(lambda: not bus.connected)
        async with connecting(broker, administrator):
            pass


@pytest.mark.parametrize("per_node", [True, False])
@pytest.mark.parametrize("version", [None, 1, 3])
def test_logins_of_another_version_are_an_error_with_a_hint(
    version: int | None, per_node: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    if per_node:
        logins(folder).add(["one"], now=NOW)
    else:
        folder.mkdir(mode=0o700)
        logins(folder).server_config(now=NOW, create=True)
    for path in folder.glob("*.json"):
        stored = {**json.loads(path.read_text()), "version": version}
        path.write_text(json.dumps({name: value for name, value in stored.items() if value is not None}))
    before = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    for use in (
        lambda: logins(folder).server_config(now=NOW, create=True),
        lambda: logins(folder).server_config(now=NOW, create=False),
        lambda: (
            logins(folder).add(["two"], now=NOW) if per_node else logins(folder).server_config(now=NOW, create=True)
        ),
        lambda: logins(folder).revoke(["one"], now=NOW) if per_node else logins(folder).credentials,
    ):
        with pytest.raises(ConfigError, match=f"logins of version {version or 1}, this remaphore needs") as caught:
            use()
        assert "--data" in caught.value.hint
    assert {path: path.read_text() for path in folder.rglob("*") if path.is_file()} == before


def test_what_exists_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    logins(folder).add(["one"], now=NOW)
    before = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert logins(folder).add(["one", "one"], now=NOW + 5) == []
    assert {path: path.read_text() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("file", ["login.json", "signing-keys.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"operator": "SOAAA", "account": 1}', None])
async def test_damaged_logins_of_nodes_are_an_error_and_never_replaced(
    file: str, text: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    (creds,) = logins(folder).add(["one"], now=NOW)
    path = folder / file
    path.write_text(text) if text is not None else path.rename(folder / "away")
    before = {each: each.read_text() for each in folder.rglob("*") if each.is_file()}
    asked = logins(folder)
    if file == "login.json" and text is None:  # made again from the keys
        asked.add(["two"], now=NOW)
        assert asked.server_config(now=NOW, create=True).startswith("operator: ")
        return
    for action in (
        lambda: asked.server_config(now=NOW, create=True) if file == "login.json" else asked.add(["two"], now=NOW),
        lambda: asked.revoke(["one"], now=NOW) if file != "login.json" else asked.server_config(now=NOW, create=False),
    ):
        with pytest.raises(ConfigError) as caught:
            action()
        assert caught.value.hint
    assert {each: each.read_text() for each in folder.rglob("*") if each.is_file()} == before
    assert creds.exists()


def test_logins_for_another_subject_are_an_error(tmp_path: Path) -> None:
    logins(tmp_path / "b").add(["one"], now=NOW)
    other = logins(tmp_path / "b", "other")
    with pytest.raises(ConfigError, match="for the subject 'remaphore', not 'other'"):
        other.add(["two"], now=NOW)
    with pytest.raises(ConfigError, match="for the subject 'remaphore', not 'other'"):
        other.server_config(now=NOW, create=True)


def test_a_broker_without_logins_for_a_site_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no logins") as caught:
        logins(tmp_path / "a b").server_config(now=NOW, create=False)
    assert f"remaphore broker --data '{tmp_path}/a b' --creds" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/x", "-x", ".x", "_x", "a b", "a\n", "a\0", "a\u200bb", "x" * 201]
)
def test_a_name_that_is_no_file_name_creates_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a name for a login") as caught:
        logins(tmp_path / "b").add(["good", name], now=NOW)
    assert caught.value.hint
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["web1", "com.example.us.left", "zürich", "1", "x" * MAX_NAME_BYTES, "a_b-c"])
def test_a_name_may_be_a_destination(name: str, tmp_path: Path) -> None:
    (path,) = logins(tmp_path / "b").add([name], now=NOW)
    assert path.name == f"{name}.creds"


def test_a_name_that_is_not_known_revokes_nothing(tmp_path: Path) -> None:
    logins(tmp_path / "b").add(["one"], now=NOW)
    before = (tmp_path / "b" / "login.json").read_text()
    with pytest.raises(ConfigError, match="no login with the name 'two'") as caught:
        logins(tmp_path / "b").revoke(["one", "two"], now=NOW)
    assert "known: one" in caught.value.hint
    assert (tmp_path / "b" / "login.json").read_text() == before


def test_each_login_that_a_name_ever_had_is_revoked(tmp_path: Path) -> None:
    (file,) = logins(tmp_path / "b").add(["one"], now=NOW)
    file.unlink()  # copied to its node, and lost there
    logins(tmp_path / "b").add(["one"], now=NOW)
    logins(tmp_path / "b").revoke(["one", "one"], now=NOW)
    keys = logins(tmp_path / "b")._read_keys(now=NOW)
    assert (len(keys.revoked), keys.users) == (2, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_the_directory_of_another_user_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir(mode=0o700)
    os.chown(tmp_path / "b", 12345, 12345)
    with pytest.raises(ConfigError, match="owned by user id 12345") as caught:
        logins(tmp_path / "b").add(["one"], now=NOW)
    assert "as its owner" in caught.value.hint
