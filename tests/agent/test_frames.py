"""The codec of the agent: what one side encodes, the other decodes, however it is cut; all else is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.agent import frames
from remaphore.errors import DecodeError
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.receipt import Receipt

MESSAGE = Message(
    sender="key",
    destination="com.example.**",
    verb="déploy",
    uuid=b"\x00\xff",
    time_ns=1,
    wants_reply=True,
    payload=b"a\nb\x00",
    digest=b"\x01" * 32,
    sender_name="com.example.a",
    own_destination="com.example.b",
)
KINDS = sorted(frames.FROM_CLIENT | frames.FROM_AGENT)


def decode(data: bytes, kinds=frames.FROM_AGENT | frames.FROM_CLIENT) -> list[tuple[bytes, bytes]]:
    return list(frames.Decoder(kinds).feed(data))


def body_of(frame: bytes) -> bytes:
    ((_, body),) = decode(frame)
    return body


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.binary(max_size=40)), max_size=8), st.integers(1, 9))
def test_frames_arrive_whole_and_in_order_however_the_stream_is_cut(sent, step) -> None:
    stream = b"".join(frames.encode(kind, body) for kind, body in sent)
    decoder = frames.Decoder(KINDS)
    arrived = [each for at in range(0, len(stream), step) for each in decoder.feed(stream[at : at + step])]
    assert arrived == sent
    assert not decoder.partial


def test_a_frame_that_is_not_complete_is_not_lost_silently() -> None:
    decoder = frames.Decoder(frames.FROM_AGENT)
    assert list(decoder.feed(frames.encode(frames.END, b"0\n{}")[:-1])) == []
    assert decoder.partial


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_above_the_limit_is_an_error_before_the_body_is_here(kind: bytes) -> None:
    with pytest.raises(DecodeError, match="the limit is"):
        decode(kind + (0xFFFFFFFF).to_bytes(4, "big"))


@pytest.mark.parametrize(("kind", "allowed"), [(b"Z", frames.FROM_AGENT), (frames.END, frames.FROM_CLIENT)])
def test_a_kind_that_may_not_come_is_an_error(kind: bytes, allowed) -> None:
    with pytest.raises(DecodeError, match="unknown frame"):
        decode(frames.encode(kind, b""), allowed)


def test_the_largest_payload_fits_with_what_stands_before_it() -> None:
    large = b"x" * frames.MAX_PAYLOAD_BYTES
    assert decode(frames.encode(frames.PAYLOAD, large)) == [(frames.PAYLOAD, large)]
    reply = Reply(0, large, peer="com.example.a", sender="key")
    assert frames.decode_reply(body_of(frames.encode_reply(reply))) == (reply, None)


@pytest.mark.parametrize("code", [0, 1, -1, None, 9999999999])
@pytest.mark.parametrize("output", [b"", b"\n", b"two\nlines\n", b"\xff\x00"])
def test_a_reply_and_an_answer_keep_every_byte(code: int | None, output: bytes) -> None:
    reply = Reply(code, output, peer="com.example.ä", sender="key", time_ns=2, bound=True)
    assert frames.decode_reply(body_of(frames.encode_reply(reply, cut=7))) == (reply, 7)
    answer = frames.encode_answer(b"\x02" * 32, code, output)
    assert frames.decode_answer(body_of(answer)) == (b"\x02" * 32, Reply(code, output))


def test_a_message_a_receipt_and_an_end_keep_all_they_have() -> None:
    assert frames.decode_message(body_of(frames.encode_message(MESSAGE))) == MESSAGE
    receipt = Receipt("com.example.a", "key", 3)
    assert frames.decode_receipt(body_of(frames.encode_receipt(receipt))) == receipt
    end = body_of(frames.encode_end(3, error="nein\n", kind="busy"))
    assert end.startswith(b"3\n{")
    assert frames.decode_end(end) == {"exit": 3, "error": "nein\n", "kind": "busy"}
    assert frames.decode_drops({"not-bound": 2}) == [Drop(DropReason.NOT_BOUND, count=2)]


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (frames.decode_json, b"[1]"),
        (frames.decode_json, b"\xff"),
        (frames.decode_json, b"[" * 100_000),
        (frames.decode_end, b"0\n{}"),
        (frames.decode_end, b"0"),
        (frames.decode_reply, b"0\npeer"),
        (frames.decode_reply, b"x\npeer\n{}\n"),
        (frames.decode_reply, b"0\npeer\n{}\n"),
        (frames.decode_answer, b"zz\n0\n"),
        (frames.decode_answer, b"00\n"),
        (frames.decode_receipt, b"{}"),
        (frames.decode_message, b"{}\npayload"),
        (frames.decode_drops, {"not-a-reason": 1}),
        (frames.decode_drops, ["busy"]),
    ],
)
def test_a_body_of_another_form_is_a_decode_error(read, body) -> None:
    with pytest.raises(DecodeError):
        read(body)
