"""The verifying process: it finds valid what the gate finds valid, and speaks in batches."""

import io
import runpy
import signal
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.protocol import verifier_worker, wire
from remaphore.protocol.keys import library_folders
from remaphore.protocol.verifier_worker import (
    ANSWER_HEAD,
    BATCH_HEAD,
    VERSION,
    PublicKeys,
    find_verify,
    make_verify,
    serve,
)
from tests.harness.factories import bounded, make_encoded, make_key, sign_again, sign_body

VERIFY = make_verify(find_verify(), PublicKeys())
RAW = make_encoded(payload=b"payload")
KEY, SIGNATURE, BODY = RAW.split(b",", 2)


def batch(*messages, version=VERSION, name=b"the name"):
    lengths = b"".join(struct.pack(">I", len(each)) for each in messages)
    return BATCH_HEAD.pack(version, name, len(messages), sum(map(len, messages))) + lengths + b"".join(messages)


def answers(data):
    written = io.BytesIO()
    serve(io.BytesIO(data).read, written.write)
    return written.getvalue()


TEXTS = st.one_of(
    st.binary(max_size=100),
    st.text("123456789ABCz", max_size=100).map(str.encode),
    st.sampled_from([KEY, SIGNATURE, make_key(2).public.encode(), b"1" * 32, b"1" * 64, KEY + b" ", b"1" + KEY]),
    st.tuples(st.sampled_from([KEY, SIGNATURE]), st.integers(0, 87), st.sampled_from(b"1z0")).map(
        lambda drawn: drawn[0][: drawn[1]] + bytes([drawn[2]]) + drawn[0][drawn[1] + 1 :]
    ),
)


@bounded
@given(st.one_of(st.just(KEY), TEXTS), st.one_of(st.just(SIGNATURE), TEXTS), st.sampled_from([BODY, BODY + b"!"]))
def test_a_signature_is_valid_here_if_it_is_for_the_gate(key, signature, body):
    raw = b",".join((key.replace(b",", b""), signature.replace(b",", b""), body))
    if not key.isascii():  # `decode` drops it
        assert not VERIFY(raw)
        return
    assert VERIFY(raw) == wire.verify(wire.decode(raw))


@pytest.mark.parametrize("size", [0, 1, 200, 70_000, 1_000_000])
def test_messages_of_every_size_are_verified(size):
    raw = make_encoded(payload=b"x" * size)
    assert VERIFY(raw)
    assert VERIFY(sign_again(raw))
    assert not VERIFY(raw + b"?")


def test_a_key_of_small_order_and_a_signature_out_of_range_are_invalid_as_for_the_gate():
    zero = b"1" * 32  # a point of small order: with it, one signature would do for many messages
    for raw in (b",".join((zero, b"1" * 64, BODY)), b",".join((KEY, b"1" * 64, BODY))):
        assert not VERIFY(raw)
        assert not wire.verify(wire.decode(raw))


def test_decoded_keys_are_kept_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(verifier_worker, "MAX_KEYS", 2)
    verify = make_verify(find_verify(), PublicKeys())
    raws = [make_encoded(number) for number in range(4)]
    assert [verify(raw) for raw in raws * 2] == [True] * 8


def test_batches_are_answered_in_order_by_their_name_until_stdin_ends():
    data = batch(RAW, RAW + b"?", sign_body(b"any body"), name=b"12345678") + batch() + batch(RAW)
    assert answers(data) == (
        ANSWER_HEAD.pack(VERSION, b"12345678", 3)
        + b"\1\0\1"
        + ANSWER_HEAD.pack(VERSION, b"the name", 0)
        + ANSWER_HEAD.pack(VERSION, b"the name", 1)
        + b"\1"
    )


@pytest.mark.parametrize("end", range(1, len(batch(RAW)), 7))
def test_a_batch_that_breaks_off_is_not_answered(end):
    assert answers(batch(RAW)[:end]) == b""


def test_a_batch_of_another_version_ends_the_process():
    assert answers(batch(RAW, version=VERSION + 1) + batch(RAW)) == b""


def test_the_program_needs_no_module_but_those_of_the_folders_that_it_is_given(monkeypatch, tmp_path):
    answer = tmp_path / "answer"
    data = io.TextIOWrapper(io.BytesIO(batch(RAW)))
    monkeypatch.setattr(sys, "argv", ["verifier_worker.py", *library_folders()])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "stdin", data)
    monkeypatch.setattr("builtins.open", lambda _one, mode, buffering: answer.open(mode, buffering))
    actions = {}
    monkeypatch.setattr("_signal.signal", actions.__setitem__)  # those of this process stay
    runpy.run_path(verifier_worker.__file__, run_name="__main__")
    assert actions == dict.fromkeys((signal.SIGHUP, signal.SIGINT, signal.SIGTERM), signal.SIG_IGN)
    assert answer.read_bytes() == ANSWER_HEAD.pack(VERSION, b"the name", 1) + b"\1"
    assert sys.path[-len(library_folders()) :] == list(library_folders())
