"""The options of the word `request`, and the exit codes that it can have."""

from pathlib import Path

import pytest

from remaphore.cli import original, words
from remaphore.cli.options.requesting import Request
from remaphore.cli.request import exit_code
from remaphore.errors import UsageError
from remaphore.protocol.exchange import Summary


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ("--json", {"format": "json"}),
        ("--jsonl --failed", {"format": "jsonl", "failed": True}),
        ("--fold --check", {"format": "fold", "check": True}),
        ("--batch 5 --pause 1m", {"batch": 5, "pause": 60.0}),
        ("--batch 10% --stop-on-failure 2", {"batch": 10, "percent": True, "stop_after": 2, "check": True}),
        ("--batch 1 --pause 0", {"batch": 1}),
        ("--dry-run", {"dry_run": True}),
        ("@notes", {"source": "notes"}),
        ("-", {"source": "-"}),
        ("@@notes", {"payload": "@notes"}),
        ("see @notes", {"payload": "see @notes"}),
    ],
)
def test_the_options_are_read(given, fields):
    assert words.read(["request", *given.split()]) == Request(to="**", timeout=30.0, **fields)


def test_only_the_word_reports_on_stderr():
    assert words.read(["request"]).report
    assert not original.read(["-r"]).report


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--json --fold", "not allowed with argument --json"),
        ("--batch 0", r"argument --batch: '0' is no size of a batch; write a number such as 5, or 1% to 100%"),
        ("--batch 101%", "is no size of a batch"),
        ("--batch 10.5%", "is no size of a batch"),
        ("--batch 5 --stop-on-failure 0", "'0' is no number from 1 on"),
        ("--pause 1s", "--pause and --stop-on-failure are about batches; add --batch"),
        ("--stop-on-failure 1", "are about batches"),
        ("@", "@ names no file"),
    ],
)
def test_mistakes_are_usage_errors(given, message):
    with pytest.raises(UsageError, match=message):
        words.read(["request", *given.split()])


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
def test_check_tells_missing_before_failed_before_refused(counts, plain, checked):
    assert exit_code(summary(**counts), check=False) == plain
    assert exit_code(summary(**counts), check=True) == checked


def test_who_succeeded_is_who_did_nothing_else():
    assert summary(ok=2, failed=1, rejected=1, missing=1, without_code=1).ok == ("o0", "o1")


def test_the_page_about_requests_names_every_option_that_only_they_have():
    page = (Path(__file__).parents[2] / "docs" / "requests.md").read_text()
    both = {option for action in words.parser("send")._actions for option in action.option_strings}
    own = {option for action in words.parser("request")._actions for option in action.option_strings} - both
    assert {"--fold", "--batch", "--dry-run"} < own
    assert [option for option in sorted(own) if option not in page] == []
