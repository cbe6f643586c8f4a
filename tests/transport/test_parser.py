"""The NATS protocol is read as nats-server writes it, and what is not it costs a line, a message or the connection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remaphore.transport import parser as module
from remaphore.transport.parser import MAX_LINE, MAX_SKIPPED, Control, Delivery, Event, Flaw, Parser, ProtocolError
from tests.harness.fake_server import FakeServer, fake_server
from tests.harness.nats_server import connected
from tests.harness.waiting import until

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
LARGEST = 100  # of a message, in these tests
# What nats-server takes as part of a subject: it splits at these four bytes, and at no other.
SUBJECTS = st.binary(min_size=1, max_size=20).filter(lambda text: not set(text) & set(b" \t\r\n"))
PAYLOADS = st.binary(max_size=LARGEST)


class Line(NamedTuple):
    """Something that a server writes, and what is to be read in it."""

    raw: bytes
    event: Event | None


def message(
    payload: bytes, *, sid: int = 1, subject: bytes = b"a.b", reply: bytes = b"", headers: bytes | None = None
) -> bytes:
    """Return MSG, or with *headers* HMSG, as nats-server writes it."""
    place = b"%b %d %b" % (subject, sid, reply + b" " * bool(reply))
    if headers is None:
        return b"MSG %b%d\r\n%b\r\n" % (place, len(payload), payload)
    return b"HMSG %b%d %d\r\n%b%b\r\n" % (place, len(headers), len(headers) + len(payload), headers, payload)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """One thing that is in step: a message of any content, or a control line."""
    kind = draw(st.sampled_from(["message", "message", "PING", "PONG", "+OK", "-ERR", "INFO"]))
    if kind == "message":
        payload, sid = draw(PAYLOADS), draw(st.integers(0, 10**9))
        reply, headers = draw(st.just(b"") | SUBJECTS), draw(st.none() | PAYLOADS)
        raw = message(payload, sid=sid, subject=draw(SUBJECTS), reply=reply, headers=headers)
        return Line(raw, None if (headers or b"").startswith(b"NATS/1.0 503") else Delivery(sid, [payload]))
    if kind == "+OK":
        return Line(b"+OK\r\n", None)
    text = draw(SUBJECTS) if kind in ("-ERR", "INFO") else b""
    return Line(kind.encode() + b" " * bool(text) + text + b"\r\n", Control(kind.encode(), text.strip()))


def read(chunks: Iterable[bytes], *, largest: int = LARGEST) -> list[Event]:
    """Return all that a new parser finds in *chunks*, each message as a Delivery of its own."""
    parser = Parser(max_message=largest)
    return [event for chunk in chunks for event in one_by_one(parser.feed(chunk))]


def one_by_one(events: Iterable[Event]) -> Iterator[Event]:
    """Yield *events*, with each message as a Delivery of its own."""
    for event in events:
        if isinstance(event, Delivery):
            yield from (Delivery(event.sid, [payload]) for payload in event.payloads)
        else:
            yield event


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return *data* in pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.lists(lines(), max_size=8), st.lists(st.integers(0, 2000)))
def test_what_a_server_writes_is_read_however_it_is_cut(written: list[Line], places: list[int]) -> None:
    raw = b"".join(line.raw for line in written)
    expected = [line.event for line in written if line.event is not None]
    assert read(cut(raw, places)) == expected
    assert read(raw[place : place + 1] for place in range(len(raw))) == expected


class CompleteParser(Parser):
    """The parser without its fast path."""

    def _plain_messages(self) -> list[Delivery]:
        return []


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """What a server writes, mostly plain messages, with a few bytes changed, inserted or removed."""
    plain = st.builds(
        message, PAYLOADS | st.just(bytes(LARGEST + 1)), sid=st.integers(0, 2), reply=st.just(b"") | SUBJECTS
    )
    raw = bytearray(b"".join(draw(st.lists(plain | lines().map(lambda line: line.raw), max_size=8))))
    for place in draw(st.lists(st.integers(0, 2000), max_size=3)):
        start = place % (len(raw) + 1)
        raw[start : start + draw(st.integers(0, 1))] = draw(st.sampled_from([b"", *NEARLY]))
    return bytes(raw)


NEARLY = (b" ", b"\t", b"\r", b"\n", b"\r\n", b"0", b"1", b"9", b"-", b"\xb2", b"x", b"MSG ", b"msg a 1 1", b"9" * 30)


def found_by(parser: Parser, chunks: Iterable[bytes]) -> tuple[list[Event], str]:
    """Return all that *parser* finds in *chunks*, and its error."""
    found: list[Event] = []
    try:
        for chunk in chunks:
            for event in one_by_one(parser.feed(chunk)):
                found.append(event)  # noqa: PERF402 - what comes before an error counts
    except ProtocolError as error:
        return found, str(error)
    return found, ""


@settings(max_examples=400)
@given(streams(), st.lists(st.integers(0, 2000)))
@example(b"MSG a\n 1 1\r\na\r\n", [])
@example(b"MSG a\tb 1 1\r\na\r\n", [])
@example(b"MSG a 1 1\r\na\r\nMSG a 1 1\n\na\r\n", [])
@example(b"MSG a 1 1 \r\na\r\nMSG a 1 01\r\na\r\nMSG a 01 1\r\nb\r\n", [])
@example(b"MSG a 1 1\r\na\r\nMSG a 1 1\r\na\n\nMSG a 1 1\r\na\r\n", [])
@example(b"MSG a 1 %d\r\n%b\r\nMSG a 1 1\r\na\r\n" % (LARGEST + 1, bytes(LARGEST + 1)), [])
def test_the_fast_path_finds_what_the_complete_parser_finds(raw: bytes, places: list[int]) -> None:
    expected = found_by(CompleteParser(max_message=LARGEST), [raw])
    assert found_by(Parser(max_message=LARGEST), [raw]) == expected
    assert found_by(Parser(max_message=LARGEST), cut(raw, places)) == expected
    assert found_by(CompleteParser(max_message=LARGEST), cut(raw, places)) == expected


def test_messages_of_one_subscription_that_arrive_together_are_handed_over_together() -> None:
    raw = message(b"a") + message(b"b") + message(b"c", sid=2) + b"PING\r\n" + message(b"d") + message(b"e", reply=b"r")
    parser = Parser(max_message=LARGEST)
    assert list(parser.feed(raw + message(b"f")[:-1])) == [
        *(Delivery(1, [b"a", b"b"]), Delivery(2, [b"c"]), Control(b"PING", b"")),
        *(Delivery(1, [b"d"]), Delivery(1, [b"e"])),
    ]
    assert list(parser.feed(b"\n")) == [Delivery(1, [b"f"])]


@given(st.binary(max_size=300) | st.text("MSGHPIN0123456789 ab\r\n").map(str.encode), st.lists(st.integers(0, 300)))
def test_any_bytes_are_read_or_are_a_protocol_error(data: bytes, places: list[int]) -> None:
    parser = Parser(max_message=LARGEST)
    try:
        for chunk in cut(data, places):
            for event in parser.feed(chunk):
                assert isinstance(event, Delivery | Control | Flaw)
    except ProtocolError:
        assert data


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"MSG\r\n", "without a size"),
        (b"MSG a 1 x\r\n", "without a size"),
        (b"MSG a 1 -1\r\n", "without a size"),
        (b"MSG a 1 1_0\r\n", "without a size"),
        (b"MSG a 1 \xb2\r\n", "without a size"),
        (b"MSG a 1 %s\r\n" % (b"9" * 5000), "without a size"),
        (b"MSG a 1 20000000000\r\n", "of 20000000000 bytes"),
        (b"MSG a 1 %d\r\n" % (MAX_SKIPPED + 1), f"of {MAX_SKIPPED + 1} bytes"),
        (b"HMSG a 1 2\r\n\r\n", "not the announced one"),  # read as a message of 2 bytes whose headers have no size
        (b"MSG a 1 3\r\nabcd\r\n", "not the announced one"),
        (b"MSG a 1 3\r\nab\r\n\r\n", "not the announced one"),
        (b"\r\n", "not an operation"),
        (b"HTTP/1.1 400 Bad Request\r\n", "not an operation"),
        (b"MSGS a 1 0\r\n\r\n", "not an operation"),
        (b"-ERROR x\r\n", "not an operation"),
        (b"M" * (MAX_LINE + 1), "a line of more than"),
        (b"INFO " + b"x" * MAX_LINE + b"\r\n", "a line of more than"),
    ],
)
def test_where_the_end_is_not_known_the_stream_is_out_of_step(raw: bytes, text: str) -> None:
    parser = Parser(max_message=LARGEST)
    found: list[Event] = []
    with pytest.raises(ProtocolError, match=text):
        found.extend(parser.feed(message(b"before") + raw + message(b"after")))
    assert found[:1] == [Delivery(1, [b"before"])]
    assert Delivery(1, [b"after"]) not in found


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"MSG a x 3\r\nabc\r\n", "no subscription"),
        (b"MSG a \xff 3\r\nabc\r\n", "no subscription"),
        (b"MSG a b c 1 3\r\nabc\r\n", "no subscription"),
        (b"MSG 3\r\nabc\r\n", "no subscription"),
        (b"HMSG a 1 9 3\r\nabc\r\n", "headers have no size"),
        (b"HMSG a 1 x 3\r\nabc\r\n", "headers have no size"),
        (b"HMSG a 1 -1 3\r\nabc\r\n", "headers have no size"),
    ],
)
def test_what_is_wrong_within_one_message_costs_that_message(raw: bytes, text: str) -> None:
    for chunks in ([raw], [raw[place : place + 1] for place in range(len(raw))]):
        flaw, after = read([*chunks, message(b"after")])
        assert isinstance(flaw, Flaw)
        assert text in flaw.text
        assert after == Delivery(1, [b"after"])


@pytest.mark.parametrize(
    "reply", [b"\xff", b"a\x0bb", b"a\x0cb", b"\x0b", b"\x00", b"\x1b[2J", b"\x85", "\u2028".encode()]
)
@pytest.mark.parametrize("headers", [None, b"", b"\r\n", b"N", b"NATS/1.0", b"NATS/1.0 x", b"\xff" * 30])
def test_reply_subject_and_headers_are_never_looked_at(reply: bytes, headers: bytes | None) -> None:
    assert read([message(b"payload", reply=reply, headers=headers)]) == [Delivery(1, [b"payload"])]


@pytest.mark.parametrize("headers", [None, b"NATS/1.0\r\n\r\n"])
@pytest.mark.parametrize("size", [LARGEST, LARGEST + 1, LARGEST + 2, 10_000, MAX_SKIPPED // 64])
def test_a_message_that_is_too_large_comes_one_byte_too_long_and_the_rest_is_never_kept(
    size: int, headers: bytes | None
) -> None:
    parser = Parser(max_message=LARGEST)
    raw = message(bytes(range(256)) * (size // 256) + bytes(size % 256), headers=headers) + message(b"after")
    found, most = [], 0
    for start in range(0, len(raw), 50):
        found += parser.feed(raw[start : start + 50])
        most = max(most, len(parser._buffer))
    assert [len(payload) for event in found if isinstance(event, Delivery) for payload in event.payloads] == [
        min(size, LARGEST + 1),
        5,
    ]
    assert most <= 2 * LARGEST + 100


@pytest.mark.parametrize("kept", [b"NATS/1.0 503\r\n", b"NATS/1.0 404\r\n", b"x", b""])
def test_headers_are_dropped_as_they_arrive(kept: bytes) -> None:
    parser = Parser(max_message=LARGEST)
    raw = message(b"payload", headers=kept + b"x" * 100_000) + message(b"after")
    found, most = list[Event](), 0
    for start in range(0, len(raw), 7):
        found += parser.feed(raw[start : start + 7])
        most = max(most, len(parser._buffer))
    is_status = kept.startswith(b"NATS/1.0 503")
    assert found == [Delivery(1, [b"payload"])] * (not is_status) + [Delivery(1, [b"after"])]
    assert most < 100


def test_names_of_operations_and_blanks_are_read_as_other_clients_read_them() -> None:
    raw = b"msg  a\t1   3 \r\nabc\r\nMSG a 1 0\n\r\nping\r\nPING \r\nInfo  {}\r\n"
    assert read([raw]) == [
        *(Delivery(1, [b"abc"]), Delivery(1, [b""])),
        *(Control(b"PING", b""), Control(b"PING", b""), Control(b"INFO", b"{}")),
    ]


@pytest.mark.parametrize(
    "head", [b"INFO ", b"-ERR '", b"MSG a 1 ", b"HMSG ", b"MSG a 1 500000\r\n", b"MSG a x 500000\r\n", b"PING "]
)
def test_the_work_is_linear_however_small_the_pieces(head: bytes) -> None:
    def seconds(size: int) -> float:
        parser = Parser(max_message=MAX_LINE)
        started = time.process_time()
        for _ in parser.feed(head):
            pass
        for _ in range(size):
            for _ in parser.feed(b"x"):
                pass
        return time.process_time() - started

    ratio = min(seconds(200_000) / seconds(100_000) for _ in range(5))
    assert ratio < 2.5


def mutate(chance: random.Random, raw: bytes) -> bytes:
    """Return a line that a server wrote, changed where anyone could change it, and still in step."""
    head, _, rest = raw.partition(b"\r\n")
    if head.startswith((b"MSG", b"HMSG")):
        words = head.split(b" ")
        for place in [1, *range(3, len(words) - 1 - head.startswith(b"HMSG"))]:  # subject, reply
            words[place] = bytes(
                chance.choice(b"\x00\x0b\x0c\x1b.az*>\x7f\x80\xc3\xff") for _ in range(chance.randint(1, 9))
            )
        if chance.random() < 0.2:
            words[2] = chance.choice((b"x", b"99", b"\xff", b"1" * 40))
        if head.startswith(b"HMSG") and chance.random() < 0.3:
            words[-2] = chance.choice((b"x", b"-1", b"9" * 30, b"0", b"1", b"2"))
        if chance.random() < 0.2:
            words.insert(3, b"more")
        return b" ".join(words) + b"\r\n" + rest
    odd = bytes(chance.randrange(256) for _ in range(chance.randint(0, 9))).translate(None, b'\r\n"')
    if head.startswith(b"-ERR"):  # one that names no denied subject ends the connection, as it does at the server
        return head.replace(b"x", odd) + b"\r\n"
    operation, _, text = head.partition(b" ")
    return operation + b" " + odd + text[chance.randint(0, len(text)) :] + b"\r\n"


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=LONG)])
async def test_mutated_lines_of_a_server_raise_nothing_and_cost_no_connection(count: int) -> None:
    chance = random.Random(count)
    got: list[bytes] = []
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context))
    sources = [
        message(b"mutant", reply=b"r"),
        message(b"mutant", headers=b"NATS/1.0\r\na: b\r\n\r\n"),
        message(b"mutant", reply=b"r", headers=b"NATS/1.0 100 Idle\r\n\r\n"),
        *(b'INFO {"max_payload":1024,"connect_urls":["a:1"]}\r\n', b"PING\r\n", b"+OK\r\n", b"PONG\r\n"),
        b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
    ]
    server = Scripted()
    async with fake_server(server), connected(server.url) as bus:
        await bus.subscribe("a.b", got.append)
        for number in range(count):
            raw = mutate(chance, chance.choice(sources)) + message(b"true %d" % number)
            for piece in cut(raw, [chance.randrange(len(raw)) for _ in range(chance.choice((0, 0, 1, 5)))]):
                server.write(piece)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await server.drain()
        await until(lambda: got[-1:] == [b"true %d" % (count - 1)], limit=300)
        assert bus.reconnects == 0
    assert server.connections == 1
    assert [data for data in got if data.startswith(b"true")] == [b"true %d" % number for number in range(count)]
    assert raised == []


class Scripted(FakeServer):
    """A server that writes what the test tells it to, on the one connection that it has."""

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        await super()._talk(reader, writer)


def test_limits_are_those_of_the_documentation() -> None:
    assert module.MAX_LINE == 1024 * 1024
    assert module.MAX_SKIPPED == 64 * 1024 * 1024
