"""The wire: one form per message, and DecodeError for everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from remaphore.errors import DecodeError, EncodeError
from remaphore.protocol import wire
from remaphore.protocol.message import Message
from tests.harness.factories import NOW, body_of, bounded, make_encoded, make_key, make_message, sign_again, sign_body

INT64 = st.integers(-(2**63), 2**63 - 1)
words = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), max_size=40)
messages = st.builds(
    Message,
    sender=st.just(make_key().public),
    destination=words,
    verb=words,
    uuid=st.binary(min_size=1, max_size=12),
    time_ns=INT64,
    wants_reply=st.booleans(),
    payload=st.binary(max_size=60),
)
# Parts of bodies that are nearly right, so that a random body often passes a check and fails the next.
scraps = [
    st.sampled_from([b"", b"**", b"com.*", b"\xff", b" "]) | st.binary(max_size=4),
    st.sampled_from([b"0", b"-1", b"-0", b"+1", b"01", b"F", b"0x1", b"1_0", b" 1", b"1\n", b"8000000000000000", b""]),
    st.sampled_from([b"75", b"7", b"", b"7G", b"AB", b" 75", b"75 75", b"0" * 26, b"\xc3\xbc", b"\xd9\xa1\xd9\xa1"]),
    st.sampled_from([b"ping", b"", b"\xc3", b"v" * 257]) | st.binary(max_size=4),
    st.sampled_from([b"Q", b"_", b"", b"X", b"q", b"Q_"]),
    st.binary(max_size=8),
]
bodies = st.tuples(*scraps).map(b",".join)


@bounded
@given(messages)
def test_every_message_survives_the_wire_and_its_signature_holds(message: Message) -> None:
    raw = wire.encode(message, make_key())
    frame = wire.decode(raw)
    assert frame.message() == replace(message, digest=wire.digest(raw))
    assert frame.signed == body_of(raw)
    assert wire.verify(frame)


@bounded
@given(bodies | st.binary(max_size=40))
def test_nothing_is_accepted_but_what_the_encoder_writes(body: bytes) -> None:
    raw = sign_body(body)
    try:
        frame = wire.decode(raw)
    except DecodeError:
        return
    assert wire.encode(frame.message(), make_key()) == raw


@bounded
@given(st.binary(max_size=80) | st.lists(st.binary(max_size=4), min_size=7, max_size=9).map(b",".join))
def test_random_bytes_raise_nothing_but_a_decode_error(raw: bytes) -> None:
    try:
        frame = wire.decode(raw)
    except DecodeError:
        return
    assert not wire.verify(frame)


@bounded
@given(st.integers(0, 300), st.integers(0, 4), st.binary(max_size=4))
def test_random_mutations_raise_nothing_but_a_decode_error_and_do_not_verify(at: int, cut: int, new: bytes) -> None:
    good = make_encoded(payload=b"payload, with a comma")
    raw = good[:at] + new + good[at + cut :]
    assume(raw != good)
    try:
        frame = wire.decode(raw)
    except DecodeError:
        return
    assert not wire.verify(frame)


def fields(raw: bytes, **changes: bytes) -> bytes:
    """Return *raw* with some of its fields replaced."""
    names = ("sender", "signature", "destination", "time", "uuid", "verb", "flag", "payload")
    values = dict(zip(names, raw.split(b",", 7), strict=True))
    return b",".join((values | changes).values())


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"flag": b"X"}, "flag"),
        ({"flag": b""}, "flag"),
        ({"flag": b"q"}, "flag"),
        ({"time": b""}, "time is not a hexadecimal"),
        ({"time": b"g"}, "time is not a hexadecimal"),
        ({"time": b"+1"}, "time is not in the canonical form"),
        ({"time": b"01"}, "time is not in the canonical form"),
        ({"time": b"0x1"}, "time is not in the canonical form"),
        ({"time": b"1_0"}, "time is not in the canonical form"),
        ({"time": b" 1"}, "time is not in the canonical form"),
        ({"time": b"1\n"}, "time is not in the canonical form"),
        ({"time": b"-0"}, "time is not in the canonical form"),
        ({"time": b"AB"}, "time is not in the canonical form"),
        ({"time": b"8000000000000000"}, "time is not in the canonical form"),
        ({"time": b"-8000000000000001"}, "time is not in the canonical form"),
        ({"time": b"f" * 1000}, "time is not in the canonical form"),
        ({"uuid": b""}, "uuid is not in the canonical form"),
        ({"uuid": b"AB"}, "uuid is not in the canonical form"),
        ({"uuid": b" ab"}, "uuid is not hexadecimal"),
        ({"uuid": b"ab ab"}, "uuid is not hexadecimal"),
        ({"uuid": b"00" * 13}, "uuid is not in the canonical form"),
        ({"uuid": b"abc"}, "uuid is not hexadecimal"),
        ({"uuid": b"gg"}, "uuid is not hexadecimal"),
        ({"uuid": b"\xff"}, "uuid is not hexadecimal"),
        ({"destination": b"\xff"}, "not text"),
        ({"destination": b"\xed\xa0\x80"}, "not text"),
        ({"verb": b"\xc3"}, "not text"),
        ({"sender": "é".encode()}, "not text"),
        ({"destination": b"d" * 1025}, "too long"),
        ({"verb": b"v" * 257}, "too long"),
    ],
)
def test_each_field_has_one_form(changes: dict[str, bytes], detail: str) -> None:
    with pytest.raises(DecodeError, match=detail):
        wire.decode(fields(make_encoded(), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"time": b"7fffffffffffffff"},
        {"time": b"-8000000000000000"},
        {"time": b"0"},
        {"uuid": b"0f" * 12},
        {"uuid": b"00"},
        {"destination": b""},
        {"destination": b"d" * 1024},
        {"verb": b""},
        {"verb": b"v" * 256},
        {"verb": b"UPPER case"},
        {"payload": b""},
        {"payload": b",,\0\xff\n,"},
    ],
)
def test_the_limits_themselves_are_within(changes: dict[str, bytes]) -> None:
    raw = fields(make_encoded(), **changes)
    signed = sign_body(body_of(raw))
    assert wire.encode(wire.decode(signed).message(), make_key()) == signed


@pytest.mark.parametrize("count", range(8))
def test_fewer_than_eight_fields_are_no_message(count: int) -> None:
    raw = b",".join(make_encoded().split(b",")[:count])
    with pytest.raises(DecodeError, match=f"{max(count, 1)} fields instead of 8"):
        wire.decode(raw)


def test_a_message_of_the_largest_size_is_accepted_and_of_one_byte_more_is_not() -> None:
    rest = len(make_encoded(payload=b""))
    largest = sign_body(body_of(make_encoded(payload=bytes(wire.MAX_MESSAGE_BYTES - rest - 8))))
    largest += bytes(wire.MAX_MESSAGE_BYTES - len(largest))
    assert wire.decode(largest).raw == largest
    with pytest.raises(DecodeError, match="larger than 1048576 bytes"):
        wire.decode(largest + b"x")


@pytest.mark.parametrize(
    ("values", "detail"),
    [
        ({"destination": "com,us"}, "destination cannot contain a comma"),
        ({"verb": "a,b"}, "verb cannot contain a comma"),
        ({"destination": "\udcff"}, "destination is not valid UTF-8"),
        ({"verb": "\udcff"}, "verb is not valid UTF-8"),
        ({"destination": "ü" * 513}, "destination has 1026 bytes, the limit is 1024"),
        ({"verb": "v" * 257}, "verb has 257 bytes, the limit is 256"),
        ({"uuid": b""}, "uuid has 0 bytes"),
        ({"uuid": bytes(13)}, "uuid has 13 bytes"),
        ({"time_ns": 2**63}, "not a 64-bit number"),
        ({"time_ns": -(2**63) - 1}, "not a 64-bit number"),
        ({"sender": make_key(2).public}, "the sender of the message is"),
    ],
)
def test_what_no_receiver_could_take_is_not_signed(values: dict[str, object], detail: str) -> None:
    with pytest.raises(EncodeError, match=detail) as caught:
        make_encoded(1, **values)
    assert ("UTF-8" in caught.value.hint) == ("UTF-8" in detail)


def test_the_form_is_the_original_s() -> None:
    message = make_message(destination="com.*", verb="deploy", uuid=b"\x0fid", time_ns=-255, wants_reply=True)
    sender, _, body = wire.encode(replace(message, payload=b"a,b\n"), make_key()).split(b",", 2)
    assert sender.decode() == make_key().public
    assert body == b"com.*,-ff,0f6964,deploy,Q,a,b\n"


@pytest.mark.parametrize("part", ["sender", "signature"])
@pytest.mark.parametrize("end", [b" ", b"\n", b"\t", b"1", b"\0"])
def test_a_key_or_signature_with_something_behind_it_does_not_verify(part: str, end: bytes) -> None:
    frame = wire.decode(make_encoded())
    text = {"sender": frame.sender.encode(), "signature": frame.signature}[part]
    assert not wire.verify(wire.decode(fields(frame.raw, **{part: text + end})))


@pytest.mark.parametrize("part", ["sender", "signature"])
@pytest.mark.parametrize("text", [b"", b"1", b"0OIl", b"z" * 44, b"z" * 88, b"z" * 5000])
def test_what_is_no_key_or_signature_does_not_verify(part: str, text: bytes) -> None:
    assert not wire.verify(wire.decode(fields(make_encoded(), **{part: text})))


def test_the_signature_of_another_key_does_not_verify() -> None:
    foreign = make_encoded(2).split(b",")[1]
    assert not wire.verify(wire.decode(fields(make_encoded(1), signature=foreign)))


def test_the_owner_of_a_key_can_make_a_second_signature_of_the_same_bytes() -> None:
    first = make_encoded(payload=b"twice")
    second = sign_again(first)
    assert wire.verify(wire.decode(second))
    assert body_of(second) == body_of(first)
    assert wire.digest(second) != wire.digest(first)


def test_the_digest_covers_the_signature_too() -> None:
    assert wire.digest(b"") == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert wire.digest(make_encoded(time_ns=NOW)) != wire.digest(sign_again(make_encoded(time_ns=NOW)))


def test_a_destination_as_deep_as_the_limit_is_accepted_and_one_part_more_is_not() -> None:
    deepest = ".".join("a" * wire.MAX_DESTINATION_DEPTH)
    assert wire.decode(make_encoded(destination=deepest)).destination == deepest
    with pytest.raises(EncodeError, match="the destination has 128 segments, the limit is 127"):
        make_encoded(destination=deepest + ".a")
    body = body_of(make_encoded(destination=deepest)).replace(deepest.encode(), deepest.encode() + b".a")
    with pytest.raises(DecodeError, match="more than 127 segments"):
        wire.decode(sign_body(body))
