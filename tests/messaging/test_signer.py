"""What is signed, by whom, and when."""

import pytest

from remaphore.errors import EncodeError, NotPermittedError, PayloadTooLargeError
from remaphore.messaging.signer import Signer
from remaphore.protocol import wire
from remaphore.protocol.duration import SECOND
from remaphore.protocol.message import Reply, reply_uuid
from tests.harness.factories import NOW, make_key
from tests.harness.nodes import clock, make_config


def test_a_message_has_the_given_contents_and_a_valid_signature():
    signed = Signer(make_config(1), clock).compose("deploy", to="com.*", payload=b"v1", uuid="x", wants_reply=True)
    frame = wire.decode(signed.raw)
    assert wire.verify(frame)
    assert (frame.sender, frame.destination, frame.verb, frame.uuid) == (make_key(1).public, "com.*", "deploy", b"x")
    assert (frame.payload, frame.wants_reply, frame.time_ns) == (b"v1", True, NOW)
    assert signed.message.digest == wire.digest(signed.raw)


def test_no_two_messages_of_a_sender_have_the_same_nanosecond_even_if_the_clock_stands_or_steps_back():
    times = [NOW, NOW, NOW - 5, NOW + 10, NOW - 60 * SECOND, NOW, NOW + 1, NOW - 60 * SECOND, NOW]
    signed = sign_at(times)
    assert len(set(signed)) == len(times)
    assert signed[:4] == sorted(signed[:4])
    # Each is near enough to the clock of its moment for every receiver, a minute after a step too.
    assert max(abs(time_ns - now) for time_ns, now in zip(signed, times, strict=True)) < 10_000


def sign_at(times):
    clock_times = iter(times)
    signer = Signer(make_config(1), lambda: next(clock_times))
    return [signer.compose("ping", to="**", payload=b"").message.time_ns for _ in times]


def test_a_message_without_a_given_uuid_gets_a_random_one():
    signer = Signer(make_config(1), clock)
    made = {signer.compose("ping", to="**", payload=b"").message.uuid for _ in range(20)}
    assert len(made) == 20
    assert {len(uuid) for uuid in made} == {12}


def test_a_verb_that_the_identity_may_not_send_is_an_error_before_anything_is_signed():
    with pytest.raises(NotPermittedError, match=r"no private key with sender permission found: .* may send ping, not"):
        Signer(make_config(1, "ping"), clock).compose("deploy", to="**", payload=b"")


def test_an_unknown_identity_is_an_error():
    with pytest.raises(NotPermittedError, match=f"no identity with the key {make_key(2).public} in node1.toml"):
        Signer(make_config(1), clock).compose("ping", to="**", payload=b"", key=make_key(2).public)


@pytest.mark.parametrize(("verb", "to", "what"), [("a,b", "**", "verb"), ("ping", "a,b", "destination")])
def test_a_comma_in_verb_or_destination_is_an_error_that_names_the_field(verb, to, what):
    with pytest.raises(EncodeError, match=f"a {what} cannot contain a comma: 'a,b'"):
        Signer(make_config(1), clock).compose(verb, to=to, payload=b"")


def test_a_reply_is_signed_by_the_default_identity_whatever_its_verbs_and_names_its_request():
    asked = Signer(make_config(2), clock).compose("status", to="**", payload=b"", wants_reply=True).message
    signed = Signer(make_config(1, "nothing"), clock).reply(asked, Reply(3, b"bad"), limit=10_000)
    frame = wire.decode(signed.raw)
    assert wire.verify(frame)
    assert (frame.destination, frame.verb, frame.wants_reply, frame.payload) == ("", "reply", False, b"3,bad")
    assert frame.uuid == reply_uuid(asked.digest)


@pytest.mark.parametrize("excess", [10, 50, 5_000])
def test_a_reply_that_would_not_fit_is_cut_with_a_note_of_its_full_size(excess):
    signer = Signer(make_config(1), clock)
    asked = Signer(make_config(2), clock).compose("status", to="**", payload=b"", wants_reply=True).message
    output = b"x" * 10_000
    whole = len(signer.reply(asked, Reply(0, output), limit=1_000_000).raw)
    signed = signer.reply(asked, Reply(0, output), limit=whole - excess)
    assert len(signed.raw) <= whole - excess
    assert signed.message.payload.startswith(b"0,xxx")
    assert signed.message.payload.endswith(b"\nremaphore: output cut to fit the broker's limit: 10000 bytes in all\n")


def test_a_message_that_no_receiver_would_accept_is_an_error_whatever_the_broker_accepts():
    with pytest.raises(PayloadTooLargeError, match=r"message too large: 10\d+ bytes, receivers accept 1048576"):
        Signer(make_config(1), clock).compose("ping", to="**", payload=b"x" * wire.MAX_MESSAGE_BYTES)


def test_a_reply_fits_what_a_requester_accepts_whatever_the_broker_accepts():
    asked = Signer(make_config(2), clock).compose("status", to="**", payload=b"", wants_reply=True).message
    signed = Signer(make_config(1), clock).reply(asked, Reply(0, b"x" * wire.MAX_MESSAGE_BYTES), limit=2**26)
    assert len(signed.raw) <= wire.MAX_MESSAGE_BYTES


def test_a_limit_that_leaves_no_room_for_a_reply_is_an_error():
    asked = Signer(make_config(2), clock).compose("status", to="**", payload=b"", wants_reply=True).message
    with pytest.raises(PayloadTooLargeError, match="no room for a reply"):
        Signer(make_config(1), clock).reply(asked, Reply(0, b"x" * 100), limit=200)
