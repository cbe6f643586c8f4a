"""Every finding about locks, on real servers: provoked, its hint followed, and then gone."""

import asyncio
import shutil
from dataclasses import replace

import pytest

from remaphore.coordination import high_water, streams
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock_records import MAX_SLOTS
from remaphore.coordination.setup import make_streams
from remaphore.diagnostics.coordination import _check_streams, check_captured, check_coordination
from remaphore.diagnostics.findings import Code, Level
from remaphore.diagnostics.peers import check_lock_names
from tests.harness.nats_server import (
    NatsServer,
    Realm,
    connected,
    credentials,
    jetstream_config,
    running,
    serving,
)
from tests.harness.nodes import make_config

VERBS = ("ping", "lock:deploy")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jetstream")
    found = NatsServer(folder, f'jetstream {{ store_dir: "{folder}/data" }}\n')
    asyncio.run(found.start())
    yield found
    found.kill()


@pytest.fixture(autouse=True)
def state_root(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


def config_of(root, *verbs):
    return replace(make_config(1, *(verbs or VERBS)), subject=root)


async def found_by(check, config, bus):
    return [finding async for finding in check(config, "nats://here", bus)]


def only(findings, code, level):
    (finding,) = findings
    assert (finding.code, finding.level, finding.where) == (code, level, "nats://here")
    assert finding.hint or level is Level.OK
    return finding


async def test_missing_streams_are_an_error_until_they_are_made(server):
    async with connected(server) as bus:
        config = config_of("missing")
        found = only(await found_by(check_coordination, config, bus), Code.COORDINATION_NO_STREAM, Level.ERROR)
        assert "no stream missing-coord" in found.what
        assert "remaphore coordination init" in found.hint
        await make_streams(JetStream(bus, "missing"), "missing")
        found = only(await found_by(check_coordination, config, bus), Code.COORDINATION_OK, Level.OK)
        assert found.facts == {"replicas": 1, "bytes": 0}, "nothing is stored by the examination"
        await JetStream(bus, "missing").api("STREAM.DELETE.missing-queue")
        found = only(await found_by(check_coordination, config, bus), Code.COORDINATION_NO_STREAM, Level.ERROR)
        assert "no stream missing-queue" in found.what


@pytest.mark.parametrize("verbs", [("ping",), ("*",), ("locks",)])
async def test_a_node_that_names_no_lock_needs_no_stream(verbs, server):
    async with connected(server) as bus:
        config = config_of("unused", *verbs)
        assert await found_by(check_coordination, config, bus) == []
        peers = (replace(config.peers[0], verbs=frozenset({"evict:*"})),) if config.peers else ()
        named = replace(config, peers=peers)
        assert bool(await found_by(check_coordination, named, bus)) is bool(peers)


async def test_jetstream_that_is_off_is_an_error(tmp_path):
    async with running(tmp_path) as server, connected(server) as bus:
        found = only(await found_by(check_coordination, config_of("r"), bus), Code.JETSTREAM_OFF, Level.ERROR)
        assert "JetStream is off" in found.what
    realm = Realm()  # an account without it
    async with serving(realm, tmp_path / "realm") as server:
        realm.write_login(tmp_path / "node.creds", allow=">")
        async with connected(server, auth=credentials(tmp_path / "node.creds")) as bus:
            only(await found_by(check_coordination, config_of("r"), bus), Code.JETSTREAM_OFF, Level.ERROR)


LOGINS = """
accounts: {{ A: {{ jetstream: enabled, users: [
  {{ user: admin, password: x }}
  {{ user: node, password: x, permissions: {{ publish: {{ allow: [{allowed}] }}, subscribe: {{ allow: ["r.>"] }} }} }}
] }} }}
"""


async def test_each_missing_permission_is_an_error_until_it_is_granted(tmp_path):
    """What `coordination init --print` prints for this node is enough, and none of it is superfluous."""
    needed = [
        subject
        for subject in streams.permissions("r", frozenset(VERBS))["publish"]["allow"]
        if subject not in ("r.*", "r.*.receipt")
    ]
    assert len(needed) == 7
    async with running(tmp_path) as server:
        for missing in (*needed, None):
            allowed = ", ".join(f'"{subject}"' for subject in needed if subject != missing)
            config = LOGINS.format(allowed=allowed or '"none"')
            server.config = f'jetstream {{ store_dir: "{tmp_path}/data" }}\n{config}'
            await server.restart()
            async with connected(server.url.replace("//", "//admin:x@")) as bus:
                await make_streams(JetStream(bus, "r"), "r")
            async with connected(server.url.replace("//", "//node:x@")) as bus:
                findings = await found_by(check_coordination, config_of("r"), bus)
            if missing is None:
                only(findings, Code.COORDINATION_OK, Level.OK)
            else:
                found = only(findings, Code.COORDINATION_DENIED, Level.ERROR)
                assert missing.rstrip(".*") in found.what
                assert "--print" in found.hint


async def test_a_broker_that_does_not_answer_is_an_error(tmp_path):
    """Its JetStream is on, and requests to it are answered by nothing: as while a cluster has no leader."""
    async with running(tmp_path) as server, connected(server) as bus, connected(server) as other:
        await other.subscribe("$JS.API.>", lambda _data: None)
        found = only(
            await found_by(check_coordination, config_of("r"), bus), Code.COORDINATION_UNAVAILABLE, Level.ERROR
        )
        assert "no response" in found.what


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"deny_purge": False}, "deny_purge is False"),
        ({"deny_delete": False}, "deny_delete is False"),
        ({"first_seq": 1}, "first_seq is not a time"),
        ({"storage": "memory"}, "storage is memory"),
        ({"max_msg_size": 65536}, "max_msg_size is 65536"),
        ({"allow_direct": False}, "allow_direct is False"),
    ],
)
async def test_wrong_settings_are_an_error_until_the_stream_is_corrected(changed, said, server):
    root = "settings-" + next(iter(changed)).replace("_", "-")
    async with connected(server) as bus:
        js = JetStream(bus, root)
        await make_streams(js, root)
        info = [await js.info(name) for name in (js.records, js.queue)]
        info[0]["config"].update(changed)
        (found,) = _check_streams(config_of(root), "nats://here", info, clustered=False)
        assert (found.code, found.level) == (Code.COORDINATION_SETTINGS, Level.ERROR)
        assert said in found.what
        only(await found_by(check_coordination, config_of(root), bus), Code.COORDINATION_OK, Level.OK)


async def test_one_replica_in_a_cluster_is_a_warning(server):
    async with connected(server) as bus:
        js = JetStream(bus, "replicas")
        await make_streams(js, "replicas")
        info = [await js.info(name) for name in (js.records, js.queue)]
        found = list(_check_streams(config_of("replicas"), "nats://here", info, clustered=True))
        assert [each.code for each in found] == [*[Code.COORDINATION_SINGLE_REPLICA] * 2, Code.COORDINATION_OK]
        assert "--replicas 3" in found[0].hint
        for each in info:
            each["config"]["num_replicas"] = 3
        found = list(_check_streams(config_of("replicas"), "nats://here", info, clustered=True))
        assert [each.code for each in found] == [Code.COORDINATION_OK]


async def test_a_stream_that_is_half_full_is_a_warning_until_it_is_made_again(server, monkeypatch):
    monkeypatch.setattr(streams, "MAX_BYTES", 8000)
    async with connected(server) as bus:
        js = JetStream(bus, "full")
        await make_streams(js, "full")
        for number in range(6):
            await js.publish(f"full.coord.lock.junk{number}.0", b"x" * 800)
        found = await found_by(check_coordination, config_of("full"), bus)
        assert [each.code for each in found] == [Code.COORDINATION_HALF_FULL, Code.COORDINATION_OK]
        assert "% full" in found[0].what
        await make_streams(js, "full", recreate=True)
        only(await found_by(check_coordination, config_of("full"), bus), Code.COORDINATION_OK, Level.OK)


@pytest.mark.parametrize("verb", ["lock:db", "lock:*"])
async def test_junk_below_one_lock_is_a_warning_until_the_streams_are_made_again(verb, server):
    root = "junk-any" if "*" in verb else "junk-one"
    async with connected(server) as bus:
        js, config = JetStream(bus, root), config_of(root, verb)
        await make_streams(js, root)
        for slot in ["def", *range(MAX_SLOTS)]:
            await js.publish(f"{root}.coord.lock.db.{slot}", b"x")
        only(await found_by(check_coordination, config, bus), Code.COORDINATION_OK, Level.OK)
        await js.publish(f"{root}.coord.lock.db.junk", b"x")
        found = await found_by(check_coordination, config, bus)
        assert [each.code for each in found] == [Code.COORDINATION_LOCK_JUNK, Code.COORDINATION_OK]
        assert "102 subjects below the lock db" in found[0].what
        await make_streams(js, root, recreate=True)
        only(await found_by(check_coordination, config, bus), Code.COORDINATION_OK, Level.OK)


async def test_a_restored_backup_is_an_error_until_the_streams_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(high_water, "CONFIRM_AFTER", 0.01)
    server = NatsServer(tmp_path / "server", jetstream_config(tmp_path / "data"))
    config = config_of("back")

    async def examine():
        async with connected(server) as bus:
            return await found_by(check_coordination, config, bus)

    async def make(**options):
        async with connected(server) as bus:
            await make_streams(JetStream(bus, "back"), "back", **options)

    await server.start()
    try:
        await make()
        await server.stop()
        shutil.copytree(tmp_path / "data", tmp_path / "backup")
        await server.start()
        async with connected(server) as bus:
            await JetStream(bus, "back").publish("back.coord.lock.deploy.0", b"x")
        only(await examine(), Code.COORDINATION_OK, Level.OK)
        await server.stop()
        shutil.rmtree(tmp_path / "data")
        shutil.copytree(tmp_path / "backup", tmp_path / "data")
        await server.start()
        for _ in range(2):  # it is not forgotten by being reported
            found = only(await examine(), Code.COORDINATION_SET_BACK, Level.ERROR)
            assert found.facts["last"] < found.facts["known"]
            assert "coordination init --recreate" in found.hint
        await make(recreate=True)
        only(await examine(), Code.COORDINATION_OK, Level.OK)
    finally:
        server.kill()


async def test_that_nothing_can_be_remembered_is_a_note(server, state_root):
    state_root.mkdir()
    (state_root / "_coordination").write_text("")
    async with connected(server) as bus:
        await make_streams(JetStream(bus, "note"), "note")
        note, found = await found_by(check_coordination, config_of("note"), bus)
        assert (note.code, note.level, found.code) == (
            Code.COORDINATION_NOT_REMEMBERED,
            Level.NOTE,
            Code.COORDINATION_OK,
        )
        assert "Not a directory" in note.what
        (state_root / "_coordination").unlink()
        only(await found_by(check_coordination, config_of("note"), bus), Code.COORDINATION_OK, Level.OK)


async def test_a_server_that_is_too_old_is_an_error(server, monkeypatch):
    monkeypatch.setattr(streams, "OLDEST_SERVER", (99, 0, 0))
    async with connected(server) as bus:
        config = config_of("old")
        found = only(await found_by(check_coordination, config, bus), Code.COORDINATION_SERVER_TOO_OLD, Level.ERROR)
        assert "need 99.0.0 or newer" in found.what


@pytest.mark.parametrize("subjects", ["captured{}.>", "captured{}.*"])
async def test_a_stream_that_stores_messages_is_an_error_until_it_is_deleted(subjects, server):
    root = f"captured{'ab'[subjects.endswith('*')]}"
    async with connected(server) as bus:
        js = JetStream(bus, root)
        config = config_of(root, "ping")
        assert await found_by(check_captured, config, bus) == []
        await js.api("STREAM.CREATE.THEIRS", {"name": "THEIRS", "subjects": [subjects.format(root[-1])]})
        found = only(await found_by(check_captured, config, bus), Code.SUBJECT_CAPTURED, Level.ERROR)
        assert "the stream THEIRS stores messages" in found.what
        await js.api("STREAM.DELETE.THEIRS")
        assert await found_by(check_captured, config, bus) == []
        await make_streams(js, root)  # ours do not store messages
        assert await found_by(check_captured, config, bus) == []


@pytest.mark.parametrize("name", ["Deploy", "a.b", "list", "", "d*", "x" * 65])
def test_a_permission_for_what_is_no_lock_is_a_warning(name):
    config = config_of("r", f"lock:{name}", "lock:good", "evict:*")
    (found,) = check_lock_names(config)
    assert (found.code, found.level) == (Code.LOCK_NAME_INVALID, Level.WARNING)
    assert list(check_lock_names(config_of("r", "lock:good", "evict:*", "lock:*", "db:A"))) == []
