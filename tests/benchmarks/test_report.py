"""The verdicts of the benchmarks: which results pass, which fail the short form, what a comparison calls worse."""

from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.report import TARGETS, Results

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BY_KEY = {target.key: target for target in TARGETS}


def results(**samples):
    made = Results()
    made.add({key: values if isinstance(values, list) else [values] for key, values in samples.items()})
    return made


@pytest.mark.parametrize("key", ["receive", "send"])
def test_a_result_that_is_just_the_target_passes(key):
    assert not results(**{key: BY_KEY[key].value}).failed()


@pytest.mark.parametrize(("key", "factor"), [("receive", 0.99), ("send", 1.01)])
def test_a_result_beyond_its_target_fails(key, factor):
    assert results(**{key: BY_KEY[key].value * factor}).failed() == [BY_KEY[key]]


@pytest.mark.parametrize(("key", "within", "beyond"), [("reject_misaddressed", 0.67, 0.66), ("help", 1.49, 1.51)])
def test_the_floor_is_two_thirds_of_a_target_that_is_reached(key, within, beyond):
    target = BY_KEY[key]
    assert target.documented is None
    assert not results(**{key: target.value * within}).fallen()
    assert results(**{key: target.value * beyond}).fallen() == [target]


@pytest.mark.parametrize("target", [target for target in TARGETS if target.documented is not None])
def test_the_floor_is_two_thirds_of_what_is_documented_where_a_target_is_not_reached(target):
    within, beyond = (0.67, 0.66) if target.at_least else (1.49, 1.51)
    assert not results(**{target.key: target.documented * within}).fallen()
    assert results(**{target.key: target.documented * beyond}).fallen() == [target]


def test_what_is_documented_is_what_the_results_in_the_documentation_say():
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().partition("## Results")[2].partition("\n## ")[0].splitlines()
        if line.startswith("|")
    ]
    missed = {row[0]: float(row[1].split()[0]) for row in rows if row[-1] == "no"}
    assert {target.what: target.documented for target in TARGETS if target.documented is not None} == missed


def test_the_verdict_is_that_of_the_median():
    target = BY_KEY["receive"]
    assert not results(receive=[target.value * 1.1, target.value * 1.1, target.value * 0.1]).failed()
    assert results(receive=[target.value * 1.1, target.value * 0.9, target.value * 0.1]).failed() == [target]


def test_a_target_that_was_not_measured_is_not_in_the_table():
    table = results(receive=1.5).table()
    assert BY_KEY["receive"].what in table
    assert BY_KEY["send"].what not in table


@pytest.mark.parametrize(("measured", "verdict"), [(8, "ok"), (6, "no"), (5, "FAIL")])
def test_the_table_shows_target_floor_and_verdict(measured, verdict):
    target = BY_KEY["reject_misaddressed"]
    line = next(line for line in results(reject_misaddressed=measured).table().splitlines() if target.what in line)
    assert line.removeprefix(target.what).split()[:6] == [str(measured), "≥", "8", "x", "L1", "5.33"]
    assert f" {verdict} " in line


def compared(key, before, after):
    documents = [results(**{key: value}).document() for value in (before, after)]
    return compare.compare(*documents)[-1]


@pytest.mark.parametrize(("key", "after", "verdict"), [("receive", 0.5, "WORSE"), ("receive", 2.0, "better")])
def test_a_comparison_knows_that_more_messages_are_better(key, after, verdict):
    assert compared(key, 1.0, after).endswith(verdict)


@pytest.mark.parametrize(("key", "after", "verdict"), [("send", 0.5, "better"), ("send", 2.0, "WORSE")])
def test_a_comparison_knows_that_less_time_is_better(key, after, verdict):
    assert compared(key, 1.0, after).endswith(verdict)


def test_a_comparison_calls_a_small_change_nothing():
    assert compared("receive", 1.0, 1.1).endswith("+10%")


def test_a_comparison_names_what_differs_in_versions():
    before, after = results(receive=1.0).document(), results(receive=1.0).document()
    before["versions"]["nats-py"] = "0.0.0"
    assert any(line.startswith("nats-py: 0.0.0 -> ") for line in compare.compare(before, after))
