"""Every finding of `doctor` about servers, on real ones: provoked, its hint followed, and then gone."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from remaphore.config.settings import Auth, Tls
from remaphore.diagnostics import servers
from remaphore.diagnostics.doctor import examine
from remaphore.diagnostics.findings import Code, Level, to_line
from remaphore.errors import NoReceiversError
from remaphore.protocol import wire
from remaphore.tasks import spawn
from tests.harness.certificates import Authority
from tests.harness.factories import make_encoded_reply
from tests.harness.fake_server import fake_server
from tests.harness.names import Names
from tests.harness.nats_server import CA_FILE, TLS_FILES, Realm, connected, credentials, open_sockets, running, serving
from tests.harness.nodes import make_config
from tests.harness.waiting import until

SECONDS = 30.0  # for a server that replies
BRIEF = 0.3  # for one that is not running: it is tried until then
NOWHERE = "nats://127.0.0.1:1"


async def examine_servers(config, *, timeout=SECONDS):
    """Return the findings about servers; no peer is asked, as the identity may not send `permissions`."""
    found = []
    config = replace(config, identities=make_config(1, "ping").identities)
    await examine(config, to=["**"], timeout=timeout, report=lambda *findings: found.extend(findings))
    return [finding for finding in found if finding.code is not Code.IDENTITY_NOT_PERMITTED]


def at(*servers, **fields):
    """Return the configuration of a node that uses these servers."""
    return replace(make_config(1), servers=servers, **fields)


def only(findings, code):
    (finding,) = [finding for finding in findings if finding.code is code]
    return finding


def codes(findings):
    return [finding.code for finding in findings]


async def test_a_server_is_reported_with_its_name_version_and_round_trip(tmp_path):
    async with running(
        tmp_path / "server", 'server_name: "east-1"\ncluster { name: "east", listen: "127.0.0.1:-1" }\n'
    ) as server:
        found = await examine_servers(at(server.url))
    assert codes(found) == [Code.SERVER_OK, Code.SUBJECTS_OK]
    assert found[0].what.startswith("east-1 2.")
    assert " in cluster east, no TLS, login accepted, " in found[0].what
    assert found[0].facts["name"] == "east-1"
    assert found[0].facts["round_trip_ms"] > 0


def clustered(*ports):
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    return f'cluster {{ name: c, listen: "127.0.0.1:-1", routes: [{routes}] }}\n'


@pytest.mark.parametrize("config", ["", clustered()], ids=["no clusters", "two clusters of one name"])
async def test_servers_that_are_no_cluster_are_an_error_until_they_are_one(tmp_path, config, monkeypatch):
    monkeypatch.setattr(servers, "SEPARATE_LIMIT", 0.3)
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(running(tmp_path / str(number), config)) for number in range(2)]
        found = only(await examine_servers(at(one.url, two.url)), Code.SERVERS_SEPARATE)
        assert (found.level, found.where) == (Level.ERROR, one.url)
        assert f"does not reach {two.url}:" in found.what
        monkeypatch.undo()
        one.config = clustered()
        await one.restart()
        two.config = clustered(one.ports["cluster"])
        await two.restart()
        assert Code.SERVERS_SEPARATE not in codes(await examine_servers(at(one.url, two.url)))
        assert Code.SERVERS_SEPARATE not in codes(await examine_servers(at(one.url, one.url)))


async def test_the_version_of_tls_is_reported(tmp_path):
    config = f'tls {{ cert_file: "{TLS_FILES}/server.pem", key_file: "{TLS_FILES}/server.key" }}\n'
    async with running(tmp_path / "server", config) as server:
        found = await examine_servers(at(f"tls://localhost:{server.port}", tls=Tls(ca_file=CA_FILE)))
    assert ", TLSv1.3, login accepted" in only(found, Code.SERVER_OK).what


async def test_an_address_of_a_name_that_fails_is_a_note(server, monkeypatch):
    Names(monkeypatch)["broker.example.com"] = ["127.0.0.2", "127.0.0.1"]
    config = at(f"nats://broker.example.com:{server.port}")
    found = await examine_servers(config)
    assert found[0].what.endswith(f"ms, at broker.example.com (127.0.0.1:{server.port})")
    finding = only(found, Code.SERVER_ADDRESS_UNUSABLE)
    assert (finding.level, finding.where) == (Level.NOTE, f"broker.example.com (127.0.0.2:{server.port})")
    assert finding.what == "connection refused; another address works"
    assert finding.hint == "let the server listen there, or write an address that works in servers"
    async with fake_server(host="127.0.0.2", port=server.port):
        assert Code.SERVER_ADDRESS_UNUSABLE not in codes(await examine_servers(config))


async def test_a_certificate_that_expires_soon_is_a_warning(tmp_path):
    authority = Authority(tmp_path)
    files = authority.issue("server", "DNS:localhost", days=13)
    async with running(
        tmp_path / "server", f'tls {{ cert_file: "{files.cert}", key_file: "{files.key}" }}\n'
    ) as server:
        config = at(f"tls://localhost:{server.port}", tls=Tls(ca_file=authority.file))
        finding = only(await examine_servers(config), Code.SERVER_CERTIFICATE_EXPIRES_SOON)
        assert (finding.level, finding.where) == (Level.WARNING, config.servers[0])
        assert finding.what.endswith((" UTC, in 13.0 days", " UTC, in 12.9 days"))
        authority.issue("server", "DNS:localhost")
        await server.restart()
        assert codes(await examine_servers(config)) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_a_server_that_begins_with_tls_is_a_note(tmp_path):
    settings = f'cert_file: "{TLS_FILES}/server.pem", key_file: "{TLS_FILES}/server.key", handshake_first: true'
    async with running(tmp_path / "server", f"tls {{ {settings} }}\n") as server:
        config = at(f"tls://localhost:{server.port}", tls=Tls(ca_file=CA_FILE))
        finding = only(await examine_servers(config), Code.SERVER_HANDSHAKE_FIRST)
        assert finding.level is Level.NOTE
        assert finding.hint == "set handshake_first = true in [tls], if all servers begin with TLS"
        found = await examine_servers(replace(config, tls=replace(config.tls, handshake_first=True)))
    assert codes(found)[:2] == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_an_unreachable_server_is_an_error_until_servers_is_corrected(server):
    finding = only(await examine_servers(at(NOWHERE), timeout=BRIEF), Code.SERVER_UNREACHABLE)
    assert (finding.level, finding.where) == (Level.ERROR, NOWHERE)
    assert "connection refused" in finding.what
    assert finding.hint == "start it, make it reachable, or correct servers"
    assert codes(await examine_servers(at(server.url))) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_one_unreachable_server_of_several_is_a_warning(server):
    found = await examine_servers(at(NOWHERE, server.url), timeout=3.0)
    assert only(found, Code.SERVER_UNREACHABLE).level is Level.WARNING
    assert codes(found)[1:] == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_rejected_credentials_are_an_error_until_they_are_replaced(tmp_path):
    realm = Realm()
    Realm().write_login(tmp_path / "node.creds")  # of another operator
    async with serving(realm, tmp_path) as server:
        config = at(server.url, auth=credentials(tmp_path / "node.creds"))
        finding = only(await examine_servers(config), Code.SERVER_REJECTS)
        assert finding.level is Level.ERROR
        assert "Authorization Violation" in finding.what
        assert finding.hint == f"check whether the login ({tmp_path / 'node.creds'}) is wrong, expired or revoked"
        realm.write_login(tmp_path / "node.creds")
        assert codes(await examine_servers(config)) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_a_missing_credentials_file_is_named(server, tmp_path):
    config = at(server.url, auth=Auth(kind="credentials", file=tmp_path / "nosuch"))
    assert "nosuch: credentials: no such file" in to_line(only(await examine_servers(config), Code.SERVER_REJECTS))


async def test_denied_subjects_are_errors_until_the_credentials_permit_them(tmp_path):
    realm = Realm()
    realm.write_login(tmp_path / "node.creds", allow="other.>")
    async with serving(realm, tmp_path) as server:
        config = at(server.url, auth=credentials(tmp_path / "node.creds"))
        denied = [finding for finding in await examine_servers(config) if finding.code is Code.SUBJECT_DENIED]
        assert [finding.what.split(" to ")[0] for finding in denied] == [
            "no permission for subscription",
            "no permission for subscription",
            "no permission for publish",
        ]
        assert denied[0].what.endswith("remaphore.all")
        assert denied[0].hint == "ask the broker's administrator to extend the permissions of these credentials"
        realm.write_login(tmp_path / "node.creds")
        assert codes(await examine_servers(config)) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_where_a_subject_is_denied_no_peer_is_asked(tmp_path):
    realm = Realm()
    realm.write_login(tmp_path / "node.creds", allow="other.>")
    found = []
    async with serving(realm, tmp_path) as server:
        config = at(server.url, auth=credentials(tmp_path / "node.creds"))
        await examine(config, to=["**"], timeout=SECONDS, report=lambda *findings: found.extend(findings))
    assert [finding.what for finding in found].count("no permission for publish to remaphore.all") == 1
    assert set(codes(found)) == {Code.SERVER_OK, Code.SUBJECT_DENIED}


async def test_publishing_messages_is_tried_with_a_message_to_this_node_alone(server):
    arrived = []
    async with connected(server) as bus:

        def answer(raw):
            frame = wire.decode(raw)
            arrived.append(frame)
            if frame.wants_reply:
                where = f"remaphore.{wire.digest(raw).hex()}"
                reply = make_encoded_reply(2, frame.message(), time_ns=time.time_ns())
                spawn(bus.publish(where, reply), name="reply")

        await bus.subscribe("remaphore.all", answer)
        config = at(server.url)
        await examine(
            replace(config, peers=config.peers[:1]),
            to=["**"],
            timeout=SECONDS,
            report=lambda *_found: None,
            on_listening=lambda stop: stop(),
        )
    assert [(frame.destination, frame.wants_reply) for frame in arrived] == [("com.one", False), ("**", True)]
    assert {frame.verb for frame in arrived} == {"permissions"}


async def test_a_small_max_payload_is_a_note_until_it_is_raised(tmp_path):
    async with running(tmp_path / "server", "max_payload: 65536\n") as server:
        finding = only(await examine_servers(at(server.url)), Code.SERVER_MAX_PAYLOAD)
        assert (finding.level, finding.hint) == (Level.NOTE, "raise max_payload of the server to 1048576")
        assert "65536 bytes" in finding.what
        server.config = "max_payload: 1048576\n"
        await server.restart()
        assert codes(await examine_servers(at(server.url))) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_a_pattern_that_matches_no_peer_is_an_error():
    with pytest.raises(NoReceiversError, match=r"no peer in node1.toml matches 'org.\*\*'"):
        await examine(at(NOWHERE), to=["org.**"], timeout=BRIEF, report=lambda _finding: None)


async def test_a_node_without_peers_has_its_servers_examined(server):
    findings = []
    await examine(replace(at(server.url), peers=()), to=["**"], timeout=SECONDS, report=findings.append)
    assert codes(findings) == [Code.SERVER_OK, Code.SUBJECTS_OK, Code.NO_PEERS]


async def test_no_connection_is_left(server):
    before = open_sockets()
    assert codes(await examine_servers(at(server.url))) == [Code.SERVER_OK, Code.SUBJECTS_OK]
    await until(lambda: open_sockets() <= before)


async def test_being_cancelled_leaves_no_connection(server):
    before = open_sockets()
    async with silent() as (url, met):
        looking = spawn(
            examine(at(server.url, url), to=["**"], timeout=SECONDS, report=lambda *_found: None), name="doctor"
        )
        await met.wait()
        await until(lambda: f"probe {server.url}" not in {task.get_name() for task in asyncio.all_tasks()})
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
    await until(lambda: open_sockets() <= before)


@asynccontextmanager
async def silent():
    """Yield the address of a server that accepts connections and sends nothing, and an event for the first one."""
    met = asyncio.Event()

    async def meet(reader, writer):
        met.set()
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with listening:
        yield f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}", met


async def test_an_interrupted_examination_reports_the_servers_that_have_answered(server, monkeypatch):
    found, probed, before = [], [], open_sockets()

    async def noted(config, url, **options):
        probe = await servers.probe_server(config, url, **options)
        probed.append(url)
        return probe

    monkeypatch.setattr("remaphore.diagnostics.doctor.probe_server", noted)
    config = at(NOWHERE, server.url)
    running = spawn(
        examine(config, to=["**"], timeout=SECONDS, report=lambda *each: found.extend(each)), name="examine"
    )
    await until(lambda: probed or running.done())
    assert not found
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert {finding.where for finding in found} == {server.url}
    await until(lambda: open_sockets() <= before)
