"""The values that are sent: replies, uuids and white space."""

from __future__ import annotations

import hashlib
import string
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remaphore.protocol.message import (
    NO_DATA,
    UUID_BYTES,
    Message,
    Reply,
    random_id,
    reply_uuid,
    show_id,
    uuid_from_text,
)
from tests.harness.factories import bounded


@bounded
@given(st.integers(-(10**10) + 1, 10**10 - 1), st.binary(max_size=40))
def test_a_reply_survives_its_payload(exit_code: int, output: bytes) -> None:
    assert Reply.parse(Reply(exit_code, output).payload) == Reply(exit_code, output)


@pytest.mark.parametrize(
    "payload",
    [NO_DATA, b"", b"0", b",", b"-,x", b"+1,x", b" 1,x", b"1 ,x", b"1.5,x", b"12345678901,x", b"\xd9\xa5,x", b"ok,1,"],
)
def test_a_payload_without_an_exit_code_is_output_alone(payload: bytes) -> None:
    reply = Reply.parse(payload)
    assert reply == Reply(None, payload)
    assert reply.payload == payload


def test_the_text_of_a_reply_begins_with_its_exit_code() -> None:
    assert Reply(0, b" out \n").text == b"0, out"


@pytest.mark.parametrize(
    ("reply", "rejected"),
    [
        (Reply(77, b"remaphore: refused: not permitted"), True),
        (Reply(0, b"remaphore: refused: not permitted"), False),
        (Reply(None, b"remaphore: refused: not permitted"), False),
        (Reply(77, b"said remaphore: refused: x"), False),
        (Reply(1, b""), False),
    ],
)
def test_a_refusal_has_an_exit_code_that_is_a_failure_and_its_own_words_first(reply: Reply, rejected: bool) -> None:
    assert reply.rejected is rejected


def test_only_the_first_comma_ends_the_exit_code() -> None:
    assert Reply.parse(b"-1,2,3\n") == Reply(-1, b"2,3\n")


def test_a_parsed_reply_carries_where_it_came_from() -> None:
    expected = Reply(3, b"x", peer="com.left", sender="key", time_ns=7, bound=True)
    assert Reply.parse(b"3,x", peer="com.left", sender="key", time_ns=7, bound=True) == expected


@bounded
@given(st.binary())
def test_trimming_ascii_takes_what_go_takes_and_nothing_within(raw: bytes) -> None:
    ascii_only = bytes(byte & 127 for byte in raw)
    assert Reply(None, ascii_only).text == ascii_only.strip(string.whitespace.encode())


@pytest.mark.parametrize(
    "space", ["\x85", "\xa0", "\u1680", "\u2000", "\u200a", "\u2028", "\u202f", "\u205f", "\u3000"]
)
def test_trimming_takes_the_spaces_of_unicode(space: str) -> None:
    assert Reply(None, f"{space}a{space}b{space}\n".encode()).text == f"a{space}b".encode()


@pytest.mark.parametrize(
    "kept",
    [b"\x1c\x1d\x1e\x1f", b"\x00", b"\x85", b"\xa0", b"\xff", b"\xc2", "\u200b\ufeff".encode()],
    ids=["separators", "nul", "half-of-next-line", "half-of-no-break-space", "no-utf8", "cut-off", "zero-width"],
)
def test_trimming_keeps_what_is_no_space_to_go(kept: bytes) -> None:
    assert Reply(None, b" " + kept + b"x" + kept + b" ").text == kept + b"x" + kept


@bounded
@given(st.text(min_size=1, max_size=30))
def test_a_text_of_up_to_12_bytes_is_the_uuid_and_a_longer_one_is_hashed(text: str) -> None:
    raw = text.encode()
    assert uuid_from_text(text) == (raw if len(raw) <= 12 else hashlib.sha256(raw).digest()[:12])


def test_an_argument_that_is_not_utf8_stands_for_its_bytes() -> None:
    assert uuid_from_text("a\udcff") == b"a\xff"


def test_no_text_means_12_random_bytes_each_time() -> None:
    uuids = {uuid_from_text("") for _ in range(50)}
    assert len(uuids) == 50
    assert {len(uuid) for uuid in uuids} == {12}


def test_a_reply_is_bound_by_the_first_12_bytes_of_the_digest() -> None:
    assert reply_uuid(bytes(range(32))) == bytes(range(12))


@pytest.mark.parametrize("text", ["release-42", "a b", "zürich", "日本", "0123456789ab", "hex", "HEX:a", "a\ufffd"])
def test_an_id_that_people_can_read_is_shown_as_its_text(text: str) -> None:
    assert show_id(uuid_from_text(text)) == text


@pytest.mark.parametrize(
    "uuid",
    [
        *(
            b"\xff",
            b"a\n",
            b"\x1b[31m",
            b"a\0",
            b"\t",
            b" a",
            b"a ",
            b" ",
            b"\xc2\xa0",
            b"\xe2\x80\xae1",
            b"a\xe2\x80\x8bb",
        ),
        *(b"hex:61", b"hex:", b"\xcd\x8f", b"a\x7f"),
    ],
    ids=repr,
)
def test_an_id_that_is_no_readable_text_or_looks_like_the_mark_is_marked_hex(uuid: bytes) -> None:
    assert show_id(uuid) == f"hex:{uuid.hex()}"


@bounded
@given(st.binary(min_size=1, max_size=UUID_BYTES))
@example(b"hex:61")
def test_two_ids_are_never_shown_alike_and_a_text_gives_the_id_that_it_shows(uuid: bytes) -> None:
    shown = show_id(uuid)
    assert (bytes.fromhex(shown[4:]) if shown.startswith("hex:") else uuid_from_text(shown)) == uuid


def test_a_random_id_is_shown_as_it_is_and_each_is_another() -> None:
    ids = {random_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(show_id(uuid_from_text(each)) == each for each in ids)
    assert all(len(each) == UUID_BYTES for each in ids)


def test_an_unknown_id_is_none_in_the_log_and_not_a_mark_without_digits() -> None:
    known = Message(sender="", destination="", verb="deploy", uuid=b"release-42", time_ns=0)
    assert known.log_fields["id"] == "release-42"
    assert replace(known, uuid=b"").log_fields["id"] is None
