"""The explanation of a verdict: all checks of the gate, what decided each, and the gate's own reason and detail."""

from __future__ import annotations

import base64
import inspect
import json
import re
from pathlib import Path

import pytest

from remaphore.config import legacy, toml
from remaphore.diagnostics.explain import PLACEHOLDER, Contents, Explainer, State, ask_plan, what_decides
from remaphore.errors import EncodeError, PluginError
from remaphore.hooks.manager import empty, register
from remaphore.hooks.markers import hookimpl
from remaphore.hooks.plan import Action, Step
from remaphore.protocol import gate, keys, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import CHECKS, Check, Filters
from remaphore.protocol.message import Message
from remaphore.receiving.gates import make_gate
from tests.harness.factories import NOW, SKEW, body_of, make_encoded, make_key, make_message, sign_again, sign_body

ROOT = Path(__file__).parents[2]
VERDICTS = json.loads((ROOT / "tests" / "vectors" / "original.json").read_text())["verdicts"]
NAMES = [check.name for check in CHECKS]
# Reasons that the gate does not have: those of a full queue and of the requesting side.
ELSEWHERE = {
    DropReason.BUSY,
    DropReason.NOT_A_REPLY,
    DropReason.NOT_ASKED,
    DropReason.ANSWERED_ALREADY,
    DropReason.NOT_BOUND,
}
STEP = Step(action=Action.RUN, name="10-go", argv=("/hooks.d/ping/10-go", "ping", ""))

# The vectors by the reason that explains the expected verdict.
REASONS = {
    None: ("good", "good, other permitted verb"),
    DropReason.MALFORMED: (
        *("empty", "one field", "seven fields", "non-canonical: reply flag X for _", "non-canonical: reply flag empty"),
        *("non-canonical: time with plus sign", "non-canonical: time with leading zero"),
        *("non-canonical: time in upper case", "non-canonical: time with underscore"),
        *("non-canonical: uuid in upper case", "time over 64 bit", "uuid odd length", "uuid empty", "key not ascii"),
        *("mutation 1", "mutation 4", "mutation 6", "mutation 11", "mutation 12"),
    ),
    DropReason.UNKNOWN_SENDER: (
        *("key unknown", "key with leading 1", "key empty", "mutation 0", "mutation 7"),
        *("key followed by a space", "key followed by a newline", "key followed by a tab"),
    ),
    DropReason.VERB_NOT_PERMITTED: ("verb not permitted",),
    DropReason.OUTSIDE_WINDOW: ("time negative",),
    DropReason.BAD_SIGNATURE: (
        *("payload changed", "payload appended", "payload truncated", "reply flag Q for _", "signature changed"),
        *("signature not base58", "signature with leading 1", "signature empty", "signature followed by a space"),
        *("signature followed by a newline", "signature followed by a tab", "mutation 2", "mutation 3", "mutation 5"),
        *("mutation 8", "mutation 9", "mutation 10", "mutation 13", "mutation 14"),
    ),
}
REASON_OF = {name: reason for reason, names in REASONS.items() for name in names}


def read_toml(peers, head="", *, rule="", more=()):
    """Read a configuration of com.node in TOML; *peers*, and *more* after *rule*, are rows: destination, key, verbs."""
    text = f'destination = "com.node"\nservers = ["nats://h"]\nauth = "none"\n{head}[[identities]]\n'
    text += f'key = "{make_key(8).public}"\nprivate_key_file = "nosuch"\nverbs = ["*"]\n'
    known = [
        f'[[peers]]\ndestination = "{destination}"\nkey = "{key}"\nverbs = {json.dumps(verbs)}\n'
        for destination, key, verbs in (*peers, *more)
    ]
    text += "".join([*known[: len(peers)], rule, *known[len(peers) :]])
    return toml.parse(text, "node.toml", Path("/nosuch"))


def read_conf(peers, head=""):
    """Read the same in the legacy format: the destination is in line 1, the first peer in line 6 + *head*."""
    own = make_key(8)
    text = f"destination: com.node\nserver: h\n{head}credentials: c\n[Identities]\n{own.public} {own.reveal()} [*]\n"
    text += "[Peers]\n" + "".join(f"{name} {key} [{','.join(verbs)}]\n" for name, key, verbs in peers)
    return legacy.parse(text, "node.conf")


PEERS = [("com.a", make_key(1).public, ["ping", "deploy"]), ("com.b", make_key(2).public, ["ping"])]
RULE = "[peers.only.ping]\nmax_length = 9\n"
TOML = read_toml(PEERS[:1], 'allow_skew = "5s"\n', rule=RULE, more=PEERS[1:])
CONF = read_conf(PEERS, "allow_skew: 5s\n")
STRICT = Filters(uuid=b"uuid", verbs=frozenset({"ping"}), sender=make_key(1).public)


def explainer(config=TOML, filters=STRICT, planned=None):
    def plan(message):
        if planned is not None:
            planned.append(message)
        return [STEP]

    return Explainer(config, filters=filters, plan=plan)


def states(explanation):
    return {finding.check: finding.state for finding in explanation.checks}


def failed(explanation):
    (finding,) = [finding for finding in explanation.checks if finding.state is State.FAILED]
    return finding


def places(explanation):
    return {finding.check: finding.decided_by for finding in explanation.checks}


# The list is the gate's own.


def test_every_check_of_the_gate_is_shown_in_its_order():
    explanation = explainer().explain(make_encoded(), now=NOW)
    assert [finding.check for finding in explanation.checks] == NAMES
    documented = re.findall(r"^\s*\d+\. ([\w-]+):", gate.Gate.__doc__ or "", re.MULTILINE)
    assert documented == NAMES


def test_the_gate_has_no_check_outside_the_list():
    values = [value for value in vars(gate).values() if isinstance(value, Check)]
    groups = [value for value in vars(gate).values() if isinstance(value, tuple)]
    assert {*values, *(check for group in groups for check in group if isinstance(check, Check))} == set(CHECKS)
    assert {check.reason for check in CHECKS} == set(DropReason) - ELSEWHERE
    assert len({check.reason for check in CHECKS}) == len(CHECKS) == len(set(NAMES))


def test_every_check_has_something_that_decides_it():
    for peer in (None, *TOML.peers):
        decided_by = what_decides(TOML, Filters(), peer)
        assert list(decided_by) == NAMES
        assert all(decided_by.values())


@pytest.mark.places
@pytest.mark.parametrize("name", NAMES)
def test_the_check_has_a_message_that_fails_it_and_a_place_that_decides_it(name):
    assert f'"{name}":' in inspect.getsource(faulty), (
        f"tests/diagnostics/test_explain.py: faulty: add a message for {name}"
    )
    assert name in what_decides(TOML, Filters(), None), f"remaphore/diagnostics/explain.py: what_decides: add {name}"
    judge = make_gate(TOML, STRICT, subject="")
    *_, verdict = [judge.admit(raw, NOW) for raw in faulty(name)]
    reason = CHECKS[NAMES.index(name)].reason
    place = f"tests/diagnostics/test_explain.py: faulty: the last message of {name} must be dropped for {reason}"
    assert getattr(verdict, "reason", None) is reason, place


def faulty(name):
    """Return the messages, of which the last fails exactly the check *name*."""
    good = make_encoded()
    return {
        "shape": [good.replace(b",_,", b",X,", 1)],
        "request": [make_encoded(destination="")],
        "destination": [make_encoded(destination="org.*")],
        "own-key": [make_encoded(8)],
        "sender": [make_encoded(9)],
        "verb": [make_encoded(verb="reboot")],
        "time": [make_encoded(time_ns=NOW - SKEW - 1)],
        "filters": [make_encoded(uuid=b"other")],
        "duplicate": [good, good],
        "signature": [sign_body(body_of(good) + b"!").removesuffix(b"!")],
        "payload": [make_encoded(payload=b"ten bytes!")],
        "replay": [good, sign_again(good)],
    }[name]


@pytest.mark.parametrize(
    ("config", "name"),
    [*((TOML, name) for name in NAMES), *((CONF, name) for name in NAMES if name != "payload")],  # which it lacks
    ids=lambda value: value if isinstance(value, str) else "legacy" if value.legacy else "toml",
)
def test_checks_before_the_one_that_failed_passed_and_those_after_it_were_not_reached(config, name):
    judge = explainer(config)
    *_, explanation = [judge.explain(raw, now=NOW) for raw in faulty(name)]
    position = NAMES.index(name)
    expected = [State.PASSED] * position + [State.FAILED] + [State.NOT_REACHED] * (len(NAMES) - position - 1)
    assert list(states(explanation).values()) == expected
    assert (explanation.verdict, explanation.reason) == ("dropped", CHECKS[position].reason)


@pytest.mark.parametrize("name", ["", *NAMES])
def test_the_verdict_and_its_detail_are_the_gates(name):
    judge = explainer()
    own = make_gate(TOML, STRICT, subject="")
    for raw in faulty(name) if name else [make_encoded()]:
        explanation, verdict = judge.explain(raw, now=NOW), own.admit(raw, NOW)
        if isinstance(verdict, Drop):
            assert (explanation.reason, failed(explanation).detail) == (verdict.reason, verdict.detail)
        else:
            assert (explanation.reason, set(states(explanation).values())) == (None, {State.PASSED})
        assert explanation.size == len(raw)


# The vectors of the Go implementation.


def read_vectors(form):
    peers = [("com.peer", VERDICTS["peer_public_key"], VERDICTS["peer_verbs"])]
    return read_toml(peers, 'allow_skew = "1h"\n') if form == "toml" else read_conf(peers, "allow_skew: 1h\n")


def test_a_reason_is_named_for_each_vector():
    assert sorted(REASON_OF) == sorted(case["name"] for case in VERDICTS["cases"])


@pytest.mark.parametrize("form", ["toml", "conf"])
@pytest.mark.parametrize("case", VERDICTS["cases"], ids=lambda case: case["name"])
def test_each_vector_gets_the_expected_verdict_with_its_reason(case, form):
    judge = explainer(read_vectors(form), Filters(any_destination=True))
    explanation = judge.explain(base64.b64decode(case["encoded_b64"]), now=int(VERDICTS["now_ns"]))
    expected = {"accepted": "accepted", "rejected": "dropped"}[case["expected"]]  # the vectors' word
    assert (explanation.verdict, explanation.reason) == (expected, REASON_OF[case["name"]])


# What decided it.


@pytest.mark.places
def test_a_setting_is_named_by_its_path_in_toml():
    found = what_decides(TOML, Filters(), TOML.peers[1])
    expected = {
        "shape": "version 1 of the wire",
        "request": "version 1 of the wire",
        "destination": "node.toml: destination",
        "own-key": "node.toml: peers[1]",
        "sender": "node.toml: peers[1]",
        "verb": "node.toml: peers[1].verbs",
        "time": "node.toml: allow_skew",
        "filters": "no filter was given",
        "duplicate": "the messages explained before it",
        "signature": "node.toml: peers[1].key",
        "payload": "no payload rule for this verb",
        "replay": "the messages explained before it",
    }
    lacking = ", ".join(found.keys() - expected.keys())
    assert found == expected, f"tests/diagnostics/test_explain.py: {lacking}: write here what decides it"


def test_a_setting_is_named_by_its_line_in_the_legacy_format():
    found = places(explainer(CONF, Filters()).explain(make_encoded(2), now=NOW))
    lines = {name: found[name] for name in ("sender", "verb", "time", "destination", "signature")}
    peer = "node.conf:9"
    assert lines == {
        "sender": peer,
        "verb": peer,
        "signature": peer,
        "time": "node.conf:3",
        "destination": "node.conf:1",
    }


@pytest.mark.parametrize(("config", "place"), [(TOML, "node.toml: identities"), (CONF, "node.conf:5")])
def test_our_own_key_is_decided_by_the_list_of_identities_unless_a_peer_has_it(config, place):
    found = failed(explainer(config).explain(make_encoded(8), now=NOW))
    assert (found.check, found.decided_by) == ("own-key", place)
    listed = explainer(read_toml([*PEERS, ("com.node", make_key(8).public, ["ping"])]), Filters())
    explanation = listed.explain(make_encoded(8), now=NOW)
    assert (explanation.verdict, places(explanation)["own-key"]) == ("accepted", "node.toml: peers[2]")


@pytest.mark.parametrize(
    ("raw", "exact"),
    [
        (make_encoded(destination="com.node", verb="reboot"), True),
        (make_encoded(destination="com.node"), True),
        (make_encoded(destination="**", verb="reboot"), False),
        (make_encoded(destination="com.node*"), False),
        (b"garbage", False),
    ],
)
def test_an_explanation_states_whether_the_pattern_is_exactly_our_destination(raw, exact):
    assert explainer(filters=Filters()).explain(raw, now=NOW).exact is exact


@pytest.mark.parametrize(("config", "place"), [(TOML, "node.toml: peers"), (CONF, "node.conf:7")])
def test_an_unknown_key_is_decided_by_the_list_of_peers(config, place):
    assert failed(explainer(config).explain(make_encoded(9), now=NOW)).decided_by == place


@pytest.mark.parametrize(("read", "source"), [(read_toml, "node.toml"), (read_conf, "node.conf")])
def test_a_setting_that_the_file_does_not_have_is_called_a_default(read, source):
    late = make_encoded(time_ns=NOW - SKEW)
    assert (
        failed(explainer(read(PEERS)).explain(late, now=NOW)).decided_by
        == f"default (allow_skew is not set in {source})"
    )
    assert "peers is not set in" in failed(explainer(read_toml([])).explain(late, now=NOW)).decided_by


def test_of_a_key_that_is_listed_twice_the_first_line_is_named():
    twice = read_toml([*PEERS, ("com.c", make_key(1).public, ["reboot"])])
    explanation = explainer(twice).explain(make_encoded(verb="reboot"), now=NOW)
    assert failed(explanation).decided_by == "node.toml: peers[0].verbs"


@pytest.mark.parametrize(
    ("filters", "check", "place"),
    [
        (Filters(any_destination=True), "destination", "-d"),
        (Filters(pattern="**"), "destination", "-D"),
        (Filters(uuid=b"uuid"), "filters", "-u"),
        (Filters(verbs=frozenset({"ping"})), "filters", "-v"),
        (STRICT, "filters", "-u, -v, -p"),
    ],
)
def test_a_filter_is_named_by_its_option(filters, check, place):
    assert places(explainer(TOML, filters).explain(make_encoded(), now=NOW))[check] == place


def test_a_check_that_was_not_reached_has_no_place_and_no_detail():
    explanation = explainer().explain(make_encoded(9), now=NOW)
    later = explanation.checks[NAMES.index("sender") + 1 :]
    assert {(finding.decided_by, finding.detail) for finding in later} == {("", "")}


def test_a_payload_rule_is_named_by_its_table():
    explanation = explainer().explain(make_encoded(payload=b"ten bytes!"), now=NOW)
    assert failed(explanation).decided_by == "node.toml: peers[0].only.ping"
    assert places(explainer(filters=Filters()).explain(make_encoded(verb="deploy"), now=NOW))["payload"] == (
        "no payload rule for this verb"
    )


def test_a_question_assumes_that_the_payload_keeps_to_the_rule():
    asked = {
        verb: explainer(filters=Filters()).explain_question(sender=make_key(1).public, verb=verb, to="**", now=NOW)
        for verb in ("ping", "deploy")
    }
    assert states(asked["ping"])["payload"] is State.ASSUMED
    assert states(asked["deploy"])["payload"] is State.PASSED


# What would run.


def test_plugins_plan_for_accepted_messages_only():
    planned = []
    judge = explainer(planned=planned)
    for name in NAMES:
        judge.explain(faulty(name)[-1], now=NOW)
    good = make_encoded()  # the last of `faulty("duplicate")`, so it was accepted once
    assert [message.digest for message in planned] == [wire.digest(good)]


def test_the_steps_are_those_that_the_plugins_plan_for_the_message():
    planned = []
    explanation = explainer(planned=planned).explain(make_encoded(payload=b"v42"), now=NOW)
    assert explanation.steps == (STEP,)
    assert [(message.payload, message.sender_name, message.own_destination) for message in planned] == [
        (b"v42", "com.a", "com.node")
    ]
    assert explainer().explain(make_encoded(9), now=NOW).steps == ()


def test_all_plugins_are_asked_and_one_that_fails_is_named():
    class Good:
        @hookimpl
        def remaphore_plan(self, message):
            return [STEP]

    class Silent:
        @hookimpl
        def remaphore_plan(self):
            return None

    class Broken:
        @hookimpl
        def remaphore_plan(self):
            raise OSError("disk")

    plugins = empty()
    for name, plugin in {"good": Good, "silent": Silent, "other": Good}.items():
        register(plugins, plugin, name=name)
    assert ask_plan(plugins, make_message()) == [STEP, STEP]
    register(plugins, Broken, name="broken")
    with pytest.raises(PluginError, match="plugin 'broken': cannot state what it would do: OSError: disk"):
        ask_plan(plugins, make_message())


# The fields of a message.


def test_fields_are_verified_only_if_the_message_is_accepted():
    judge = explainer()
    good = make_encoded()
    assert judge.explain(good, now=NOW).contents is Contents.VERIFIED
    assert judge.explain(good, now=NOW).contents is Contents.CLAIMED
    forged = sign_body(body_of(good), 9).replace(make_key(9).public.encode(), make_key(1).public.encode(), 1)
    assert explainer().explain(forged, now=NOW).contents is Contents.CLAIMED


def test_a_malformed_message_has_no_fields():
    explanation = explainer().explain(b"\xff,", now=NOW)
    assert (explanation.frame, explanation.peer, explanation.size) == (None, None, 2)


# Questions without a message.


def ask(judge, number=1, **question):
    return judge.explain_question(
        sender=make_key(number).public, **({"verb": "ping", "to": "**", "now": NOW} | question)
    )


def test_a_question_is_answered_by_the_same_checks():
    judge = explainer()
    answer = ask(judge)
    assert (answer.verdict, answer.contents, answer.steps) == ("accepted", Contents.HYPOTHETICAL, (STEP,))
    assert list(states(answer)) == NAMES
    signature = answer.checks[NAMES.index("signature")]
    assert signature.detail == "assumed: there is no message whose signature could be verified"
    assumed = [check.check for check in answer.checks if check.state is State.ASSUMED]
    assert assumed == ["signature", "payload", "replay"]
    assert {state for name, state in states(answer).items() if name not in assumed} == {State.PASSED}


def test_a_question_is_not_remembered_and_can_be_repeated():
    judge = explainer()
    assert [ask(judge).verdict, ask(judge).verdict] == ["accepted", "accepted"]


def test_a_question_needs_no_private_key(monkeypatch):
    monkeypatch.setattr(keys.PrivateKey, "generate", None)
    monkeypatch.setattr(keys.PrivateKey, "sign", None)
    assert ask(explainer()).verdict == "accepted"


@pytest.mark.parametrize(
    ("number", "question", "reason"),
    [
        (9, {}, DropReason.UNKNOWN_SENDER),
        (1, {"verb": "reboot"}, DropReason.VERB_NOT_PERMITTED),
        (2, {"verb": "deploy"}, DropReason.VERB_NOT_PERMITTED),
        (1, {"to": "org.**"}, DropReason.NOT_ADDRESSED),
        (1, {"to": ""}, DropReason.NOT_A_REQUEST),
        (1, {"verb": "deploy"}, DropReason.FILTERED),
        (2, {}, DropReason.FILTERED),
        (1, {"now": 0}, None),
    ],
)
def test_a_question_is_dropped_for_the_reason_that_a_message_would_be(number, question, reason):
    assert ask(explainer(), number, **question).reason is reason


def test_every_message_is_dropped_if_the_allowed_skew_is_negative():
    config = legacy.parse(
        f"server: h\ncredentials: c\ndestination: d\nallow_skew: -1s\n[Identities]\n{make_key(8).public}"
        f" {make_key(8).reveal()} [*]\n[Peers]\ncom.a {make_key(1).public} [*]\n",
        "negative.conf",
    )
    answer = ask(explainer(config))
    assert (answer.reason, failed(answer).decided_by) == (DropReason.OUTSIDE_WINDOW, "negative.conf:4")


def test_a_question_with_values_that_no_message_can_carry_is_an_error():
    for question in ({"verb": "a,b"}, {"to": "a,b"}, {"verb": "v" * 300}):
        with pytest.raises(EncodeError):
            ask(explainer(), **question)


def test_a_question_plans_with_a_placeholder_and_does_not_affect_later_messages():
    planned = []
    judge = explainer(planned=planned)
    ask(judge)
    assert judge.explain(make_encoded(), now=NOW).verdict == "accepted"
    assert [message.payload for message in planned] == [PLACEHOLDER, b""]
    assert all(isinstance(message, Message) for message in planned)


def test_a_peer_is_found_by_its_destination_with_all_of_its_keys():
    judge = explainer(read_toml([*PEERS, ("com.a", make_key(3).public, ["ping"]), ("com.x", make_key(1).public, [])]))
    assert judge.senders("com.a") == (make_key(1).public, make_key(3).public)
    assert judge.senders("com.x") == ()  # its one key belongs to the line that counts
    assert judge.senders(make_key(1).public) == ()
