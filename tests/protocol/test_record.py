"""Records: valid in one place alone, for one verb alone, and never a message to a gate."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.errors import EncodeError
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop
from remaphore.protocol.gate import Filters
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.record import (
    COMMANDS,
    MAX_RECORD_BYTES,
    Entry,
    Record,
    binding,
    make,
    name_problem,
    read,
)
from tests.harness.factories import NOW, make_gate, make_key, make_peer

KEY, OTHER = make_key(1), make_key(2)
VERB = "lock:deploy"
FIRST = 1_795_649_930_204_831  # microseconds since 1970, as the first sequence of a new stream


def hold(
    *, follows: Entry | None = None, key: PrivateKey = KEY, verb: str = VERB, count: int = 1, **fields: object
) -> bytes:
    return make(key, verb, {"do": "hold", "slot": 0, "session": "a", **fields}, count=count, follows=follows)


def stored(raw: bytes, sequence: int = FIRST) -> Entry:
    return Entry(sequence, "remaphore.coord.lock.deploy.0", raw)


def test_a_record_says_what_was_signed() -> None:
    before = stored(b"junk")
    found = read(stored(hold(follows=before, ttl=30), FIRST + 1), VERB)
    assert found is not None
    assert (found.sender, found.verb, found.follows) == (KEY.public, VERB, FIRST)
    assert dict(found.fields) == {"do": "hold", "slot": 0, "session": "a", "ttl": 30, "n": 1}
    assert (found.text("do"), found.text("ttl"), found.text("none")) == ("hold", "", "")
    assert (found.number("ttl"), found.number("do"), found.number("none")) == (30, -1, -1)


@pytest.mark.parametrize("value", [True, -1, 2**53 + 1, 1.5, "1", None])
def test_a_number_is_one_that_every_reader_of_json_understands(value: object) -> None:
    found = read(stored(hold(ttl=value)), VERB)
    assert found is not None
    assert found.number("ttl") == -1


def test_a_record_stands_in_one_place_alone() -> None:
    first = stored(hold())
    second = stored(hold(follows=first), FIRST + 1)
    one, two = read(first, VERB), read(second, VERB)
    assert one is not None
    assert two is not None
    assert one.stands(None)
    assert two.stands(first)
    assert not one.stands(first)
    assert not one.stands(second)
    assert not two.stands(None)
    assert not two.stands(second)
    assert not two.stands(replace_raw(first, b"another message with the same number"))
    assert not two.stands(first._replace(sequence=FIRST + 5))


def replace_raw(entry: Entry, raw: bytes) -> Entry:
    return entry._replace(raw=raw)


def test_two_records_with_the_same_fields_differ_by_their_count() -> None:
    assert hold(count=1) != hold(count=2)
    assert hold(count=1) == hold(count=1)


def signed(**changes: object) -> bytes:
    """Return a record whose message was changed before it was signed."""
    message = wire.decode(hold()).message()
    return wire.encode(replace(message, **changes), KEY)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"junk",
        hold(verb="lock:other"),
        hold(verb="evict:deploy"),
        signed(destination="com.left"),
        signed(wants_reply=True),
        signed(time_ns=-1),
        signed(uuid=b"short"),
        signed(payload=b"[]"),
        signed(payload=b"{"),
        signed(payload=b"\xff"),
        signed(payload=b"[" * 600),
        signed(payload=json.dumps({"do": "hold", "note": "x" * MAX_RECORD_BYTES}).encode()),
        hold().replace(b'"slot":0', b'"slot":1'),
        hold().replace(KEY.public.encode(), OTHER.public.encode()),
    ],
)
def test_anything_else_is_no_record(raw: bytes) -> None:
    assert read(stored(raw), VERB) is None


@given(st.integers(0, len(hold()) - 1), st.integers(1, 255))
def test_no_changed_byte_leaves_a_record(place: int, change: int) -> None:
    raw = bytearray(hold())
    raw[place] ^= change
    assert read(stored(bytes(raw)), VERB) is None


def test_a_record_that_the_stream_would_not_store_is_not_made() -> None:
    with pytest.raises(EncodeError, match="the limit is 900") as caught:
        hold(note="x" * MAX_RECORD_BYTES)
    assert caught.value.hint
    longest = hold(verb=f"lock:{'x' * 64}", note="x" * 64, host="h" * 64, ttl=3600, token=2**53, pid=2**22)
    assert len(longest) < MAX_RECORD_BYTES


@pytest.mark.parametrize("any_destination", [True, False])
@pytest.mark.parametrize("follows", [None, stored(b"x"), stored(b"x", 2**53)])
def test_no_gate_accepts_a_record_as_a_message(any_destination: bool, follows: Entry | None) -> None:
    gate = make_gate(make_peer(1, "com.left", "*"), filters=Filters(pattern=None, any_destination=any_destination))
    assert isinstance(gate.admit(hold(follows=follows), NOW), Drop)


@pytest.mark.parametrize("name", ["a", "deploy", "0", "db-1_x", "x" * 64])
def test_names_of_locks(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", "A", "a.b", "*", ">", "-a", "_a", "a b", "ä", "a:b", "x" * 65, "a\n", "a/b", *COMMANDS]
)
def test_what_is_no_name_of_a_lock(name: str) -> None:
    assert name_problem(name)


def test_the_binding_of_the_first_place_is_no_message() -> None:
    assert binding(None) != binding(stored(b"x"))
    assert isinstance(read(stored(hold()), VERB), Record)
