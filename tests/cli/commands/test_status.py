"""The options of `status`, its table and its exit codes."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import jsonschema
import pytest

from remaphore.cli import arguments
from remaphore.cli.commands import status
from remaphore.cli.commands.status import ShowStatus
from remaphore.diagnostics.status import Local, PeerStatus, Problem
from remaphore.errors import UsageError
from remaphore.protocol.drop import DropReason
from remaphore.protocol.status import Waiting
from remaphore.receiving.status_file import LocalStatus
from tests.harness.node_files import Entry, write_toml
from tests.protocol.test_status import ENDED, NEVER_BEGUN, RUNNING, STATUS, WAITING

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "status.schema.json").read_text())
DOCUMENT = jsonschema.Draft202012Validator(SCHEMA)
NASTY = "\x1b]0;title\x07\u202e\r\nline"
LOCAL = Local(LocalStatus(7, False, 10**18, 10**18, 5.0, STATUS), 2.5, stale=False)


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("status", ShowStatus()),
        ("status -c f --instance two --json", ShowStatus(config="f", instance="two", json=True)),
        ("status com.* com.web.[1-3] --timeout 2s", ShowStatus(to=("com.*", "com.web.[1-3]"), timeout=2.0)),
    ],
)
def test_the_options_are_read(typed, options):
    assert arguments.read(typed.split()) == options


@pytest.mark.parametrize("typed", ["status --timeout 2s", "status com.one --instance main"])
def test_an_option_without_effect_is_an_error(typed):
    with pytest.raises(UsageError):
        status.run(arguments.read(typed.split()))


@pytest.mark.parametrize(("reason", "noticed"), [(DropReason.ANSWERED_ALREADY, True), (DropReason.NOT_ASKED, False)])
def test_a_peer_that_replied_twice_is_noticed(tmp_path, monkeypatch, capsys, reason, noticed):
    async def ask_peers(*_arguments, dropped, **_keywords):
        dropped.add(reason)
        return [PeerStatus("com.two", STATUS)]

    monkeypatch.setattr(status, "ask_peers", ask_peers)
    config = write_toml(tmp_path / "one.toml", 1, "com.one", peers=[Entry("com.two", 2)])
    assert status.run(ShowStatus(config=str(config), to=("com.two",))) == 0
    assert ("hint: a peer replied again" in capsys.readouterr().err) is noticed


def test_the_table_has_what_runs_what_waits_and_the_last_ends(capsys):
    status.write_status(STATUS, status.describe(STATUS), older=10.0)
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "com.one: receiving, up 1m 0s, remaphore 0.1.0",
        " ".join(status.HEADER),
        "running deploy release-42 com.two 2001-09-09T01:46:40Z 11s",
        "waiting deploy 10s 3 messages",
        "ended deploy hex:00ff com.two 2001-09-09T01:46:40Z 2.0s exit code -1, reply not sent, 13s ago",
        "ended deploy com.two 2001-09-09T01:46:40Z rejected: expired, 13s ago",
        "not listed: 1 more running, 2 more queues, 3 more ended",
    ]


def test_the_page_shows_what_is_printed(capsys):
    page = (Path(__file__).parents[3] / "docs" / "running.md").read_text()
    shown = page.partition("```text\ncom.example.web: ")[2].partition("```")[0]

    def time_ns(text):
        return int(datetime.fromisoformat(text).timestamp()) * 10**9

    now = replace(
        STATUS,
        destination="com.example.web",
        uptime_seconds=76 * 3600,
        running=(replace(RUNNING, peer="com.example.left", since_ns=time_ns("2026-11-30T22:35:24Z"), seconds=20),),
        waiting=(Waiting(verb="deploy", messages=2, oldest_seconds=12),),
        ended=(
            replace(
                ENDED,
                verb="backup",
                uuid=b"nightly",
                peer="com.example.db",
                exit_code=0,
                reply_sent=None,
                seconds=40,
                ended_ns=time_ns("2026-11-30T22:00:41Z"),
                ago_seconds=2103,
            ),
        ),
        omitted=(0, 0, 0),
    )
    content = LocalStatus(812, True, time_ns("2026-11-27T18:20:11Z"), 0, 0.0, now)
    status.write_status(now, status.describe_local(Local(content, 0.0, stale=False)))
    assert capsys.readouterr().out == f"com.example.web: {shown}"


def test_a_daemon_that_does_nothing_is_one_line(capsys):
    idle = replace(STATUS, running=(), waiting=(), ended=(), omitted=(0, 0, 0), problem="disk full")
    status.write_status(idle, status.describe(idle), name="com.web")
    assert capsys.readouterr().out == ("com.web: receiving, up 1m 0s, remaphore 0.1.0; nothing can run: disk full\n")
    assert status.describe_local(LOCAL).startswith("receiving, up 1m 2s, ")
    assert status.describe_local(LOCAL).endswith("; pid 7, waiting for the broker since 2001-09-09T01:46:40Z")


@pytest.mark.parametrize("time_ns", [0, 2**63 - 1])
def test_whatever_a_peer_reports_each_row_is_one_printable_line(capsys, time_ns):
    nasty = replace(
        STATUS,
        destination=NASTY,
        version=NASTY,
        state=NASTY,
        problem=NASTY,
        uptime_seconds=9e11,
        running=(replace(RUNNING, verb=NASTY, peer=NASTY, state=NASTY, since_ns=time_ns, uuid=NASTY.encode()),),
        waiting=(replace(WAITING, verb=NASTY, messages=2**62, oldest_seconds=9e11),),
        ended=(replace(ENDED, verb=NASTY, peer=NASTY, result=NASTY, reason=NASTY, ended_ns=time_ns),),
        omitted=(0, 0, 0),
    )
    status.write_status(nasty, status.describe(nasty), name="com.web")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)


NO_REPLY = PeerStatus("com.web.2", None, Problem.NO_REPLY, "no reply", "wait")
REJECTED = PeerStatus("com.web.3", None, Problem.REJECTED, "rejected", "permit")
UNREADABLE = PeerStatus("com.web.4", None, Problem.UNREADABLE, "unreadable", "update")
UNAVAILABLE = PeerStatus("com.web.5", None, Problem.UNAVAILABLE, "unavailable", "update")
GOOD = PeerStatus("com.web.1", STATUS)


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([GOOD], 0),
        ([NO_REPLY], 1),
        ([GOOD, NO_REPLY, REJECTED, UNREADABLE], 4),
        ([GOOD, REJECTED, UNREADABLE], 5),
        ([REJECTED, UNAVAILABLE], 5),
        ([GOOD, REJECTED], 6),
        ([REJECTED], 6),
    ],
)
def test_the_exit_code_is_that_of_a_request(reports, code):
    assert status.exit_code(reports) == code


def test_equal_problems_are_one_line():
    reports = [GOOD, *(NO_REPLY._replace(peer=f"com.web.{number}") for number in range(2, 12)), REJECTED]
    assert list(status.problem_lines(reports)) == [
        "com.web.[2-11]: no reply",
        "hint: wait",
        "com.web.3: rejected",
        "hint: permit",
    ]


def test_the_document_has_the_schema():
    for nodes in (
        [status.to_local_row(LOCAL)],
        [status.to_row(report) for report in (GOOD, NO_REPLY, REJECTED, UNREADABLE, UNAVAILABLE)],
        [status.to_row(PeerStatus("com.one", replace(STATUS, ended=(NEVER_BEGUN,))))],
    ):
        DOCUMENT.validate(json.loads(json.dumps({"nodes": nodes})))
    for broken in ({}, {"nodes": [{}]}, {"nodes": [{"peer": "com.one"}]}, {"nodes": [{"status": {"schema": 1}}]}):
        assert not DOCUMENT.is_valid(broken)
