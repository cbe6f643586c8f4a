"""What both formats ask of an address, a destination, a subject, a key and a duration."""

import pytest

from remaphore.config import checks
from remaphore.errors import KeyFormatError
from remaphore.protocol.keys import PrivateKey

OURS = PrivateKey(b"\1" * 32)


@pytest.mark.parametrize(
    "url",
    [
        *("nats://a", "nats://a:1", "nats://a.b:65535", "tls://a:4222", "nats://10.0.0.1:4222/", "nats://[::1]:4222"),
        *("NATS://A", "nats://b\u00fccher.example"),
    ],
)
def test_addresses_of_nats_servers_are_taken(url):
    assert checks.server_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://a:4222", "neither nats:// nor tls://"),
        ("ws://a:4222", "neither nats:// nor tls://"),
        ("a:4222", "neither nats:// nor tls://"),
        ("nats:a", "host is missing"),
        ("nats://", "host is missing"),
        ("nats://:4222", "host is missing"),
        ("nats://a:", "bad port"),
        ("nats://a:0", "bad port"),
        ("nats://a:65536", "bad host or port"),
        ("nats://a:x", "bad host or port"),
        ("nats://[::1", "bad host or port"),
        ("nats://a:1,nats://b:2", "bad host or port"),
        ("nats://a b", "white space"),
        ("nats://a\n:4222", "control character"),
        ("nats://u:p@a", "a user or password stands in the address"),
        ("nats://a/b", "something follows the port"),
        ("nats://a?b", "something follows the port"),
        ("nats://a#b", "something follows the port"),
    ],
)
def test_anything_else_is_no_address_and_its_mend_is_told(url, problem):
    said = checks.server_problem(url)
    assert problem in said
    assert "; " in said


@pytest.mark.parametrize("text", ["all", "com.crypto.us.left", "z\u00fcrich", "a..b"])
def test_names_are_destinations(text):
    assert checks.destination_problem(text) is None


@pytest.mark.parametrize("text", ["*", "com.**", "a,b", "a b", "a\tb", "a\n", "a\x1b[2J", "a\u2028b"])
def test_what_patterns_or_lines_of_output_would_misread_is_no_destination(text):
    assert "; write" in checks.destination_problem(text)


@pytest.mark.parametrize("text", ["remaphore", "a.b.c", "a-b_c"])
def test_words_joined_by_dots_are_subjects(text):
    assert checks.subject_problem(text) is None


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", ">", "a b", "a\tb", "a\r\n"])
def test_what_nats_would_take_otherwise_is_no_subject(text):
    assert checks.subject_problem(text).startswith("not a NATS subject: ")


def test_a_public_key_is_taken_and_a_private_one_in_its_place_is_not():
    assert checks.public_key_problem(OURS.public) is None
    assert "is it a private one?" in checks.public_key_problem(OURS.reveal())
    assert OURS.reveal()[:20] not in checks.public_key_problem(OURS.reveal())


@pytest.mark.parametrize("text", ["", "x", "0" * 43, "\udcff" * 43, OURS.public + " ", OURS.public[:-2], "1" * 31])
def test_what_no_encoder_produces_is_no_public_key(text):
    assert checks.public_key_problem(text) is not None


def test_a_private_key_is_taken_for_its_own_public_key_only():
    assert checks.private_key(OURS.reveal(), public=OURS.public).public == OURS.public
    with pytest.raises(KeyFormatError, match=f"belongs to {OURS.public}, not to this identity; put"):
        checks.private_key(OURS.reveal(), public=PrivateKey(b"\2" * 32).public)


def test_a_duration_of_absurd_length_is_refused_unread():
    with pytest.raises(ValueError, match="too long for a duration; write for example 5s"):
        checks.read_duration("1" * 5000 + "s")
