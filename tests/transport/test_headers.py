"""Headers of any bytes are read without an error; what is not a header is skipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.transport import parser as module
from remaphore.transport.headers import parse
from remaphore.transport.parser import Delivery, Flaw, Parser, Whole


@pytest.mark.parametrize(
    ("block", "status", "fields"),
    [
        (b"", 0, {}),
        (b"NATS/1.0\r\n\r\n", 0, {}),
        (b"NATS/1.0 503\r\n\r\n", 503, {}),
        (b"NATS/1.0 404 Message Not Found\r\nA:b\r\n\r\n", 404, {"Description": "Message Not Found", "A": "b"}),
        (b"NATS/1.0\r\nA: b: c \r\nA: second\r\nnone\r\n\r\n", 0, {"A": "b: c"}),
        (b"NATS/1.0 x\r\nA: b\r\n\r\n", 0, {"A": "b"}),
        (b"NATS/1.0 99999999999\r\n\r\n", 0, {}),
        (b"HTTP/1.1 200\r\nA: b\r\n\r\n", 0, {}),
        (b"NATS/1.0\r\n\xff: \xff\r\n\r\n", 0, {"\ufffd": "\ufffd"}),
    ],
)
def test_a_block_is_its_status_and_its_headers(block: bytes, status: int, fields: dict[str, str]) -> None:
    found = parse(block)
    assert (found[0], {name: value for name, value in found[1].items() if value != "x"}) == (status, fields)


@given(st.binary(max_size=200))
def test_no_block_raises(block: bytes) -> None:
    for text in (block, b"NATS/1.0" + block, b"NATS/1.0\r\n" + block):
        status, _ = parse(text)
        assert 0 <= status <= 999


def written(sid: int, payload: bytes, headers: bytes | None) -> bytes:
    if headers is None:
        return b"MSG a.b %d %d\r\n%b\r\n" % (sid, len(payload), payload)
    return b"HMSG a.b %d %d %d\r\n%b%b\r\n" % (sid, len(headers), len(headers) + len(payload), headers, payload)


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.binary(max_size=20), st.none() | st.binary(max_size=20)), min_size=1, max_size=5
    ),
    st.integers(1, 30),
)
def test_whole_messages_have_subject_and_headers_however_they_are_cut(
    sent: list[tuple[int, bytes, bytes | None]], size: int
) -> None:
    stream = b"".join(written(*each) for each in sent)
    reader = Parser(max_message=100, whole={2})
    events = [event for at in range(0, len(stream), size) for event in reader.feed(stream[at : at + size])]
    whole = [event for event in events if isinstance(event, Whole)]
    assert whole == [Whole(2, b"a.b", headers or b"", payload) for sid, payload, headers in sent if sid == 2]
    plain = [payload for event in events if isinstance(event, Delivery) for payload in event.payloads]
    assert plain == [
        payload for sid, payload, headers in sent if sid == 1 and not (headers or b"").startswith(b"NATS/1.0 503")
    ]


def test_headers_that_are_too_large_cost_their_message_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HEADERS", 100)
    reader = Parser(max_message=100, whole={2})
    stream = written(2, b"", b"x" * 101) + written(2, b"next", b"x" * 100)
    assert list(reader.feed(stream)) == [
        Flaw("a message with more than 100 bytes of headers"),
        Whole(2, b"a.b", b"x" * 100, b"next"),
    ]
