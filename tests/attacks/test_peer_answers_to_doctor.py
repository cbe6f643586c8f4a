"""Replies to `doctor`, which asks a peer what it permits us, that could crash it or flood its output.

Attacker: a known peer that is asked. What must happen: each finding is one readable line, however much the peer writes,
and strict JSON; a clock that is wrong by centuries is reported.
"""

import json
import time

import pytest

from remaphore.diagnostics.findings import Code, to_line
from remaphore.diagnostics.probe import MAX_FURTHER_REPLIES
from remaphore.protocol import wire
from remaphore.tasks import spawn
from tests.diagnostics.doctor_cases import REPORTED, TWO, US, DoctorSite, respond
from tests.harness.factories import make_encoded_reply

LONGEST = 1500  # characters of a line, however much a peer says


@pytest.fixture
async def site(tmp_path):
    site = DoctorSite(tmp_path)
    yield site
    await site.stop()


def reported(**changes):
    return b"0," + json.dumps(json.loads(REPORTED) | changes).encode()


NONSENSE = {
    "not JSON": b"0,nonsense",
    "deeply nested": b"0," + b"[" * 200_000,
    "deeply nested verbs": b'0,{"verbs":[' + b"[" * 900 + b"]" * 900 + b"]}",
    "a number of many digits": b'0,{"verbs":[' + b"9" * 100_000 + b"]}",
    "verbs that are none": reported(verbs=[None, {"a": []}, 1.5]),
    "no number": b'0,{"verbs":[NaN,Infinity],"version":NaN}',
    "half a character": b'0,{"verbs":["\\ud800"],"known_as":"\\udfff"}',
    "not UTF-8": b"0,\xff\xfe\xff",
    "UTF-16": b"0," + '{"verbs":[]}'.encode("utf-16"),
    "a list": b"0,[]",
    "a schema of tomorrow": reported(schema=2),
    "a schema that is none": reported(schema=[1]),
    "many verbs": reported(verbs=["x" * 100] * 9000),
    "one long verb": reported(verbs=["x" * 900_000]),
    "long names": reported(known_as="x" * 300_000, destination="y" * 300_000, version="z" * 300_000),
    "names that are none": reported(known_as=["x"] * 100_000, destination={}, version=[1] * 100_000),
    "a long rejection": b"77,remaphore: refused: " + b"x" * 900_000,
    "a long rejection of our time": b"77,remaphore: refused: outside-window: " + b"x" * 900_000,
    "a rejection that is not UTF-8": b"77,remaphore: refused: \xff\xfe",
    "no exit code": b"x" * 900_000,
}


@pytest.mark.parametrize("payload", NONSENSE.values(), ids=NONSENSE)
async def test_whatever_a_peer_says_each_finding_is_a_line_that_can_be_read_and_strict_json(site, payload):
    await respond(site, 2, accepts={US}, payload=payload)
    found = await site.examine()
    assert Code.PEER_OK in {finding.code for finding in found}
    assert max(len(to_line(finding)) for finding in found) < LONGEST
    for finding in found:
        json.dumps([finding.what, dict(finding.facts)], allow_nan=False)


async def test_a_peer_that_replies_very_often_is_one_line_and_few_of_its_replies_are_verified(site, monkeypatch):
    checked, verify = [], wire.verify
    monkeypatch.setattr(wire, "verify", lambda frame: checked.append(frame.sender) or verify(frame))
    for number in range(100):
        run = {"invocation": f"{number:016x}", "instance": f"{number}".rjust(64, "x")}
        await respond(site, 2, accepts={US}, payload=reported(**run))
    found = await site.examine(replies=100)
    (finding,) = [finding for finding in found if finding.code is Code.PEER_SEVERAL_INSTANCES]
    assert len(to_line(finding)) < LONGEST
    assert 0 < checked.count(finding.facts["keys"][0]) <= 1 + MAX_FURTHER_REPLIES


async def test_a_forged_further_reply_makes_no_second_machine(site):
    run = {"invocation": "a" * 16, "instance": "main"}
    await respond(site, 2, accepts={US}, payload=reported(**run))
    bus = site.broker.connect()

    def forge(raw):
        request = wire.decode(raw).message()
        genuine = make_encoded_reply(2, request, time_ns=time.time_ns(), payload=reported(**run))
        forged = genuine.replace(b"a" * 16, b"b" * 16)
        other = make_encoded_reply(2, request, time_ns=time.time_ns(), uuid=b"other", payload=reported())
        for data in (forged, other):  # the second one is a genuine reply to another request
            spawn(bus.publish(f"remaphore.{request.digest.hex()}", data), name="forgery")

    await bus.subscribe("remaphore.all", forge)
    assert {finding.code for finding in await site.examine(replies=3)} == {Code.PEER_OK}


@pytest.mark.parametrize("year", [1678, 1970, 2100, 2262])
async def test_a_clock_in_another_age_is_reported_as_such(site, year):
    away = (year - 1970) * 31_556_952 * 10**9
    await respond(site, 2, accepts={US}, time_ns=away)
    (finding,) = await site.found(Code.PEER_CLOCK_SKEW)
    assert finding.where == TWO
    assert (" ahead of ours" in finding.what) == (away > time.time_ns())
