"""Node sets: what they stand for, what is an error, that a large one is an error before it is made, and folding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore import nodeset
from remaphore.errors import UsageError
from remaphore.nodeset import MAX_NAMES, expand, fold, is_plain
from tests.harness.factories import bounded


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("com.web.1", "com.web.1"),
        ("com.web.[1-3,7]", "com.web.1 com.web.2 com.web.3 com.web.7"),
        ("web[08-10]", "web08 web09 web10"),
        ("web[8-10]", "web8 web9 web10"),
        ("web[1,01]", "web1 web01"),
        ("web[0-1,00]", "web0 web1 web00"),
        ("[1-2]", "1 2"),
        ("a[1-2].b[1-2]", "a1.b1 a1.b2 a2.b1 a2.b2"),
        ("a[1-2],b", "a1 a2 b"),
        ("b, a[1, 2]", "b a1 a2"),
        ("a,a[1],a1,a", "a a1"),
        ("com.[1-2].**,*.x", "com.1.** com.2.** *.x"),
        ("web[999999999999999998-999999999999999999]", "web999999999999999998 web999999999999999999"),
        ("z\u00fcrich[1-2]", "z\u00fcrich1 z\u00fcrich2"),
    ],
)
def test_a_set_stands_for_its_names_in_their_order_each_once(text, names):
    assert expand(text) == tuple(names.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty name in ''"),
        (",", "empty name in ','"),
        ("a,", "empty name in 'a,'"),
        ("a, ,b", "empty name in 'a, ,b'"),
        ("a[", "unclosed bracket in 'a['"),
        ("a[1-3", "unclosed bracket in 'a[1-3'"),
        ("a[1,b", "unclosed bracket in 'a[1,b'"),
        ("a]", "unopened bracket in 'a]'"),
        ("a[1]]", "unopened bracket in 'a[1]]'"),
        ("a]1[", "nested brackets in 'a]1['"),
        ("a[1-[2-3]]", "nested brackets in 'a[1-[2-3]]'"),
        ("a[]", "empty bracket or number in 'a[]'"),
        ("a[1,]", "empty bracket or number in 'a[1,]'"),
        ("a[3-1]", "reversed range '3-1' in 'a[3-1]'"),
        ("a[03-01]", "reversed range '03-01' in 'a[03-01]'"),
        ("a[1-03]", "the ends of the range '1-03' in 'a[1-03]' are padded differently"),
        ("a[01-100]", "the ends of the range '01-100' in 'a[01-100]' are padded differently"),
        ("a[b-c]", "'b-c' is not a number or a range in 'a[b-c]'"),
        ("a[1-9/2]", "'1-9/2' is not a number or a range"),
        ("a[-1]", "'-1' is not a number or a range"),
        ("a[1-2-3]", "'1-2-3' is not a number or a range"),
        ("a[\u0661]", "is not a number or a range"),
        ("a[1234567890123456789]", "is not a number or a range"),
        ("a b", "white space in 'a b'"),
        ("a\tb[1]", "white space in 'a\\tb[1]'"),
    ],
)
def test_a_mistake_is_a_usage_error_that_quotes_it(text, message):
    with pytest.raises(UsageError) as caught:
        expand(text)
    assert message in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "web[1-99999999]",
        f"web[1-{MAX_NAMES + 1}]",
        "web[0-999999999999999999]",
        "a[1-1000].b[1-1000]",
        "[1-99999][1-99999][1-99999][1-99999]",
        f"a[1-{MAX_NAMES}],b",
    ],
)
def test_a_set_that_is_too_large_is_an_error_before_it_is_made(text, monkeypatch):
    made = []
    numbers = nodeset._numbers
    monkeypatch.setattr(nodeset, "_numbers", lambda ranges: made.append(ranges) or numbers(ranges))
    with pytest.raises(UsageError, match=f"the limit is {MAX_NAMES}"):
        expand(text)
    assert len(made) <= 1  # of the last set, the first name is within the limit


def test_the_largest_set_is_accepted():
    assert len(expand(f"a[1-{MAX_NAMES}]")) == MAX_NAMES


def test_a_long_text_is_quoted_in_part():
    with pytest.raises(UsageError) as caught:
        expand("[" + "1," * 100_000)
    assert len(str(caught.value)) < 120


def test_a_known_destination_stands_for_itself_whatever_its_characters_are():
    known = {"com.web[1]", "com.db[", "a b"}
    assert expand("com.web[1]", known) == ("com.web[1]",)
    assert expand("com.db[,com.web[1],com.web[2-3],a b", known) == (
        "com.db[", "com.web[1]", "com.web2", "com.web3", "a b"
    )  # fmt: skip


def test_what_stands_for_itself_is_plain():
    assert [text for text in ("com.web.1", "com.**", "a,b", "a[1]", "a b", "a]", "") if is_plain(text)] == [
        "com.web.1", "com.**"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ("", ""),
        ("com.a", "com.a"),
        ("com.a.7", "com.a.7"),
        ("com.a.2 com.a.10 com.a.1", "com.a.[1-2,10]"),
        ("a08 a09 a10 a11", "a[08-11]"),
        ("a1 a01 a2", "a[1,01,2]"),
        ("a9 a10", "a[9-10]"),
        ("a0 a9 a10 a1", "a[0-1,9-10]"),
        ("a099 a100 a999 a1000", "a[099-100,999-1000]"),
        ("a098 a099", "a[098-099]"),
        ("a1.b1 a1.b2 a2.b1 a2.b2 a3.b1", "a[1-2].b[1-2],a3.b1"),
        ("com.b com.a com.a", "com.a,com.b"),
        ("web1.x web2.x db1.x web10.y", "db1.x,web[1-2].x,web10.y"),
        ("a[1] b1 b2", "b1,b2,a[1]"),
        ("a! b1 b2", "b[1-2],a!"),
        ("n1111111111111111 n1111111111111112", "n1111111111111111,n1111111111111112"),
    ],
)
def test_names_are_folded_at_their_numbers(names, folded):
    assert fold(names.split()) == folded


def test_a_padded_range_ends_at_the_last_number_of_its_width():
    names = [f"a{number:02}" for number in range(90, 120)] + [f"a{number:03}" for number in range(998, 1002)]
    assert set(expand(fold(["a01", *names, "a099"]))) == {"a01", *names, "a099"}
    assert fold(f"a{number:02}" for number in (*range(8), *range(8, 120))) == "a[00-99,100-119]"


@bounded
@given(
    st.sets(
        st.one_of(
            st.from_regex(r"(com|a-1)\.(db|n)-?0{0,2}[0-9]{1,3}(\.[0-9]{1,2})?", fullmatch=True),
            st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="*,"), min_size=1, max_size=8),
            st.text("[]@!&^%-0123456789.", min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_folded_expands_to_the_same_names_whatever_characters_they_hold(names):
    folded = fold(names)
    assert set(expand(folded, known=names)) == names
    # Names of plain characters need not be known.
    plain = {name for name in names if nodeset._PLAIN.fullmatch(name)}
    assert not plain or set(expand(fold(plain))) == plain
