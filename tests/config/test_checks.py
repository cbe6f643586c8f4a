"""The checks that both formats make of an address, a destination, a subject, a key and a duration."""

import pytest

from remaphore.config import checks
from remaphore.errors import ConfigError, KeyFormatError
from remaphore.protocol.keys import PrivateKey

OURS = PrivateKey(b"\1" * 32)


@pytest.mark.parametrize(
    "url",
    [
        *("nats://a", "nats://a:1", "nats://a.b:65535", "tls://a:4222", "nats://10.0.0.1:4222/", "nats://[::1]:4222"),
        *("NATS://A", "nats://b\u00fccher.example"),
    ],
)
def test_addresses_of_nats_servers_are_accepted(url):
    assert checks.server_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://a:4222", "neither nats:// nor tls://"),
        ("ws://a:4222", "neither nats:// nor tls://"),
        ("a:4222", "neither nats:// nor tls://"),
        ("nats:a", "the address has no host"),
        ("nats://", "the address has no host"),
        ("nats://:4222", "the address has no host"),
        ("nats://a:", "invalid port"),
        ("nats://a:0", "invalid port"),
        ("nats://a:65536", "invalid host or port"),
        ("nats://a:x", "invalid host or port"),
        ("nats://[::1", "invalid host or port"),
        ("nats://a:1,nats://b:2", "several addresses in one string"),
        ("nats://a b", "cannot contain U+0020 space, its character 9"),
        ("nats://a ", "U+0020 space"),
        ("nats://[fe80::1%25lo]", "the zone of the IPv6 address is escaped"),
        ("nats://a\n:4222", "control character"),
        ("nats://u:p@a", "the address contains a user or password"),
        ("nats://a/b", "the address continues after the port"),
        ("nats://a?b", "the address continues after the port"),
        ("nats://a#b", "the address continues after the port"),
    ],
)
def test_anything_else_is_not_an_address_and_has_a_hint(url, problem):
    found = checks.server_problem(url)
    assert problem in found.what
    assert found.hint


@pytest.mark.parametrize("text", ["all", "com.crypto.us.left", "z\u00fcrich", "a..b"])
def test_names_are_destinations(text):
    assert checks.destination_problem(text) is None


@pytest.mark.parametrize("text", ["*", "com.**", "a,b", "a b", "a\tb", "a\n", "a\x1b[2J", "a\u2028b"])
def test_what_patterns_or_lines_of_output_would_misread_is_no_destination(text):
    found = checks.destination_problem(text)
    assert found.what.startswith("a destination cannot contain ")
    assert found.hint.startswith("use a name such as ")


@pytest.mark.parametrize("text", ["remaphore", "a.b.c", "a-b_c"])
def test_words_joined_by_dots_are_subjects(text):
    assert checks.subject_problem(text) is None


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", ">", "a b", "a\tb", "a\r\n"])
def test_what_nats_would_take_otherwise_is_no_subject(text):
    assert checks.subject_problem(text).what.startswith("not a NATS subject: ")


def test_a_public_key_is_accepted_and_a_private_one_in_its_place_is_not():
    assert checks.public_key_problem(OURS.public) is None
    found = checks.public_key_problem(OURS.reveal())
    assert "is it a private key?" in found.what
    assert OURS.reveal()[:20] not in found.what + found.hint


@pytest.mark.parametrize("text", ["", "x", "0" * 43, "\udcff" * 43, OURS.public + " ", OURS.public[:-2], "1" * 31])
def test_what_no_encoder_produces_is_no_public_key(text):
    assert checks.public_key_problem(text) is not None


def test_a_private_key_is_accepted_for_its_own_public_key_only():
    assert checks.private_key(OURS.reveal(), public=OURS.public).public == OURS.public
    with pytest.raises(KeyFormatError, match=f"belongs to {OURS.public}, not to this identity$") as caught:
        checks.private_key(OURS.reveal(), public=PrivateKey(b"\2" * 32).public)
    assert caught.value.hint == "pair each public key with its own private key"


def test_a_duration_of_absurd_length_is_refused_unread():
    with pytest.raises(ConfigError, match=r"too long for a duration$") as caught:
        checks.read_duration("1" * 5000 + "s")
    assert caught.value.hint.endswith("such as 5s or 1h30m")
