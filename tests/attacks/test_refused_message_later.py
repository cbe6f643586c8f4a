"""A message that was rejected, sent again when it would be accepted.

Attacker: the broker and every outsider, who keep what they saw. When: after a reload that permits the verb; when the
clock has reached a time in the future; after a queue that was full has room. What must happen: a requester that was
told "rejected" can rely on it: the message never starts.
"""

from dataclasses import replace

import pytest

from remaphore.config.settings import VerbSettings
from remaphore.protocol.duration import MINUTE
from remaphore.protocol.peers import Peer
from tests.harness.factories import NOW, SKEW, make_encoded, make_key, sign_again
from tests.harness.nodes import make_config


def knowing(*verbs):
    return make_config(2, peers=(Peer(destination="com.one", key=make_key(1).public, verbs=frozenset(verbs)),))


@pytest.mark.parametrize("again", [lambda raw: raw, sign_again])
async def test_a_verb_that_is_permitted_later_does_not_start_what_was_rejected(target, again):
    async with target(knowing("ping")) as daemon:
        raw = make_encoded(verb="deploy", payload=b"v42", wants_reply=True)
        await daemon.hit(raw)
        assert len(daemon.replies()) == 1
        daemon.daemon.reload(lambda: knowing("ping", "deploy"))
        await daemon.hit(again(raw))
        assert daemon.ran == []
        await daemon.hit(make_encoded(verb="deploy", payload=b"v43", time_ns=NOW + 1))
        assert daemon.ran == [("deploy", b"v43")]


@pytest.mark.parametrize("ahead", [SKEW + 1, MINUTE, 10 * MINUTE])
async def test_a_message_from_the_future_does_not_start_when_its_time_comes(target, ahead):
    async with target() as daemon:
        raw = make_encoded(time_ns=NOW + ahead, wants_reply=True)
        await daemon.hit(raw)
        assert len(daemon.replies()) == 1
        daemon.clock.set(NOW + ahead)
        await daemon.hit(raw, sign_again(raw))
        assert daemon.ran == []


async def test_a_larger_window_does_not_start_what_was_rejected_as_too_old(target):
    async with target() as daemon:
        raw = make_encoded(time_ns=NOW - SKEW - 1, wants_reply=True)
        await daemon.hit(raw)
        daemon.daemon.reload(lambda: replace(make_config(2), allow_skew_ns=10 * MINUTE))
        await daemon.hit(raw, sign_again(raw))
        assert daemon.ran == []


async def test_what_a_full_queue_rejected_does_not_start_when_there_is_room(target):
    async with target(replace(make_config(2), verbs={"wait": VerbSettings(queue=1)})) as daemon:
        raws = [make_encoded(verb="wait", payload=b"%d" % n, time_ns=NOW + n, wants_reply=True) for n in range(3)]
        await daemon.hit(*raws)
        assert daemon.status.rejected["busy"] == 2  # the queue had room for one before its worker took that
        daemon.release.set()
        await daemon.quiet()
        await daemon.hit(*raws)
        daemon.clock.step(1)
        await daemon.hit(*map(sign_again, raws))
        assert daemon.ran == [("wait", b"0")]
