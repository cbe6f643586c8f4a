"""The rules: what is permitted is the union of the rules that name a caller, and nothing else."""

from __future__ import annotations

import grp
import pwd
from dataclasses import replace

import pytest

from remaphore.agent.credentials import Caller
from remaphore.agent.refusal import RefusedError
from remaphore.agent.rules import Rules, Wish, resolve
from remaphore.config.settings import AgentRule, AgentSettings, Identity
from remaphore.protocol.payloads import PayloadRule
from tests.harness.factories import make_key
from tests.harness.nodes import make_config

OWN, SECOND = make_key(1).public, make_key(4).public
SEND = Wish(operation="send", verb="deploy", to="com.example.a")
CALLER = Caller(pid=1, uid=1000, gid=1000, groups=frozenset({50}))


def rule(**fields):
    given = {"user": "1000", "do": {"send"}, "verbs": {"deploy"}, "to": ("com.example.*",), "path": "agent.allow[0]"}
    given |= fields
    if "group" in fields:
        given["user"] = ""
    return AgentRule(**{**given, "do": frozenset(given["do"]), "verbs": frozenset(given["verbs"])})


def rules_of(*allow):
    second = Identity(key=SECOND, verbs=frozenset("*"), load=lambda: make_key(4))
    config = make_config(1)
    return Rules(replace(config, identities=(*config.identities, second), agent=AgentSettings(allow=allow)))


def refused(rules, wish=SEND, caller=CALLER):
    with pytest.raises(RefusedError) as error:
        rules.permit(caller, wish)
    assert error.value.kind == "refused"
    return str(error.value)


def test_nothing_is_permitted_by_default_also_not_to_root():
    assert "no rule names you" in refused(rules_of())
    assert "no rule names you" in refused(rules_of(rule()), caller=Caller(pid=1, uid=0, gid=0))


@pytest.mark.parametrize(
    "caller",
    [Caller(pid=1, uid=1, gid=50), Caller(pid=1, uid=1, gid=1, groups=frozenset({50, 60}))],
    ids=["primary", "supplementary"],
)
def test_a_group_is_the_primary_or_a_supplementary_one(caller):
    rules = rules_of(rule(group="50"))
    assert rules.permit(caller, SEND).rule == "agent.allow[0]"
    refused(rules, caller=Caller(pid=50, uid=50, gid=1))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (SEND, ""),
        (replace(SEND, operation="request"), "permits you to request"),
        (replace(SEND, verb="Deploy"), "'Deploy'"),
        (replace(SEND, verb="*"), "every verb"),
        (replace(SEND, to="com.example.a.b"), "reaches more"),
        (replace(SEND, to="com.example.**"), "reaches more"),
        (replace(SEND, to="com.*.a"), "reaches more"),
        (replace(SEND, to=""), "reaches more"),
        (replace(SEND, key=OWN), ""),
        (replace(SEND, key=SECOND), "sign with"),
    ],
)
def test_each_word_of_a_rule_narrows_it(wish, words):
    rules = rules_of(rule())
    assert words in refused(rules, wish) if words else rules.permit(CALLER, wish)


def test_a_rule_with_an_identity_signs_with_it_and_with_no_other():
    rules = rules_of(rule(identity=SECOND))
    assert rules.permit(CALLER, SEND).identity == SECOND
    assert rules.permit(CALLER, replace(SEND, key=SECOND)).identity == SECOND
    assert "sign with" in refused(rules, replace(SEND, key=OWN))


def test_two_rules_do_not_mix():
    rules = rules_of(rule(verbs={"a"}, to=("com.a",)), rule(verbs={"b"}, to=("com.b",), path="agent.allow[1]"))
    assert rules.permit(CALLER, replace(SEND, verb="b", to="com.b")).rule == "agent.allow[1]"
    refused(rules, replace(SEND, verb="a", to="com.b"))
    refused(rules, replace(SEND, verb="b", to="com.a"))


def test_a_payload_rule_binds_send_and_request_under_every_verb():
    only = PayloadRule.of(payloads=["v1"])
    rules = rules_of(rule(payload=only, verbs={"*"}, do={"send", "request", "receive"}))
    for operation in ("send", "request"):
        assert rules.permit(CALLER, replace(SEND, operation=operation, payload=b"v1"))
        for payload in (b"", b"v1\n", b"v11"):
            assert "payload" in refused(rules, replace(SEND, operation=operation, payload=payload))
    assert rules.permit(CALLER, Wish(operation="receive", verb="deploy"))


def test_names_are_looked_up_and_numbers_are_not_needed_to_exist():
    user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name
    assert resolve(rule(user=user)) == (0, None, None)
    assert resolve(rule(group=group)) == (None, 0, None)
    assert resolve(rule(user="4000000000")) == (4_000_000_000, None, None)


@pytest.mark.parametrize("fields", [{"user": "no-such-user"}, {"group": "no-such-group"}, {"user": "65534"}])
def test_a_rule_that_can_name_none_permits_nothing_and_is_reported(fields):
    rules = rules_of(rule(**fields))
    assert len(rules.problems) == 1
    assert rules.problems[0].hint
    refused(rules, caller=Caller(pid=1, uid=65534, gid=65534))
