"""A verb that the sender may not send, written so that it might pass for one that it may.

Attacker: a permitted peer gone bad. What must happen: verbs are compared letter by letter, nothing runs, and a
permitted verb still does.
"""

import pytest

from remaphore.protocol.peers import Peer
from tests.harness.factories import make_encoded, make_key
from tests.harness.nodes import make_config

DISGUISES = [
    "deploy",
    "PING",
    "Ping",
    " ping",
    "ping ",
    "ping\n",
    "ping\0",
    "pinġ",
    "ping/../deploy",
    "*",
    "",
    "reply",
    "p",
]


@pytest.mark.parametrize("flag", [True, False])
async def test_only_the_permitted_verb_runs(target, flag):
    peer = Peer(destination="com.one", key=make_key(1).public, verbs=frozenset({"ping"}))
    async with target(make_config(2, peers=(peer,))) as daemon:
        await daemon.hit(*(make_encoded(verb=verb, wants_reply=flag) for verb in DISGUISES))
        assert daemon.ran == []
        await daemon.hit(make_encoded(payload=b"allowed"))
        assert daemon.ran == [("ping", b"allowed")]


async def test_a_peer_without_verbs_runs_nothing(target):
    peer = Peer(destination="com.one", key=make_key(1).public, verbs=frozenset())
    async with target(make_config(2, peers=(peer,))) as daemon:
        await daemon.hit(make_encoded(), make_encoded(verb="*"), make_encoded(verb=""))
        assert daemon.ran == []


async def test_an_outsider_runs_nothing_by_naming_a_known_key(target):
    async with target() as daemon:
        signed_by_another = make_key(1).public.encode() + b"," + make_encoded(9).split(b",", 1)[1]
        await daemon.hit(make_encoded(9), signed_by_another)
        assert daemon.ran == []
