"""The embedded broker: for this host and subject only, the same login after a restart, and no leftover process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
import sys
from pathlib import Path

import pytest

from remaphore.config.settings import Auth
from remaphore.embedded import broker as broker_module
from remaphore.embedded.addresses import Address
from remaphore.embedded.broker import Broker, find_server
from remaphore.embedded.certificates import Certificate
from remaphore.embedded.logins import Logins
from remaphore.embedded.server_config import Settings
from remaphore.errors import BrokerRefusedError, ConfigError, SubjectDeniedError, TransportError
from remaphore.extras import install_hint
from tests.harness.nats_server import connected
from tests.harness.waiting import until


def login(broker: Broker) -> Auth:
    return Auth(kind="credentials", file=broker.credentials)


def pid(broker: Broker) -> int:
    assert broker._process is not None
    return broker._process.pid


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def test_its_login_may_use_its_subject_and_nothing_else(broker: Broker) -> None:
    async with connected(broker.url, auth=login(broker)) as bus:
        await bus.subscribe("remaphore.all", lambda _data: None)
        await bus.publish("remaphore.all", b"x")
        for subject in (
            "remaphore",
            "remaphorex.all",
            "_INBOX.x",
            "$JS.API.INFO",
            "$SYS.REQ.SERVER.PING",
            "x.remaphore.y",
        ):
            with pytest.raises(SubjectDeniedError):
                await bus.publish(subject, b"x")
            with pytest.raises(SubjectDeniedError):
                await bus.subscribe(subject, lambda _data: None)
        for wider in (">", "*.all", "_INBOX.>"):
            with pytest.raises(SubjectDeniedError):
                await bus.subscribe(wider, lambda _data: None)


async def test_a_client_without_its_login_is_rejected(broker: Broker) -> None:
    with pytest.raises(BrokerRefusedError, match="Authorization Violation"):
        async with connected(broker.url):
            pass


def listening(process: int) -> list[str]:
    """Return the addresses, in the kernel's hexadecimal, on which *process* accepts TCP connections."""
    held = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held.add(str(entry.readlink()))
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [row.split() for table in tables for row in table]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held]


async def test_it_listens_on_loopback_only(broker: Broker) -> None:
    assert listening(pid(broker)) == ["0100007F"]


async def test_its_files_are_for_its_owner_alone(broker: Broker) -> None:
    folder = broker.credentials.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("remaphore.creds", "admin.creds", "login.json", "nats-server.conf"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


async def test_no_key_that_could_sign_another_login_is_kept(broker: Broker) -> None:
    text = "".join(file.read_text() for file in broker.credentials.parent.iterdir() if file.is_file())
    assert [seed[:2] for seed in re.findall(r"\bS[AOU][A-Z2-7]{56}\b", text)] == ["SU", "SU"]


async def test_the_login_outlives_a_restart(tmp_path: Path) -> None:
    async with Broker(tmp_path / "b") as first:
        text = first.credentials.read_text()
        port = int(first.url.rpartition(":")[2])
    async with Broker(tmp_path / "b", Settings(listen=Address(port=port))) as second:
        assert second.url == first.url
        assert second.credentials.read_text() == text
        async with connected(second.url, auth=login(second)) as bus:
            await bus.publish("remaphore.all", b"x")


@pytest.mark.parametrize("spoil", ["subject", "creds", "json", "form"])
async def test_a_login_that_does_not_match_is_replaced(spoil: str, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    async with Broker(folder) as first:
        text = first.credentials.read_text()
    subject = "other" if spoil == "subject" else "remaphore"
    if spoil == "creds":
        first.credentials.unlink()
    elif spoil in ("json", "form"):
        (folder / "login.json").write_text("{" if spoil == "json" else "[]")
    async with Broker(folder, subject=subject) as second:
        assert second.credentials.read_text() != text
        async with connected(second.url, auth=login(second)) as bus:
            await bus.publish(f"{subject}.all", b"x")


async def test_a_second_broker_in_its_directory_takes_nothing_from_it(broker: Broker) -> None:
    second = Broker(broker.credentials.parent)
    with pytest.raises(TransportError, match="a broker is running in this directory"):
        await second.start()
    await broker.reload()  # which reads its log


async def test_a_port_in_use_is_reported_in_the_servers_words(broker: Broker, tmp_path: Path) -> None:
    port = int(broker.url.rpartition(":")[2])
    second = Broker(tmp_path / "second", Settings(listen=Address(port=port)))
    with pytest.raises(TransportError, match=r"did not start: .*address already in use") as caught:
        await second.start()
    assert "\n" not in str(caught.value)
    assert "ss -ltnp" in caught.value.hint
    assert second._process is None


async def test_an_address_of_another_machine_is_reported_with_a_hint(tmp_path: Path) -> None:
    elsewhere = Settings(listen=Address("192.0.2.1", 0), clear_text=True)  # RFC 5737: of no machine
    logins = Logins(tmp_path / "zürich", subject="remaphore")
    logins.add(["one"], now=1)
    with pytest.raises(TransportError, match=r"did not start: .*cannot assign requested address") as caught:
        await Broker(tmp_path / "zürich", elsewhere).start()
    assert "ip address" in caught.value.hint


@pytest.mark.parametrize("text", ["bind: permission denied", "no such host"])
async def test_the_texts_of_the_server_have_hints(text: str, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker._log.write_text(f'[1] [FTL] Error listening on port: a:1, "listen tcp: {text}"\n[1] [INF] bye\n')
    error = broker._ended("nats-server did not start")
    assert text in str(error)
    assert error.hint in broker_module._HINTS.values()


@pytest.mark.parametrize(
    ("listen", "names", "url"),
    [
        ("10.0.0.1", ("a.b", "10.0.0.1"), "tls://10.0.0.1:1"),
        ("0.0.0.0", ("*.b", "a.b"), "tls://a.b:1"),
        ("0.0.0.0", ("*.b",), "tls://NAME.b:1"),
        ("a.b", ("*.b",), "tls://a.b:1"),
    ],
)
def test_the_url_has_a_name_of_the_certificate(listen: str, names: tuple[str, ...], url: str, tmp_path: Path) -> None:
    broker = Broker(tmp_path, Settings(listen=Address(listen, 1), clear_text=True))
    broker._certificate = Certificate(names, 0.0)
    assert broker._url(1) == url


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/b: not a safe place for the broker: .*/file: not a directory"):
        await Broker(tmp_path / "file" / "b").start()


async def test_stopping_leaves_no_process_and_may_be_repeated(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "b")
    await broker.start()
    process = pid(broker)
    await broker.stop()
    await broker.stop()
    assert not exists(process)
    assert list((tmp_path / "b").glob("*.ports")) == []


async def test_a_server_that_does_not_end_by_itself_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "STOP_LIMIT", 0.1)
    async with Broker(tmp_path / "b") as broker:
        process = pid(broker)
        os.kill(process, signal.SIGSTOP)
    assert not exists(process)


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "b")
    starting = asyncio.get_running_loop().create_task(broker.start())
    await until(lambda: broker._process is not None)
    process = pid(broker)
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    assert not exists(process)


def test_a_missing_server_is_named_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TransportError, match="nats-server is not installed") as caught:
        find_server()
    assert caught.value.hint == install_hint("embedded")


async def test_a_server_that_cannot_be_executed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "nats-server"
    server.touch(mode=0o700)
    server.write_text("no program")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(TransportError, match=r"nats-server cannot be started \(Exec format error\)"):
        await Broker(tmp_path / "b").start()


def test_the_server_beside_this_python_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "nats-server"
    server.touch(mode=0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_server() == server


@pytest.mark.parametrize("there", ["link", "link to the log", "contents of others", "parent writable by others"])
async def test_a_directory_that_is_no_broker_s_is_left_as_it_is(tmp_path: Path, there: str) -> None:
    folder, target = tmp_path / "parent" / "broker", tmp_path / "target"
    folder.parent.mkdir()
    target.mkdir()
    (target / "kept").write_text("kept")
    if there == "link":
        folder.symlink_to(target)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    if there == "link to the log":
        (folder / "login.json").write_text("")
        (folder / "nats-server.log").symlink_to(target / "kept")
    elif there == "contents of others":
        (folder / "passwd").touch()
    elif there == "parent writable by others":
        folder.parent.chmod(0o777)
    before = folder.stat().st_mode
    with pytest.raises(ConfigError) as caught:
        await Broker(folder).start()
    assert str(folder) in str(caught.value)
    assert caught.value.hint
    assert (folder.stat().st_mode, (target / "kept").read_text()) == (before, "kept")


async def test_its_files_replace_links_and_never_follow_them(tmp_path: Path) -> None:
    folder, kept = tmp_path / "broker", tmp_path / "kept"
    kept.write_text("kept")
    async with Broker(folder):
        pass
    for name in ("nats-server.log", "nats-server.conf"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(kept)
    async with Broker(folder):
        pass
    assert kept.read_text() == "kept"
