"""Every finding of `doctor` about peers: provoked by a misconfigured daemon, its hint followed, and then gone.

The findings about servers are in test_servers.py.
"""

import asyncio
import json
import subprocess
import time
from dataclasses import replace

import pytest

from remaphore import Reply, hookimpl
from remaphore.cli import arguments
from remaphore.diagnostics import replies
from remaphore.diagnostics.findings import Code, Level, to_line
from remaphore.diagnostics.survey import PeerSurvey
from remaphore.messaging.signer import Signer
from remaphore.protocol import wire
from remaphore.protocol.duration import MINUTE, SECOND
from remaphore.protocol.peers import Peer
from remaphore.tasks import spawn
from tests.diagnostics.doctor_cases import (
    BRIEF,
    CASES,
    KEY,
    LONG,
    REPLIES,
    SECONDS,
    SOME,
    TWO,
    US,
    DoctorSite,
    has_a_new_key,
    knows,
    respond,
)
from tests.harness.factories import make_encoded_reply, make_key
from tests.harness.machine import assert_hints
from tests.harness.nodes import NAMES, make_config
from tests.harness.waiting import until


@pytest.fixture
async def site(tmp_path):
    site = DoctorSite(tmp_path)
    yield site
    await site.stop()


async def test_a_valid_peer_is_one_finding(site):
    await site.start(config=make_config(2, peers=(knows(1, "permissions", "deploy"),)))
    site.config = replace(site.config, peers=(knows(2, "ping", "reply-to"),))
    (finding,) = await site.examine()
    assert (finding.level, finding.code, finding.where) == (Level.OK, Code.PEER_OK, TWO)
    assert "we permit it ping, reply-to; it permits us deploy, permissions; remaphore " in finding.what
    assert finding.facts["permits_us"] == ["deploy", "permissions"]
    assert finding.facts["we_permit"] == ["ping", "reply-to"]
    assert finding.facts["bound"] is True
    assert 0 < finding.facts["round_trip_ms"] < LONG * 1000
    # Both have the same clock, so the measured skew is an effect of the round trip.
    assert abs(finding.facts["skew_ms"]) <= finding.facts["round_trip_ms"]


@pytest.mark.parametrize(("code", "level", "provoke", "text"), CASES)
async def test_each_finding_is_gone_once_its_hint_is_followed(site, code, level, provoke, text):
    fix = await provoke(site)
    (finding,) = await site.found(code, timeout=SECONDS.get(code, LONG), replies=REPLIES.get(code, 0))
    assert finding.level is level
    assert text in to_line(finding)
    assert_hints([finding])
    done = fix()
    if asyncio.iscoroutine(done):
        await done
    left = [finding for finding in await site.examine() if finding.level is not Level.OK]
    # A receiver of the Go implementation never reports what it permits.
    assert [finding.code for finding in left if finding.code is not Code.PERMISSIONS_UNAVAILABLE] == []
    assert left == [] or code is Code.REPLY_UNBOUND


async def test_if_all_clocks_differ_in_the_same_direction_ours_is_wrong(site):
    site.config = replace(site.config, peers=(knows(2), knows(3)), allow_skew_ns=100 * SECOND)
    for number in (2, 3):
        await site.start(number, config=replace(make_config(number), allow_skew_ns=10 * MINUTE), off=80)
    (finding,) = await site.found(Code.OWN_CLOCK_SKEW)
    assert "the clocks of all 2 peers that replied are 8" in finding.what
    assert finding.hint == "timedatectl set-ntp true"
    await site.stop()
    for number in (2, 3):
        await site.start(number)
    await site.assert_ok()


async def test_if_clocks_differ_in_both_directions_ours_is_not_suspected(site):
    site.config = replace(site.config, peers=(knows(2), knows(3)), allow_skew_ns=100 * SECOND)
    for number, off in ((2, 80), (3, -80)):
        await site.start(number, config=replace(make_config(number), allow_skew_ns=10 * MINUTE), off=off)
    codes = [finding.code for finding in await site.examine()]
    assert codes.count(Code.PEER_CLOCK_SKEW) == 2
    assert Code.OWN_CLOCK_SKEW not in codes


async def test_a_node_with_two_keys_is_one_peer(site):
    site.config = replace(site.config, peers=(knows(3, destination=TWO), knows(2)))
    await site.start()
    (finding,) = await site.examine()
    assert (finding.code, finding.where) == (Code.PEER_OK, TWO)


async def test_findings_about_peers_are_reported_before_the_wait_for_further_replies(site):
    await site.start()
    found, stops = [], []
    signer, bus = Signer(site.config, time.time_ns), site.broker.connect()
    options = {"timeout": LONG, "on_listening": stops.append}
    survey = PeerSurvey(bus, site.config, signer, {"**": site.config.peers}, **options)
    running = spawn(survey.run(lambda *findings: found.extend(findings)), name="survey")
    await until(lambda: found or running.done())
    assert (found[0].code, running.done()) == (Code.PEER_OK, False)
    stops[0]()
    await running
    assert len(found) == 1


async def test_an_interrupted_survey_reports_the_peers_that_have_replied(site):
    site.config = replace(site.config, peers=(knows(2), knows(3)))
    await site.start()
    found = []
    signer, bus = Signer(site.config, time.time_ns), site.broker.connect()
    survey = PeerSurvey(bus, site.config, signer, {"**": site.config.peers}, timeout=LONG)
    running = spawn(survey.run(lambda *findings: found.extend(findings)), name="survey")
    await until(lambda: survey._answers or running.done())
    assert not found
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [(finding.code, finding.where) for finding in found] == [(Code.PEER_OK, TWO)]


async def test_several_destinations_are_asked_at_once_and_reported_once_all_have_replied(site):
    site.config = replace(site.config, peers=(knows(2), knows(3)))
    await site.start(2)
    requests, found, stops = {}, [], []
    bus = site.broker.connect()
    await bus.subscribe("remaphore.all", lambda raw: requests.update({wire.decode(raw).destination: raw}))
    asked = {peer.destination: [peer] for peer in site.config.peers}
    options = {"timeout": LONG, "on_listening": stops.append}
    survey = PeerSurvey(bus, site.config, Signer(site.config, time.time_ns), asked, **options)
    running = spawn(survey.run(lambda *findings: found.extend(findings)), name="survey")
    await until(lambda: len(site.broker.published) == 3)  # two requests, and the reply of one peer
    await asyncio.sleep(0.01)
    assert (set(requests), found, stops) == ({NAMES[2], NAMES[3]}, [], [])
    raw = requests[NAMES[3]]
    reply = make_encoded_reply(3, wire.decode(raw).message(), time_ns=time.time_ns())
    await bus.publish(f"remaphore.{wire.digest(raw).hex()}", reply)
    await until(lambda: stops)
    assert {finding.where for finding in found} == {NAMES[2], NAMES[3]}
    stops[0]()
    async with asyncio.timeout(LONG / 2):
        await running


async def test_one_of_several_destinations_that_is_silent_is_reported(site):
    site.config = replace(site.config, peers=(knows(2), knows(3)))
    site.asked = (NAMES[2], NAMES[3])
    await site.start(3)
    assert [(found.code, found.where) for found in await site.examine(timeout=SOME)] == [
        (Code.PEER_SILENT, NAMES[2]),
        (Code.PEER_OK, NAMES[3]),
    ]


async def test_two_machines_with_one_destination_and_different_keys_are_an_error(site):
    site.config = replace(site.config, peers=(knows(2), knows(3, destination=TWO)))
    await site.start(2)
    await site.start(3, config=replace(make_config(3), destination=TWO))
    findings = await site.examine(replies=2)
    (finding,) = [finding for finding in findings if finding.code is Code.PEER_SEVERAL_MACHINES]
    assert (finding.where, finding.level) == (TWO, Level.ERROR)
    assert "2 machines reply as this peer, with different keys" in finding.what
    assert finding.facts["keys"] == sorted(make_key(number).public for number in (2, 3))
    assert len({run["invocation"] for run in finding.facts["invocations"]}) == 2
    assert [finding.code for finding in findings].count(Code.PEER_OK) == 1


async def test_a_clone_of_a_machine_with_two_instances_is_told_from_the_instances(site):
    for machine in ("", "copy"):
        for instance in ("a", "b"):
            await site.start(machine=machine + instance, instance=instance)
    (finding,) = [finding for finding in await site.examine(replies=4) if finding.where == TWO and finding.hint]
    assert finding.code is Code.PEER_SEVERAL_MACHINES
    assert [run["instance"] for run in finding.facts["invocations"]].count("a") == 2


async def test_a_request_that_the_broker_delivers_twice_makes_no_second_machine(site):
    await site.start()
    bus, again = site.broker.connect(), []

    def repeat(raw):
        digest = wire.digest(raw).hex()

        async def once_answered():
            await until(lambda: any(subject.endswith(digest) for subject, _ in site.broker.published))
            await bus.publish("remaphore.all", raw)

        if not again:
            again.append(spawn(once_answered(), name="repeat"))

    await bus.subscribe("remaphore.all", repeat)
    findings = await site.examine(replies=3)  # the reply, the request again, and the same reply again
    assert [finding.code for finding in findings] == [Code.PEER_OK]


async def test_a_rejection_is_a_finding_and_runs_nothing_there(site):
    ran = []

    class Runs:
        @hookimpl
        def remaphore_message(self, message):
            ran.append(message.verb)
            return Reply(0, b"")

    await site.start(config=make_config(2, peers=(knows(1, "deploy"),)), plugins=(), own=Runs)
    assert await site.found(Code.PERMISSIONS_REJECTED)
    assert ran == []


async def test_no_other_verb_than_permissions_is_ever_sent(site):
    site.config = replace(site.config, identities=(*site.config.identities, *make_config(3).identities))
    await site.examine(timeout=BRIEF)
    sent = [wire.decode(raw) for subject, raw in site.broker.published if subject == "remaphore.all"]
    assert len(sent) == 2  # with each of our keys, as no peer replies
    assert {(frame.verb, frame.wants_reply) for frame in sent} == {("permissions", True)}


async def test_a_peer_that_runs_the_go_implementation_may_be_silent(site):
    site.config = replace(site.config, peers=(knows(2, legacy=True),))
    (finding,) = await site.examine(timeout=BRIEF)
    assert (finding.level, finding.code, finding.hint) == (Level.NOTE, Code.PEER_SILENT, "remaphore ping com.two")


async def test_an_old_reply_of_the_go_implementation_is_dropped(site):
    site.config = replace(site.config, peers=(knows(2, legacy=True),))
    await respond(site, 2, accepts={US}, uuid=b"random", time_ns=time.time_ns() - 2 * site.config.allow_skew_ns)
    assert await site.found(Code.PEER_SILENT, timeout=SOME)


async def test_few_signatures_are_verified_in_a_flood_of_replies_from_strangers(site, monkeypatch):
    await site.start()
    checked = []
    verify = wire.verify
    monkeypatch.setattr(wire, "verify", lambda frame: checked.append(frame.sender) or verify(frame))
    bus = site.broker.connect()

    def flood(raw):
        request = wire.decode(raw).message()
        reply = make_encoded_reply(9, request, time_ns=time.time_ns())
        for _ in range(1000):
            spawn(bus.publish(f"remaphore.{request.digest.hex()}", reply), name="flood")

    await bus.subscribe("remaphore.all", flood)
    assert await site.found(Code.PEER_OK)
    assert 0 < checked.count(make_key(9).public) <= 100


@pytest.mark.parametrize(("number", "fields"), [(9, {}), (2, {"uuid": b"random"})])
async def test_a_reply_with_an_invalid_signature_accuses_no_peer(site, number, fields):
    bus = site.broker.connect()

    def forge(raw):
        request = wire.decode(raw).message()
        forged = make_encoded_reply(number, request, time_ns=time.time_ns(), **fields).replace(b"ok", b"no")
        spawn(bus.publish(f"remaphore.{request.digest.hex()}", forged), name="forgery")

    await bus.subscribe("remaphore.all", forge)
    codes = {finding.code for finding in await site.examine(timeout=SOME)}
    assert codes == {Code.PEER_SILENT, Code.NO_REPLIES}


async def test_a_finding_is_one_json_object_of_plain_values(site):
    await site.start()
    (finding,) = await site.examine()
    assert json.loads(json.dumps(dict(finding.facts)))["version"]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    "name", ["com.$(touch made)", "com.a;touch made", "com.`touch made`", "'touch made'", "-c/etc"]
)
def test_a_destination_in_a_command_of_a_hint_is_one_argument(tmp_path, name, legacy):
    """Another node chose its destination, and the hint is pasted into a shell."""
    peer = Peer(destination=name, key=make_key(2).public, verbs=frozenset(), legacy=legacy)
    hint = replies.judge_silent(make_config(1), peer, timeout=1).hint.rpartition("; ")[2]
    shell = f'remaphore() {{ printf "%s\\n" "$@" >arguments; }}; {hint}'
    subprocess.run(["sh", "-ec", shell], check=True, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["arguments"]
    assert (tmp_path / "arguments").read_text().splitlines()[-1].removeprefix("--to=") == name
    typed = (tmp_path / "arguments").read_text().splitlines()
    assert arguments.read(typed).to in (name, (name,))


def test_a_node_that_is_its_own_peer_and_runs_no_daemon_is_told_apart_from_the_others():
    config = make_config(1)
    peer = Peer(destination=config.destination, key=config.identity().key, verbs=frozenset())
    finding = replies.judge_silent(config, peer, timeout=1)
    assert (finding.level, finding.code) == (Level.WARNING, Code.PEER_SILENT)
    assert finding.what.startswith("no reply within 1 s from this node itself")


async def test_the_key_of_a_stranger_is_compared_on_the_node_and_never_copied_from_the_report(site):
    await has_a_new_key(site)
    (finding,) = await site.found(Code.UNKNOWN_KEY, timeout=SOME)
    assert "run remaphore peer show there, and add the line that it prints, not this key" in finding.hint
    assert KEY not in finding.hint
