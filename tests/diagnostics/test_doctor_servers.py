"""Every finding of `doctor` about servers, on real ones: provoked, mended as it says, and then gone."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from remaphore.config.settings import Auth, Tls
from remaphore.diagnostics.doctor import examine
from remaphore.diagnostics.findings import Code, Level, to_line
from remaphore.errors import NoReceiversError
from remaphore.protocol import wire
from remaphore.tasks import spawn
from tests.diagnostics.doctor_cases import CASES as OF_PEERS
from tests.factories import make_reply
from tests.nodes import make_config
from tests.support.nats_server import (
    CA_FILE,
    TLS_FILES,
    Realm,
    connected,
    credentials,
    open_sockets,
    running,
    serving,
    until,
)

SECONDS = 30.0  # for a server that answers
BRIEF = 0.3  # for one that is not there: it is tried until then
NOWHERE = "nats://127.0.0.1:1"


async def look(config, *, timeout=SECONDS):
    """Return what the doctor finds about servers; no peer is asked, as this node may not."""
    found = []
    config = replace(config, identities=make_config(1, "ping").identities)
    await examine(config, to="**", timeout=timeout, report=found.append)
    return [finding for finding in found if finding.code is not Code.VERB_NOT_OURS]


def at(*servers, **fields):
    """The configuration of a node that uses these servers."""
    return replace(make_config(1), servers=servers, **fields)


def only(findings, code):
    (finding,) = [finding for finding in findings if finding.code is code]
    return finding


def codes(findings):
    return [finding.code for finding in findings]


async def test_a_server_tells_who_it_is_and_how_far_away(tmp_path):
    async with running(
        tmp_path / "server", 'server_name: "east-1"\ncluster { name: "east", listen: "127.0.0.1:-1" }\n'
    ) as server:
        found = await look(at(server.url))
    assert codes(found) == [Code.SERVER_OK, Code.SUBJECTS_OK]
    assert found[0].what.startswith("east-1 2.")
    assert " in cluster east, no TLS, login accepted, " in found[0].what
    assert found[0].facts["name"] == "east-1"
    assert found[0].facts["round_trip_ms"] > 0


async def test_tls_is_told_with_its_version(tmp_path):
    config = f'tls {{ cert_file: "{TLS_FILES}/server.pem", key_file: "{TLS_FILES}/server.key" }}\n'
    async with running(tmp_path / "server", config) as server:
        found = await look(at(f"tls://localhost:{server.port}", tls=Tls(ca_file=CA_FILE)))
    assert ", TLSv1.3, login accepted" in only(found, Code.SERVER_OK).what


async def test_a_server_that_is_not_there_is_an_error_and_corrected_servers_mend_it(server):
    finding = only(await look(at(NOWHERE), timeout=BRIEF), Code.SERVER_UNREACHABLE)
    assert (finding.level, finding.where) == (Level.ERROR, NOWHERE)
    assert "connection refused" in finding.what
    assert finding.hint == "start it, open the way to it, or correct servers"
    assert codes(await look(at(server.url))) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_one_of_several_that_is_not_there_is_a_warning(server):
    found = await look(at(NOWHERE, server.url), timeout=3.0)
    assert only(found, Code.SERVER_UNREACHABLE).level is Level.WARNING
    assert codes(found)[1:] == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_a_login_that_is_refused_is_named_and_a_right_one_mends_it(tmp_path):
    realm = Realm()
    Realm().write_login(tmp_path / "node.creds")  # of another operator
    async with serving(realm, tmp_path) as server:
        config = at(server.url, auth=credentials(tmp_path / "node.creds"))
        finding = only(await look(config), Code.SERVER_REFUSES)
        assert finding.level is Level.ERROR
        assert "Authorization Violation" in finding.what
        assert finding.hint == f"check whether the login ({tmp_path / 'node.creds'}) is wrong, expired or revoked"
        realm.write_login(tmp_path / "node.creds")
        assert codes(await look(config)) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_a_missing_login_file_is_named(server, tmp_path):
    config = at(server.url, auth=Auth(kind="credentials", file=tmp_path / "nosuch"))
    assert "nosuch: credentials: no such file" in to_line(only(await look(config), Code.SERVER_REFUSES))


async def test_denied_subjects_are_named_and_a_wider_login_mends_it(tmp_path):
    realm = Realm()
    realm.write_login(tmp_path / "node.creds", allow="other.>")
    async with serving(realm, tmp_path) as server:
        config = at(server.url, auth=credentials(tmp_path / "node.creds"))
        denied = [finding for finding in await look(config) if finding.code is Code.SUBJECT_DENIED]
        assert [finding.what.split(" to ")[0] for finding in denied] == [
            "no permission for subscription",
            "no permission for subscription",
            "no permission for publish",
        ]
        assert denied[0].what.endswith("remaphore.all")
        assert denied[0].hint == "ask the broker's administrator to extend the permissions of these credentials"
        realm.write_login(tmp_path / "node.creds")
        assert codes(await look(config)) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_where_a_subject_is_denied_no_peer_is_asked(tmp_path):
    realm = Realm()
    realm.write_login(tmp_path / "node.creds", allow="other.>")
    found = []
    async with serving(realm, tmp_path) as server:
        config = at(server.url, auth=credentials(tmp_path / "node.creds"))
        await examine(config, to="**", timeout=SECONDS, report=found.append)
    assert [finding.what for finding in found].count("no permission for publish to remaphore.all") == 1
    assert set(codes(found)) == {Code.SERVER_OK, Code.SUBJECT_DENIED}


async def test_publishing_where_messages_go_is_tried_with_a_message_for_nobody_else(server):
    arrived = []
    async with connected(server) as bus:

        def answer(raw):
            frame = wire.decode(raw)
            arrived.append(frame)
            if frame.wants_reply:
                where = f"remaphore.{wire.digest(raw).hex()}"
                reply = make_reply(2, frame.message(), time_ns=time.time_ns())
                spawn(bus.publish(where, reply), name="reply")

        await bus.subscribe("remaphore.all", answer)
        config = at(server.url)
        await examine(replace(config, peers=config.peers[:1]), to="**", timeout=SECONDS, report=lambda _found: None)
    assert [(frame.destination, frame.wants_reply) for frame in arrived] == [("com.one", False), ("**", True)]
    assert {frame.verb for frame in arrived} == {"permissions"}


async def test_a_small_limit_of_messages_is_a_note_and_a_larger_one_mends_it(tmp_path):
    async with running(tmp_path / "server", "max_payload: 65536\n") as server:
        finding = only(await look(at(server.url)), Code.SERVER_PAYLOAD)
        assert (finding.level, finding.hint) == (Level.NOTE, "raise its max_payload to 1048576")
        assert "65536 bytes" in finding.what
        server.config = "max_payload: 1048576\n"
        await server.restart()
        assert codes(await look(at(server.url))) == [Code.SERVER_OK, Code.SUBJECTS_OK]


async def test_a_pattern_that_reaches_nobody_is_an_error():
    with pytest.raises(NoReceiversError, match=r"no peer in node1.toml matches 'org.\*\*'"):
        await examine(at(NOWHERE), to="org.**", timeout=BRIEF, report=lambda _finding: None)


async def test_no_connection_is_left(server):
    before = open_sockets()
    assert codes(await look(at(server.url))) == [Code.SERVER_OK, Code.SUBJECTS_OK]
    await until(lambda: open_sockets() <= before)


async def test_being_cancelled_leaves_no_connection(server):
    before = open_sockets()
    async with silent() as (url, met):
        looking = spawn(
            examine(at(server.url, url), to="**", timeout=SECONDS, report=lambda _found: None), name="doctor"
        )
        await met.wait()
        await until(lambda: f"visit {server.url}" not in {task.get_name() for task in asyncio.all_tasks()})
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
    await until(lambda: open_sockets() <= before)


@asynccontextmanager
async def silent():
    """A server that takes connections, and says nothing: its address, and an event for the first of them."""
    met = asyncio.Event()

    async def meet(reader, writer):
        met.set()
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with listening:
        yield f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}", met


def test_no_kind_of_finding_goes_unprovoked():
    here = {Code.SERVER_UNREACHABLE, Code.SERVER_REFUSES, Code.SUBJECT_DENIED, Code.SERVER_PAYLOAD}
    well = {code for code in Code if code.endswith("-ok")}
    online = set(list(Code)[list(Code).index(Code.SERVER_UNREACHABLE) :])
    assert {code for code, *_ in OF_PEERS} | here | {Code.OWN_CLOCK_OFF} == online - well
