"""Every finding of `doctor` about peers: provoked by a daemon that is set up wrongly, mended as it says, and then gone.

The servers' findings are in test_doctor_servers.py.
"""

import asyncio
import json
import time
from dataclasses import replace

import pytest

from remaphore import Reply, hookimpl
from remaphore.diagnostics.findings import Code, Level, to_line
from remaphore.protocol import wire
from remaphore.protocol.duration import MINUTE, SECOND
from remaphore.tasks import spawn
from tests.diagnostics.doctor_cases import BRIEF, CASES, LONG, SECONDS, SOME, TWO, US, Site, knows, respond
from tests.factories import make_key, make_reply
from tests.nodes import make_config


@pytest.fixture
async def site(tmp_path):
    site = Site(tmp_path)
    yield site
    await site.stop()


async def test_a_peer_that_is_set_up_is_told_of_in_one_line(site):
    await site.start(config=make_config(2, peers=(knows(1, "permissions", "deploy"),)))
    site.config = replace(site.config, peers=(knows(2, "ping", "reply-to"),))
    (finding,) = await site.look()
    assert (finding.level, finding.code, finding.where) == (Level.OK, Code.PEER_OK, TWO)
    assert "we permit it ping, reply-to; it permits us deploy, permissions; remaphore " in finding.what
    assert finding.facts["permits_us"] == ["deploy", "permissions"]
    assert finding.facts["we_permit"] == ["ping", "reply-to"]
    assert finding.facts["bound"] is True
    assert 0 < finding.facts["round_trip_ms"] < LONG * 1000
    # Both have the same clock, so all that it seems to be off comes of the way.
    assert abs(finding.facts["skew_ms"]) <= finding.facts["round_trip_ms"]


@pytest.mark.parametrize(("code", "level", "provoke", "says"), CASES)
async def test_each_finding_is_provoked_mended_as_it_says_and_then_gone(site, code, level, provoke, says):
    hint = await provoke(site)
    (finding,) = await site.found(code, timeout=SECONDS.get(code, LONG))
    assert finding.level is level
    assert says in to_line(finding)
    done = hint()
    if asyncio.iscoroutine(done):
        await done
    left = [finding for finding in await site.look() if finding.level is not Level.OK]
    # The original's receivers do not say what they permit, whatever is configured.
    assert [finding.code for finding in left if finding.code is not Code.PERMISSIONS_UNTOLD] == []
    assert left == [] or code is Code.REPLY_UNBOUND


async def test_if_all_clocks_differ_the_same_way_it_is_ours(site):
    site.config = replace(site.config, peers=(knows(2), knows(3)), allow_skew_ns=100 * SECOND)
    for number in (2, 3):
        await site.start(number, config=replace(make_config(number), allow_skew_ns=10 * MINUTE), off=80)
    (finding,) = await site.found(Code.OWN_CLOCK_OFF)
    assert "all 2 peers that answer have clocks 8" in finding.what
    assert finding.hint == "timedatectl set-ntp true"
    await site.stop()
    for number in (2, 3):
        await site.start(number)
    await site.assert_well()


async def test_clocks_that_differ_in_both_directions_are_theirs(site):
    site.config = replace(site.config, peers=(knows(2), knows(3)), allow_skew_ns=100 * SECOND)
    for number, off in ((2, 80), (3, -80)):
        await site.start(number, config=replace(make_config(number), allow_skew_ns=10 * MINUTE), off=off)
    codes = [finding.code for finding in await site.look()]
    assert codes.count(Code.CLOCK_OFF) == 2
    assert Code.OWN_CLOCK_OFF not in codes


async def test_a_node_with_two_keys_is_one_peer(site):
    site.config = replace(site.config, peers=(knows(3, destination=TWO), knows(2)))
    await site.start()
    (finding,) = await site.look()
    assert (finding.code, finding.where) == (Code.PEER_OK, TWO)


async def test_what_a_peer_refuses_is_told_in_its_words_and_nothing_runs_there(site):
    ran = []

    class Runs:
        @hookimpl
        def remaphore_message(self, message):
            ran.append(message.verb)
            return Reply(0, b"")

    await site.start(config=make_config(2, peers=(knows(1, "deploy"),)), plugins=(), own=Runs)
    assert await site.found(Code.PERMISSIONS_REFUSED)
    assert ran == []


async def test_no_other_verb_than_permissions_is_ever_sent(site):
    site.config = replace(site.config, identities=(*site.config.identities, *make_config(3).identities))
    await site.look(timeout=BRIEF)
    sent = [wire.decode(raw) for subject, raw in site.broker.published if subject == "remaphore.all"]
    assert len(sent) == 2  # with each of our keys, as nobody answers
    assert {(frame.verb, frame.wants_reply) for frame in sent} == {("permissions", True)}


async def test_a_peer_that_runs_the_original_may_be_silent(site):
    site.config = replace(site.config, peers=(knows(2, legacy=True),))
    (finding,) = await site.look(timeout=BRIEF)
    assert (finding.level, finding.code, finding.hint) == (Level.NOTE, Code.PEER_SILENT, "remaphore ping com.two")


async def test_an_old_reply_of_the_original_is_not_taken_for_a_new_one(site):
    site.config = replace(site.config, peers=(knows(2, legacy=True),))
    await respond(site, 2, takes={US}, uuid=b"random", time_ns=time.time_ns() - 2 * site.config.allow_skew_ns)
    assert await site.found(Code.PEER_SILENT, timeout=SOME)


async def test_a_flood_of_replies_from_strangers_makes_us_check_few_signatures(site, monkeypatch):
    await site.start()
    checked = []
    verify = wire.verify
    monkeypatch.setattr(wire, "verify", lambda frame: checked.append(frame.sender) or verify(frame))
    bus = site.broker.connect()

    def flood(raw):
        request = wire.decode(raw).message()
        reply = make_reply(9, request, time_ns=time.time_ns())
        for _ in range(1000):
            spawn(bus.publish(f"remaphore.{request.digest.hex()}", reply), name="flood")

    await bus.subscribe("remaphore.all", flood)
    assert await site.found(Code.PEER_OK)
    assert 0 < checked.count(make_key(9).public) <= 100


@pytest.mark.parametrize(("number", "fields"), [(9, {}), (2, {"uuid": b"random"})])
async def test_what_nobody_signed_accuses_nobody(site, number, fields):
    bus = site.broker.connect()

    def forge(raw):
        request = wire.decode(raw).message()
        forged = make_reply(number, request, time_ns=time.time_ns(), **fields).replace(b"ok", b"no")
        spawn(bus.publish(f"remaphore.{request.digest.hex()}", forged), name="forgery")

    await bus.subscribe("remaphore.all", forge)
    codes = {finding.code for finding in await site.look(timeout=SOME)}
    assert codes == {Code.PEER_SILENT, Code.NOBODY_ANSWERS}


async def test_a_finding_is_one_json_object_of_plain_values(site):
    await site.start()
    (finding,) = await site.look()
    assert json.loads(json.dumps(dict(finding.facts)))["version"]
