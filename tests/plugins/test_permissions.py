"""A peer gets its own permissions, and nothing about other peers."""

import json
import time
from dataclasses import replace
from importlib.metadata import version

import pytest

from remaphore import Action, PluginError, Step
from remaphore.protocol.payloads import PayloadRule
from remaphore.protocol.peers import Peer
from remaphore.testing import PluginHarness, make_config, make_message
from remaphore_plugins.permissions import Permissions


def peers(*known):
    """Return peers with these destinations, keys and verbs."""
    return tuple(Peer(destination=name, key=key, verbs=frozenset(verbs)) for name, key, verbs in known)


KNOWN = peers(("com.ann", "key-of-ann", ["permissions", "deploy"]), ("com.bob", "key-of-bob", ["reboot", "wipe"]))


async def ask(config, sender, **options):
    async with PluginHarness(Permissions, config=config, **options) as harness:
        return await harness.message(make_message("permissions", sender=sender, sender_name="com.ann"))


async def test_the_reply_has_the_permissions_of_the_requester():
    config = make_config("com.here", peers=KNOWN, allow_skew_ns=5_000_000_000)
    before = time.time_ns()
    reply = await ask(config, "key-of-ann")
    told = json.loads(reply.output)
    assert reply.exit_code == 0
    assert before <= told.pop("time_ns") <= time.time_ns()
    assert told == {
        "schema": 1,
        "destination": "com.here",
        "known_as": "com.ann",
        "verbs": ["deploy", "permissions"],
        "only": {},
        "allow_skew_ns": 5_000_000_000,
        "version": version("remaphore"),
        "invocation": "0123456789abcdef",
        "instance": "main",
    }


async def test_the_reply_has_the_payload_rules_of_the_requester_as_the_configuration_has_them():
    rules = {
        "deploy": PayloadRule.of(payloads=["stop", ""], pattern="v[0-9]{1,4}", max_length=9),
        "status": PayloadRule.of(max_length=1),
    }
    known = (replace(KNOWN[0], only=rules), replace(KNOWN[1], only={"wipe": PayloadRule.of(payloads=["all"])}))
    told = json.loads((await ask(make_config("com.here", peers=known), "key-of-ann")).output)
    assert told["only"] == {
        "deploy": {"payloads": ["", "stop"], "pattern": "v[0-9]{1,4}", "max_length": 9},
        "status": {"max_length": 1},
    }


async def test_nothing_is_told_about_others():
    reply = await ask(make_config("com.here", peers=KNOWN), "key-of-ann")
    for hidden in (b"bob", b"reboot", b"wipe", b"key-of"):
        assert hidden not in reply.output


async def test_the_first_table_of_a_key_counts_as_it_does_at_the_gate():
    twice = peers(("com.ann", "key-of-ann", ["permissions"]), ("com.other", "key-of-ann", ["reboot"]))
    told = json.loads((await ask(make_config(peers=twice), "key-of-ann")).output)
    assert (told["known_as"], told["verbs"]) == ("com.ann", ["permissions"])


async def test_a_requester_removed_in_the_meantime_has_no_permissions():
    told = json.loads((await ask(make_config(peers=KNOWN), "key-of-no-peer")).output)
    assert (told["known_as"], told["verbs"]) == ("", [])


async def test_after_a_reload_the_reply_has_the_new_permissions():
    config = make_config(peers=KNOWN)
    async with PluginHarness(Permissions, config=config) as harness:
        harness.reloaded(replace(config, peers=peers(("com.ann", "key-of-ann", ["permissions"]))))
        reply = await harness.message(make_message("permissions", sender="key-of-ann"))
    assert json.loads(reply.output)["verbs"] == ["permissions"]


async def test_other_verbs_are_left_to_other_plugins():
    async with PluginHarness(Permissions, config=make_config(peers=KNOWN)) as harness:
        assert await harness.message(make_message("deploy")) is None
        assert harness.plan(make_message("deploy")) is None
        assert harness.plan(make_message("permissions")) == [Step(action=Action.RUN, name="plugin permissions")]


async def test_a_setting_is_an_error_because_there_is_none():
    with pytest.raises(PluginError, match=r"plugins\.plugin\.tell: unknown key") as caught:
        await ask(make_config(), "key-of-ann", settings={"tell": "all"})
    assert caught.value.hint == "it has no settings: delete [plugins.plugin]"
