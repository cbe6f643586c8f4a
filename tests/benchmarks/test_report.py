"""The verdicts of the benchmarks: which results pass, which fail the short form, what a comparison calls worse."""

import pytest

from benchmarks import compare
from benchmarks.report import NOISE, TARGETS, Results

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


@pytest.mark.parametrize(("key", "within", "beyond"), [("receive", 0.67, 0.66), ("send", 1.49, 1.51)])
def test_the_short_form_fails_only_below_two_thirds_of_a_target(key, within, beyond):
    target = BY_KEY[key]
    assert not results(**{key: target.value * within}).failed(noise=NOISE)
    assert results(**{key: target.value * beyond}).failed(noise=NOISE) == [target]


def test_the_verdict_is_that_of_the_median():
    target = BY_KEY["receive"]
    assert not results(receive=[target.value * 1.1, target.value * 1.1, target.value * 0.1]).failed()
    assert results(receive=[target.value * 1.1, target.value * 0.9, target.value * 0.1]).failed() == [target]


def test_a_target_that_was_not_measured_is_not_in_the_table():
    table = results(receive=1.5).table()
    assert BY_KEY["receive"].what in table
    assert BY_KEY["send"].what not in table


def test_a_failed_target_is_shown_as_failed():
    line = next(line for line in results(receive=0.1).table().splitlines() if BY_KEY["receive"].what in line)
    assert "FAIL" in line


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
