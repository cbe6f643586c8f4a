"""The first connection: a broker that is not there yet is waited for, one that rejects us ends it at once, by name."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from remaphore.config.settings import Auth
from remaphore.embedded.broker import Broker
from remaphore.errors import BrokerRefusedError, BrokerUnavailableError
from remaphore.transport import dialer, nats_connection, outage
from remaphore.transport.nats_client import NatsBus
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.nats_server import NO_LOGIN, NatsServer, Realm, connected, open_sockets, running
from tests.harness.node_files import write_private
from tests.harness.waiting import until

PASSWORD = "authorization { user: joe, password: right }"
PATIENCE = 30.0  # seconds; a rejection takes milliseconds, its retries would take for ever


@pytest.fixture
def dead() -> str:
    """The address of a port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"nats://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up a silent server sooner."""
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT", 0.2)


async def rejection(*servers: str, auth: Auth = NO_LOGIN) -> BrokerRefusedError:
    """Connect without a limit; return the error, which must come at once."""
    with pytest.raises(BrokerRefusedError) as caught:
        async with asyncio.timeout(PATIENCE), connected(*servers, auth=auth, limit=None):
            pass
    assert "\n" not in str(caught.value)
    return caught.value


async def unavailable(*servers: str, limit: float = 0.6) -> BrokerUnavailableError:
    """Connect with a short limit; return the error, which must come at the limit."""
    started = time.monotonic()
    with pytest.raises(BrokerUnavailableError) as caught:
        async with asyncio.timeout(PATIENCE), connected(*servers, limit=limit):
            pass
    assert time.monotonic() - started >= limit
    return caught.value


async def test_a_broker_that_is_not_there_is_tried_until_the_limit(dead: str) -> None:
    assert str(await unavailable(dead)) == f"no broker within 0.6 s: {dead}: connection refused"


async def test_any_server_of_the_list_will_do(dead: str, server: NatsServer, quick: None) -> None:
    async with fake_server(FakeServer(greeting=None)) as silent, running(server.folder / "no", PASSWORD) as refusing:
        for _ in range(5):  # in random order
            async with connected(dead, silent.url, refusing, server) as bus:
                assert bus.connected


async def test_a_broker_that_comes_up_later_is_found(dead: str, tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.port = int(dead.rpartition(":")[2])
    waiting = asyncio.get_running_loop().create_task(
        NatsBus.connect([dead], auth=NO_LOGIN, on_notice=lambda _line: None)
    )
    await asyncio.sleep(0)
    await server.start()
    bus = await waiting
    await bus.close()
    await server.stop()
    assert bus.reconnects == 0


async def test_a_silent_server_is_not_waited_for_for_ever(quick: None) -> None:
    async with fake_server(FakeServer(greeting=None)) as silent:
        assert "no answer within 0.2 s" in str(await unavailable(silent.url))


@pytest.mark.parametrize(
    ("fake", "cause"),
    [
        (FakeServer(greeting=b""), "connection closed, or not a NATS server"),
        (FakeServer(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not a NATS server"),
        (FakeServer(greeting=b"INFO {nonsense\r\n"), "json parse error"),
        (FakeServer(greeting=b"INFO []\r\n"), "unexpected data from the server"),
        (FakeServer(close_after="PING", answers={}), "closed during the login"),
        (FakeServer(answers={"PING": b"-ERR 'maximum connections exceeded'\r\n"}), "maximum connections exceeded"),
    ],
    ids=["closes", "HTTP", "no JSON", "no object", "closes at CONNECT", "full"],
)
async def test_a_server_that_may_recover_is_tried_again(fake: FakeServer, cause: str) -> None:
    async with fake_server(fake):
        assert cause in str(await unavailable(fake.url))
    assert fake.connections > 1


async def test_a_server_that_has_too_many_connections_is_quoted(tmp_path: Path) -> None:
    async with running(tmp_path, "max_connections: 1") as full, connected(full):
        # The server closes the connection right after it has said so, and the login may be written before that is read.
        for _ in range(3):
            assert "maximum connections exceeded" in str(await unavailable(full.url))


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1", "unsupported scheme http://"),
        ("nats://127.0.0.1:99999", "not an address"),
    ],
)
async def test_an_address_that_cannot_be_is_refused_at_once(url: str, cause: str) -> None:
    error = await rejection(url)
    assert url in str(error)
    assert cause in str(error)
    assert error.hint == "write nats://HOST:PORT or tls://HOST:PORT"


async def test_a_wrong_password_is_refused_at_once(tmp_path: Path) -> None:
    file = write_private(tmp_path / "password", "wrong")
    async with running(tmp_path, PASSWORD) as server:
        error = await rejection(server.url, auth=Auth(kind="password", user="joe", file=file))
    assert "Authorization Violation" in str(error)
    assert str(file) in str(error)
    assert error.hint == f"check whether the login ({file}) is wrong, expired or revoked"


async def test_each_kind_of_login_is_accepted(tmp_path: Path) -> None:
    from remaphore.protocol.keys import NatsKey

    user = NatsKey("user")
    kinds = {"password": "right", "token": "t0ken", "nkey": user.seed}
    configs = {"password": PASSWORD, "token": "authorization { token: t0ken }"}
    configs["nkey"] = f"authorization {{ users: [ {{ nkey: {user.public} }} ] }}"
    for kind, secret in kinds.items():
        file = write_private(tmp_path / kind, f"{secret}\n")
        auth = Auth(kind=kind, user="joe", file=file)  # type: ignore[arg-type]
        async with running(tmp_path / f"{kind}-server", configs[kind]) as server, connected(server, auth=auth) as bus:
            assert bus.connected


async def test_a_login_in_the_address_is_used_and_not_shown(tmp_path: Path) -> None:
    async with running(tmp_path, PASSWORD) as server:
        async with connected(server.url.replace("//", "//joe:right@")) as bus:
            assert bus.connected
        assert "wrong@" not in str(await rejection(server.url.replace("//", "//joe:wrong@")))


async def test_no_login_where_one_is_needed_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, PASSWORD) as server:
        assert 'the login (auth = "none")' in (await rejection(server.url)).hint


async def test_a_foreign_or_an_expired_login_is_refused_at_once(broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "x.creds"
    Realm().write_login(file)
    assert "Authorization Violation" in str(await rejection(broker.url, auth=Auth(kind="credentials", file=file)))
    realm = Realm()
    realm.write_login(file, expires=int(time.time()) - 1)
    async with running(tmp_path / "server", realm.server_config()) as server:
        assert "Authorization Violation" in str(await rejection(server.url, auth=Auth(kind="credentials", file=file)))


@pytest.mark.parametrize("text", [None, "", "garbage", "-----BEGIN USER NKEY SEED-----\nSUAX\n"])
async def test_a_creds_file_that_cannot_be_used_is_refused_by_name_and_never_hangs(
    text: str | None, broker: Broker, tmp_path: Path
) -> None:
    file = tmp_path / "x.creds"
    if text is not None:
        write_private(file, text)
    assert str(file) in str(await rejection(broker.url, auth=Auth(kind="credentials", file=file)))


async def test_a_creds_file_with_crlf_is_accepted_by_the_server(broker: Broker, tmp_path: Path) -> None:
    file = write_private(tmp_path / "dos.creds", broker.credentials.read_text().replace("\n", "\r\n"))
    async with connected(broker.url, auth=Auth(kind="credentials", file=file)) as bus:
        await bus.publish("remaphore.all", b"")


async def test_a_refusing_and_a_dead_server_are_tried_on_and_both_named_at_the_end(dead: str, tmp_path: Path) -> None:
    async with running(tmp_path, PASSWORD) as refusing:
        error = await unavailable(refusing.url, dead)
        assert f"{refusing.url}: Authorization Violation" in str(error)
        assert f"{dead}: connection refused" in str(error)
        # The hint is that of the one server that has one; the cause of the other is not in it.
        assert error.hint == f'{refusing.url}: check whether the login (auth = "none") is wrong, expired or revoked'


async def test_a_hint_that_all_servers_share_is_given_once(tmp_path: Path) -> None:
    file = write_private(tmp_path / "x.creds", "garbage")
    error = await rejection("nats://a.invalid", "nats://b.invalid", auth=Auth(kind="credentials", file=file))
    assert str(error).startswith("no connection: nats://")
    assert str(error).endswith(f"{file}: not a credentials file: no line BEGIN NATS USER JWT")
    assert error.hint == "get a new credentials file from the broker's administrator"


async def test_after_a_second_without_a_broker_one_line_reports_it(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outage.NOTICE_AFTER == 1.0
    assert outage.NOTICE_AGAIN == 30.0
    monkeypatch.setattr(outage, "NOTICE_AFTER", 0.3)
    notices: list[str] = []
    with pytest.raises(BrokerUnavailableError):
        async with connected(dead, limit=0.2, notices=notices):
            pass
    assert notices == []
    with pytest.raises(BrokerUnavailableError):
        async with connected(dead, limit=0.9, notices=notices):
            pass
    assert notices == [f"no broker yet: {dead}: connection refused; still trying"]


async def test_nothing_is_left_of_an_attempt_that_failed_or_was_cancelled(dead: str, tmp_path: Path) -> None:
    before = open_sockets()
    async with fake_server(FakeServer(greeting=None)) as silent, running(tmp_path, PASSWORD) as refusing:
        await rejection(refusing.url)
        await unavailable(silent.url, dead, limit=0.1)
        attempt = asyncio.get_running_loop().create_task(unavailable(silent.url, limit=60))
        await until(lambda: silent.connections == 2)
        attempt.cancel()
        await asyncio.wait({attempt})
        assert attempt.cancelled()
    await until(lambda: open_sockets() <= before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_while_the_other_attempts_are_ended_closes_the_connection_that_was_made(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = asyncio.Event()

    async def end_slowly(*_attempts: object) -> None:
        ending.set()
        await asyncio.sleep(0.2)

    monkeypatch.setattr(dialer, "_abandon", end_slowly)
    before = open_sockets()
    bus = NatsBus.start([server.url], auth=NO_LOGIN, on_notice=lambda _line: None)
    await ending.wait()
    await bus.close()
    await until(lambda: open_sockets() <= before)


async def test_a_bus_that_connects_in_the_background_carries_out_what_waited_for_it(server: NatsServer) -> None:
    received: list[bytes] = []
    bus = NatsBus.start([server.url], auth=NO_LOGIN, on_notice=lambda _line: None)
    assert not bus.connected
    await bus.subscribe("remaphore.all", received.append)
    await bus.publish("remaphore.all", b"x")
    await until(lambda: received == [b"x"])
    await bus.close()


async def test_a_bus_that_was_rejected_in_the_background_gives_the_reason_to_later_callers_too(
    dead: str, tmp_path: Path
) -> None:
    missing = Auth(kind="credentials", file=tmp_path / "missing.creds")
    bus = NatsBus.start([dead], auth=missing, on_notice=lambda _line: None)
    for _ in range(2):  # before it was rejected, and after
        with pytest.raises(BrokerRefusedError, match=r"missing\.creds"):
            await bus.subscribe("remaphore.all", lambda _data: None)
    await bus.close()
