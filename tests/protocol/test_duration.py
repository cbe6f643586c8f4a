"""Durations: Go's grammar, exact to the nanosecond."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.errors import DurationError
from remaphore.protocol.duration import HOUR, MICROSECOND, MILLISECOND, MINUTE, NANOSECOND, SECOND, parse
from tests.harness.factories import bounded

INT64 = range(-(2**63), 2**63)
UNITS = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "\u00b5s": MICROSECOND,
    "\u03bcs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
digits = st.text("0123456789", max_size=21)
terms = st.tuples(digits, st.none() | digits, st.sampled_from(sorted(UNITS))).filter(lambda term: term[0] or term[1])


def written(total: int) -> str:
    """Write *total* nanoseconds as Go does: hours, minutes, seconds with a fraction."""
    minutes, rest = divmod(abs(total), MINUTE)
    hours, minutes = divmod(minutes, 60)
    whole, fraction = divmod(rest, SECOND)
    return f"{'-' if total < 0 else ''}{hours}h{minutes}m{whole}.{fraction:09}s"


@bounded
@given(st.integers(INT64.start, INT64.stop - 1))
def test_every_64_bit_duration_survives_writing_and_reading(total: int) -> None:
    assert parse(written(total)) == total


@bounded
@given(st.sampled_from(["", "+", "-"]), st.lists(terms, min_size=1, max_size=4))
def test_each_term_is_the_exact_product_rounded_down(sign: str, parts: list[tuple[str, str | None, str]]) -> None:
    text, total = sign, 0
    for whole, fraction, unit in parts:
        number = whole if fraction is None else f"{whole}.{fraction}"
        text += number + unit
        total += int(Fraction(f"0{number}0" if fraction is not None else number) * UNITS[unit])
    total = -total if sign == "-" else total
    if total in INT64:
        assert parse(text) == total
    else:
        with pytest.raises(ValueError, match="too long"):
            parse(text)


@pytest.mark.parametrize("total", [INT64.start, INT64.stop - 1])
def test_the_longest_durations_are_accepted(total: int) -> None:
    assert parse(f"{total}ns") == total


@pytest.mark.parametrize("total", [INT64.start - 1, INT64.stop])
def test_one_nanosecond_more_than_64_bit_is_refused(total: int) -> None:
    with pytest.raises(ValueError, match="too long"):
        parse(f"{total}ns")


@pytest.mark.parametrize("text", ["0", "+0", "-0"])
def test_zero_needs_no_unit(text: str) -> None:
    assert parse(text) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid duration"),
        ("-", "invalid duration"),
        (".s", "invalid duration"),
        ("s", "invalid duration"),
        ("--5s", "invalid duration"),
        (" 5s", "invalid duration"),
        ("00", "missing unit"),
        ("1h5", "missing unit"),
        ("1.2.3s", "missing unit"),
        ("5S", "unknown unit"),
        ("5s ", "unknown unit"),
        ("5s\n", "unknown unit"),
        ("1h-2m", "unknown unit"),
        ("1_0s", "unknown unit"),
        ("\u0665s", "invalid duration"),  # a digit to str.isdigit and int(), none to Go
    ],
)
def test_what_go_refuses_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_the_hint_for_a_missing_unit_adds_one() -> None:
    with pytest.raises(DurationError, match=r"^missing unit in duration '5'$") as caught:
        parse("5")
    assert caught.value.hint == "add a unit, for example 5s"


@bounded
@given(st.text("0123456789.+-hmsnuµ_ e"))
def test_any_text_is_a_64_bit_number_or_a_value_error(text: str) -> None:
    try:
        total = parse(text)
    except ValueError:
        return
    assert total in INT64
