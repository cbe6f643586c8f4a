"""The options of `ping`, and the line of a reply."""

import json

import pytest

from remaphore import Reply
from remaphore.cli import arguments
from remaphore.cli.commands import ping
from remaphore.cli.commands.ping import Ping
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.diagnostics.pinger import PingStats
from remaphore.diagnostics.probe import Answer
from remaphore.errors import UsageError
from remaphore.protocol.ping import Invocation, format_reply

NASTY = "\x1b]0;title\x07\x9b31m\u202e\r\nline \udcff"


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("ping", Ping(interval=1.0, timeout=5.0)),
        (
            "ping -c f com.* --count 3 --interval 100ms --timeout 2s --json",
            Ping(config="f", to=("com.*",), count=3, interval=0.1, timeout=2.0, json=True),
        ),
        ("ping com.web.[1-3] com.db", Ping(to=("com.web.[1-3]", "com.db"))),
    ],
)
def test_the_options_are_read(typed, options):
    assert arguments.read(typed.split()) == options


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_a_count_is_a_whole_number_from_1_on(value):
    with pytest.raises(UsageError, match=r"is not a positive integer|expected one argument"):
        arguments.read(["ping", "--count", value])


def test_a_further_reply_of_a_peer_is_marked():
    output = format_reply(Invocation("0123456789abcdef", "main"), version="0.1.0", uptime_seconds=1)
    reply = Reply(0, output, peer="com.two")
    for further in (False, True):
        answer = Answer(reply=reply, round_trip_ns=1, skew_ns=0, further=further)
        assert (" seq=1 (DUP) time=" in ping.to_line(1, answer)) is further
        row = ping.to_row(1, answer)
        assert (row["duplicate"], row["invocation"], row["instance"]) == (further, "0123456789abcdef", "main")


def test_the_summary_folds_missing_peers_and_has_the_findings(capsys):
    stats = PingStats(pings=2)
    stats.asked.update({f"com.web.{number}": 2 for number in range(1, 13)})
    stats.answered.update({"com.web.1": 2, "com.web.2": 1})
    finding = Finding(Level.NOTE, Code.PEER_SEVERAL_INSTANCES, "com.web.1", "text", "do it")
    stats.note(finding)
    ping._write_summary(stats, to_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "remaphore: 2 pings, 3 of 24 answers",
        "remaphore: missing: com.web.[3-12], 2 of 2",
        "remaphore: missing: com.web.2, 1 of 2",
        "remaphore: round trip min/avg/max 0.0/0.0/0.0 ms",
        "remaphore: note: com.web.1: text",
        "remaphore: hint: do it",
    ]
    ping._write_summary(stats, to_json=True)
    row = json.loads(capsys.readouterr().out)
    assert [each["code"] for each in row["findings"]] == ["peer-several-instances"]
    assert len(row["missing"]) == 11


@pytest.mark.parametrize(
    "output", [NASTY.encode(errors="replace"), b"\xff\x1b[2J" * 1000, b"\n\r\n" + b"x" * 1_000_000, b""]
)
def test_a_reply_is_one_short_printable_line_whatever_a_peer_sends(output):
    reply = Reply(0, output, peer="com.two")
    line = ping.to_line(1, Answer(reply=reply, round_trip_ns=1, skew_ns=-(2**63)))
    assert line.startswith("com.two: seq=1 ")
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line) < 1000
