"""TLS is verified whenever it is used, and never given up where it was asked for."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from remaphore.config.settings import Auth, Tls
from remaphore.errors import BrokerRefusedError, ConfigError, TransportError
from remaphore.transport import tls
from tests.harness.fake_server import fake_server
from tests.harness.nats_server import CA_FILE, TLS_FILES, NatsServer, connected, open_sockets, running
from tests.harness.node_files import write_private
from tests.harness.waiting import until

OURS = Tls(ca_file=CA_FILE)
CONFIG = f"""
tls {{
  cert_file: "{TLS_FILES / "server.pem"}"
  key_file: "{TLS_FILES / "server.key"}"
}}
"""
MUTUAL = CONFIG.replace("}", f'ca_file: "{CA_FILE}"\n verify: true\n}}')


@pytest_asyncio.fixture
async def secure(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server that asks for TLS; its certificate is for `localhost`."""
    async with running(tmp_path / "secure", CONFIG) as server:
        yield server


def url(server: NatsServer, scheme: str = "tls", host: str = "localhost") -> str:
    return f"{scheme}://{host}:{server.port}"


async def rejection(address: str, tls_files: Tls | None = None, *, auth: Auth | None = None) -> BrokerRefusedError:
    before = open_sockets()
    with pytest.raises(BrokerRefusedError) as caught:
        async with connected(address, auth=auth or Auth(kind="none"), tls=tls_files, limit=10):
            pass
    await until(lambda: open_sockets() <= before)
    return caught.value


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_server_with_the_right_certificate_is_used_over_tls(scheme: str, secure: NatsServer) -> None:
    async with connected(url(secure, scheme), tls=OURS) as bus:
        await bus.publish("remaphore.all", b"x")


@pytest.mark.parametrize("scheme", ["tls", "nats"])
@pytest.mark.parametrize("tls_files", [None, Tls(ca_file=TLS_FILES / "other-ca.pem")], ids=["system", "other CA"])
async def test_a_certificate_of_an_unknown_ca_is_refused(
    scheme: str, tls_files: Tls | None, secure: NatsServer
) -> None:
    assert "certificate rejected" in str(await rejection(url(secure, scheme), tls_files))


async def test_a_certificate_for_another_name_is_refused(secure: NatsServer) -> None:
    error = await rejection(url(secure, host="127.0.0.1"), OURS)
    assert "certificate rejected" in str(error)
    assert error.hint == "check tls.ca_file, and the host name in the certificate"


async def test_tls_never_falls_back_to_clear_text(server: NatsServer) -> None:
    assert "does not offer TLS" in str(await rejection(url(server)))


@pytest.mark.parametrize(("scheme", "tls_files"), [("tls", None), ("tls", OURS), ("nats", OURS)])
async def test_no_login_is_sent_to_a_server_without_tls(scheme: str, tls_files: Tls | None, tmp_path: Path) -> None:
    auth = Auth(kind="token", file=write_private(tmp_path / "token", "secret"))
    async with fake_server() as fake:
        error = await rejection(fake.url.replace("nats", scheme), tls_files, auth=auth)
    assert "does not offer TLS" in str(error)
    assert error.hint == "configure TLS on the server, or use nats:// and no table [tls]"
    assert fake.connections == 1
    assert fake.lines == []


async def test_a_server_that_asks_for_a_client_certificate_gets_ours(tmp_path: Path) -> None:
    key = write_private(tmp_path / "client.key", (TLS_FILES / "client.key").read_text())
    ours = Tls(ca_file=CA_FILE, cert_file=TLS_FILES / "client.pem", key_file=key)
    async with running(tmp_path / "mutual", MUTUAL) as server:
        async with connected(url(server), tls=ours) as bus:
            await bus.publish("remaphore.all", b"x")
        with pytest.raises(TransportError):
            async with connected(url(server), tls=OURS, limit=0.5):
                pass


def test_every_context_checks_certificate_and_name() -> None:
    for files in (Tls(), OURS):
        context = tls.context(files)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
    assert {name[0][0][1] for ca in tls.context(OURS).get_ca_certs() for name in [ca["subject"]]} == {
        "remaphore test CA"
    }


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        (Tls(ca_file=Path("/nonexistent/ca.pem")), "tls.ca_file /nonexistent/ca.pem cannot be used: no such file"),
        (Tls(ca_file=TLS_FILES / "server.key"), "tls.ca_file"),
        (Tls(cert_file=TLS_FILES / "client.pem", key_file=Path("/nonexistent/key")), "no such file"),
    ],
)
def test_a_tls_file_that_cannot_be_used_is_named(files: Tls, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        tls.context(files)


def test_a_private_key_that_others_can_read_or_that_fits_no_certificate_is_refused(tmp_path: Path) -> None:
    key = write_private(tmp_path / "key", (TLS_FILES / "server.key").read_text())
    files = Tls(cert_file=TLS_FILES / "client.pem", key_file=key)
    with pytest.raises(ConfigError, match=r"tls.cert_file .*client.pem, tls.key_file .* cannot be used"):
        tls.context(files)
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read it") as caught:
        tls.context(files)
    assert caught.value.hint.startswith("chmod ")


async def test_a_tls_file_that_is_missing_is_a_rejection(secure: NatsServer) -> None:
    assert "/nonexistent/ca.pem" in str(await rejection(url(secure), Tls(ca_file=Path("/nonexistent/ca.pem"))))
