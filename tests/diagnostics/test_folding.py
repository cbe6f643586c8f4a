"""Equal findings of several peers as one line, with their names in short."""

from dataclasses import replace

from remaphore.diagnostics.findings import Code, Finding, Level, to_line
from remaphore.diagnostics.folding import fold
from remaphore.diagnostics.replies import judge_silent
from remaphore.protocol.peers import Peer
from tests.harness.nodes import make_config

WEB = [f"com.example.web.{number}" for number in range(1, 13)]


def lines(findings):
    return [to_line(finding) for finding in fold(findings)]


def silent(name, **fields):
    peer = Peer(destination=name, key=f"key of {name}", verbs=frozenset(fields.pop("verbs", "a")), **fields)
    return judge_silent(make_config(1), peer, timeout=5)


def test_twelve_silent_peers_are_one_line_whose_hint_is_for_each_of_them():
    (line,) = lines(map(silent, WEB))
    assert line.startswith("warning  com.example.web.[1-12] (12): no reply within 5 s; we permit it a.")
    assert line.endswith(" --verb permissions --to=DESTINATION")
    assert "web.1" not in line.partition(": ")[2]


def test_what_differs_is_not_folded():
    differing = [
        silent("com.a"),
        silent("com.b", verbs="b"),
        silent("com.c", legacy=True),
        replace(silent("com.d"), level=Level.ERROR),
        replace(silent("com.e"), code=Code.PEER_REJECTS),
        replace(silent("com.f"), hint="another"),
    ]
    assert fold(differing) == differing


def test_a_single_finding_is_unchanged_and_all_are_in_the_order_of_the_first():
    findings = [silent("com.b"), silent("com.z", legacy=True), silent("com.a"), silent("com")]
    assert [finding.where for finding in fold(findings)] == ["com,com.a,com.b (3)", "com.z"]
    assert fold(findings)[1] is findings[1]


def test_what_was_measured_becomes_a_range():
    def replies(name, round_trip, skew):
        facts = {"round_trip_ms": round_trip, "skew_ms": skew, "permits_us": ["*"], "bound": True}
        what = f"replies in {round_trip} ms; we permit it *"
        return Finding(Level.OK, Code.PEER_OK, name, what, facts=facts, common="replies; we permit it *")

    findings = [replies("com.1", 2.5, -1.0), replies("com.2", 0.25, 0.5), replies("com.3", 1.0, 0.0)]
    assert lines(findings) == [
        "ok       com.[1-3] (3): replies; we permit it *; round trip 0.2 to 2.5 ms, skew -1.0 to 0.5 ms"
    ]
