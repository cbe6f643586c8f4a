"""A payload that the sender may not send with this verb, written so that it might pass for one that it may.

Attacker: a permitted peer gone bad. What must happen: payloads are compared byte by byte, and patterns with the whole
payload; nothing runs, and a permitted payload still does.
"""

from dataclasses import replace

import pytest

from remaphore.protocol.drop import DropReason
from remaphore.protocol.payloads import PayloadRule
from remaphore.protocol.peers import Peer
from tests.harness.factories import make_encoded, make_key, sign_again
from tests.harness.nodes import make_config

RULE = PayloadRule.of(payloads=["stop"], pattern="v[0-9]{1,4}( --dry-run)?")
DISGUISES = [
    *(b"", b"start", b"stop\n", b"stop\0", b" stop", b"STOP", b"stop\r\n", b"stop,stop", b"stopp", b"sto"),
    *(
        b"v1\n",
        b"v1\nv1",
        b"\nv1",
        b"v1\0; id",
        b"v1 --dry-run --force",
        b"v12345",
        b"v",
        "v\N{ARABIC-INDIC DIGIT ONE}".encode(),
        b"v1\x85",
    ),
    *(
        b"\xff\xfev1",
        b"v1\xff",
        "v\N{FULLWIDTH DIGIT ONE}".encode(),
        b"v1 --dry-run ",
        b"v1\xc2\xa0--dry-run",
        b"$(v1)",
    ),
    *(b"v" + b"1" * 10_000, b"v1" + b" --dry-run" * 50, b"\0" * 1_000_000, b"1" * 1_000_000),
]


def ruled(verbs):
    peer = Peer(destination="com.one", key=make_key(1).public, verbs=frozenset(verbs), only={"deploy": RULE})
    return make_config(2, peers=(peer,))


@pytest.mark.parametrize("verbs", [{"deploy"}, {"*"}])
@pytest.mark.parametrize("flag", [True, False])
async def test_only_a_permitted_payload_runs(target, flag, verbs):
    async with target(ruled(verbs)) as daemon:
        for verb in ("deploy", "DEPLOY"):
            await daemon.hit(*(make_encoded(verb=verb, payload=text, wants_reply=flag) for text in DISGUISES))
        assert daemon.ran == []
        await daemon.hit(*(make_encoded(verb="deploy", payload=text) for text in (b"stop", b"v42", b"v42 --dry-run")))
        assert daemon.ran == [("deploy", b"stop"), ("deploy", b"v42"), ("deploy", b"v42 --dry-run")]


async def test_a_pattern_is_not_run_on_bytes_of_an_outsider(target, monkeypatch):
    seen = []
    permits = PayloadRule.permits
    monkeypatch.setattr(PayloadRule, "permits", lambda rule, payload: seen.append(payload) or permits(rule, payload))
    async with target(ruled({"deploy"})) as daemon:
        good = make_encoded(verb="deploy", payload=b"v1")
        await daemon.hit(good[:-1] + b"2", make_encoded(9, verb="deploy", payload=b"v3"))
        assert (seen, daemon.ran) == ([], [])


async def test_a_refused_payload_stays_refused_when_the_rule_is_gone(target):
    async with target(ruled({"deploy"})) as daemon:
        raw = make_encoded(verb="deploy", payload=b"start", wants_reply=True)
        await daemon.hit(raw)
        assert [b"payload-not-permitted" in reply for reply in daemon.replies()] == [True]
        (peer,) = ruled({"deploy"}).peers
        assert daemon.daemon.reload(lambda: make_config(2, peers=(replace(peer, only={}),)))
        await daemon.hit(raw, sign_again(raw))
        assert daemon.ran == []
        assert {drop.reason for drop in daemon.dropped} <= {
            *(DropReason.PAYLOAD_NOT_PERMITTED, DropReason.DUPLICATE, DropReason.REPLAYED)
        }
