"""The options of `request`, its exit codes, and what --dry-run prints, without a network."""

from pathlib import Path

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.request import Request, exit_code
from remaphore.cli.legacy import flags
from remaphore.cli.main import main
from remaphore.errors import UsageError
from remaphore.protocol.exchange import Summary
from remaphore.protocol.message import Reply
from remaphore.protocol.quorum import ReplyQuorum, Requirement
from tests.harness.fleet import Fleet


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ("--json", {"format": "json"}),
        ("--jsonl --failed", {"format": "jsonl", "failed": True}),
        ("--fold --check", {"format": "fold"}),
        ("--no-check", {"check": False}),
        ("--no-check --check", {}),  # the last one counts
        ("--check --no-check --batch 2", {"check": False, "batch": 2}),
        ("--no-check --check --batch 2 --stop-on-failure 1", {"batch": 2, "stop_after": 1}),
        ("--batch 5 --pause 1m", {"batch": 5, "pause": 60.0}),
        ("--batch 10% --stop-on-failure 2", {"batch": 10, "percent": True, "stop_after": 2}),
        ("--batch 1 --pause 0", {"batch": 1}),
        ("--require 3", {"require": Requirement(3)}),
        ("--require 90% --batch 2", {"require": Requirement(90, percent=True), "batch": 2}),
        ("--require all --fail-fast", {"require": Requirement(100, percent=True), "fail_fast": True}),
        ("--no-check --require 1 --check", {"require": Requirement(1)}),
        ("--dry-run", {"dry_run": True}),
        ("@notes", {"source": "notes"}),
        ("-", {"source": "-"}),
        ("@@notes", {"payload": "@notes"}),
        ("see @notes", {"payload": "see @notes"}),
    ],
)
def test_the_options_are_read(given, fields):
    assert arguments.read(["request", *given.split()]) == Request(timeout=30.0, **{"check": True, **fields})


def test_only_the_command_reports_on_stderr_and_by_its_exit_code_and_not_the_flag():
    command, flag = arguments.read(["request"]), flags.read(["-r"])
    assert (command.report, command.check) == (True, True)
    assert (flag.report, flag.check) == (False, False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--json --fold", "not allowed with argument --json"),
        ("--batch 0", r"argument --batch: '0' is not a batch size; hint: write a number such as 5, or 1% to 100%"),
        ("--batch 101%", "is not a batch size"),
        ("--batch 10.5%", "is not a batch size"),
        ("--batch 5 --stop-on-failure 0", "'0' is not a positive integer"),
        ("--pause 1s", "--pause and --stop-on-failure need batches"),
        ("--stop-on-failure 1", "need batches"),
        ("--no-check --batch 1 --stop-on-failure 1", "--no-check and --stop-on-failure are mutually exclusive"),
        ("--batch 1 --stop-on-failure 1 --check --no-check", "are mutually exclusive; hint: omit --no-check"),
        ("--require 0", "argument --require: '0' is not a number of destinations; hint: write all, a number such as 3"),
        ("--require -1", "argument --require: '-1' is not a number of destinations"),
        ("--require 101%", "argument --require: '101%' is not a number of destinations"),
        ("--require 1 --require 2", "--require: given twice"),
        ("--no-check --require 1", "--no-check and --require are mutually exclusive"),
        ("--fail-fast", "--fail-fast needs a requirement; hint: add --require all, N or N%"),
        ("@", "no file name after @"),
    ],
)
def test_mistakes_are_usage_errors(given, message):
    with pytest.raises(UsageError) as caught:
        arguments.read(["request", *given.split()])
    assert message in f"{caught.value}; hint: {caught.value.hint}"


def summary(ok=0, failed=0, rejected=0, missing=0, without_code=0, not_asked=0):
    groups = [("o", ok), ("f", failed), ("r", rejected), ("m", missing), ("w", without_code), ("n", not_asked)]
    names = {kind: tuple(f"{kind}{number}" for number in range(count)) for kind, count in groups}
    return Summary(
        expected=sum(names.values(), ()),
        answered=names["o"] + names["f"] + names["r"] + names["w"],
        failed=names["f"],
        rejected=names["r"],
        missing=names["m"],
        dropped=0,
        without_code=names["w"],
        not_asked=names["n"],
    )


@pytest.mark.parametrize(
    ("counts", "plain", "checked"),
    [
        ({"ok": 2}, 0, 0),
        ({"missing": 2}, 1, 1),
        ({"rejected": 2}, 1, 6),
        ({"rejected": 1, "missing": 1}, 1, 4),
        ({"failed": 2}, 0, 5),
        ({"without_code": 1}, 0, 5),
        ({"ok": 1, "rejected": 1}, 0, 6),
        ({"failed": 1, "rejected": 1}, 0, 5),
        ({"ok": 1, "failed": 1, "rejected": 1, "missing": 1}, 0, 4),
        ({"failed": 1, "not_asked": 1}, 0, 5),
    ],
)
def test_check_reports_missing_before_failed_before_rejected(counts, plain, checked):
    assert exit_code(summary(**counts), check=False) == plain
    assert exit_code(summary(**counts), check=True) == checked


@pytest.mark.parametrize(
    ("needed", "counts", "code"),
    [
        (2, {"ok": 2, "failed": 1, "rejected": 1, "missing": 1, "not_asked": 1}, 0),
        (2, {"ok": 1, "missing": 2}, 4),
        (2, {"ok": 1, "missing": 1, "failed": 1}, 4),
        (2, {"missing": 2}, 1),
        (2, {"ok": 1, "failed": 1, "not_asked": 1}, 5),
        (2, {"ok": 1, "without_code": 1}, 5),
        (2, {"ok": 1, "rejected": 1}, 6),
    ],
)
def test_a_requirement_that_is_met_is_success_and_else_the_cause_is_reported(needed, counts, code):
    result = summary(**counts)
    quorum = ReplyQuorum(needed, len(result.expected), fail_fast=False)
    for _ in result.ok:
        quorum.count(Reply(0))
    assert exit_code(result, check=True, quorum=quorum) == code


@pytest.mark.parametrize(
    ("counts", "timed_out", "code"),
    [
        ({"ok": 1, "failed": 1, "missing": 2}, 0, 5),
        ({"ok": 1, "rejected": 1, "missing": 2}, 0, 6),
        ({"ok": 1, "failed": 1, "missing": 2}, 1, 4),
        ({"ok": 1, "missing": 1, "not_asked": 2}, 1, 4),
    ],
)
def test_with_fail_fast_only_those_whose_time_was_over_are_missing(counts, timed_out, code):
    result = summary(**counts)
    quorum = ReplyQuorum(len(result.expected), len(result.expected), fail_fast=True)
    for reply in (*[Reply(0)] * len(result.ok), *[Reply(1)] * len(result.failed + result.rejected)):
        quorum.count(reply)
    quorum.count_timeouts(timed_out)
    assert exit_code(result, check=True, quorum=quorum) == code


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_more_than_there_are_is_an_error_before_anything_is_sent(config, capsys, dry_run):
    path = config()
    assert main(["request", "-c", path, "--to", "com.**", "--require", "2", *dry_run]) == 2
    assert "remaphore: error: 2 destinations are required, of only 1\n" in capsys.readouterr().err


def test_dry_run_says_how_many_must_succeed(config, capsys):
    assert main(["request", "-c", config(), "--require", "51%", "--dry-run"]) == 0
    assert capsys.readouterr().err == "remaphore: 2 would be asked, 2 must succeed\n"


def test_a_destination_succeeded_if_nothing_else_is_reported_of_it():
    assert summary(ok=2, failed=1, rejected=1, missing=1, without_code=1).ok == ("o0", "o1")


def test_the_page_about_requests_names_every_option_that_send_does_not_have():
    page = (Path(__file__).parents[3] / "docs" / "requests.md").read_text()
    both = {option for action in arguments.make_parser("send")._actions for option in action.option_strings}
    own = {option for action in arguments.make_parser("request")._actions for option in action.option_strings} - both
    assert {"--fold", "--batch", "--dry-run"} < own
    assert [option for option in sorted(own) if option not in page] == []


NOWHERE = {"server": "nats://127.0.0.1:1", "credentials": "none.creds"}


@pytest.fixture
def config(tmp_path):
    def write(**changes):
        return str(Fleet(tmp_path).config("one", **{**NOWHERE, "credentials": tmp_path / "none.creds", **changes}))

    return write


def preview(capsys, config, *typed):
    code = main(["request", "-c", config, "--dry-run", *typed])
    return code, *capsys.readouterr()


def test_dry_run_prints_who_would_be_asked_and_why_others_are_skipped(config, capsys):
    assert preview(capsys, config(), "--to", "com.**") == (
        0,
        "ask   com.example.two\nskip  org.example.three: the pattern 'com.**' does not match it\n",
        "remaphore: 1 would be asked\n",
    )


def test_dry_run_skips_all_peers_if_no_identity_may_send_the_verb(config, capsys):
    code, out, err = preview(capsys, config(verbs="ping"), "--verb", "deploy")
    assert code == 3
    reasons = [line.partition(": ")[2] for line in out.splitlines()]
    assert [line.split(":")[0] for line in out.splitlines()] == ["skip  com.example.two", "skip  org.example.three"]
    assert all("may send ping, not 'deploy'" in reason for reason in reasons)
    assert err.startswith("remaphore: error: no private key with sender permission found")


def test_dry_run_of_a_pattern_without_match_is_the_error_of_the_request(config, capsys):
    code, out, err = preview(capsys, config(), "--to", "net.**")
    assert (code, out.count("skip  ")) == (3, 2)
    assert "no known receivers" in err


def test_dry_run_uses_the_first_destination_of_a_key_that_is_listed_twice(config, capsys, tmp_path):
    path = config()
    text = (tmp_path / "one.toml").read_text()
    key = text.rpartition('key = "')[2].partition('"')[0]
    (tmp_path / "one.toml").write_text(text + f'[[peers]]\ndestination = "com.again"\nkey = "{key}"\nverbs = []\n')
    _, out, _ = preview(capsys, path, "--to", "**")
    assert out.splitlines() == [
        "ask   com.example.two",
        "ask   org.example.three",
        "skip  com.again: its key is listed earlier under another destination, which takes precedence",
    ]
    _, _, err = preview(capsys, path, "--to", "com.again")
    assert "hint: its key is listed earlier as org.example.three: use that, or correct" in err


def test_dry_run_numbers_the_batches(config, capsys):
    assert preview(capsys, config(), "--batch", "1") == (
        0,
        "ask   com.example.two  batch 1 of 2\nask   org.example.three  batch 2 of 2\n",
        "remaphore: 2 would be asked, in batches: 2\n",
    )


def test_dry_run_does_not_read_the_payload(config, capsys):
    assert preview(capsys, config(), "@/nonexistent")[0] == 0
