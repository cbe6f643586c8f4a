"""Keys: one text per value, no secret shown, signatures as in RFC 8032."""

from __future__ import annotations

import base64
import copy
import pickle
import sys
from collections.abc import Callable

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from remaphore.config.checks import public_key_problem
from remaphore.errors import KeyFormatError
from remaphore.protocol import keys, verifier_worker, wire
from remaphore.protocol.keys import NatsKey, PrivateKey
from remaphore.protocol.verifier_worker import decode_base58
from tests.harness.factories import bounded, make_key, make_message

ALPHABET = base58.BITCOIN_ALPHABET.decode()
SIZES = st.sampled_from([keys.PUBLIC_KEY_BYTES, keys.SIGNATURE_BYTES])
# The order of the group of ed25519 (RFC 8032, section 5.1).
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture(params=["compiled", "bindings"])
def verify(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Return a verifier with PyNaCl's compiled module, and that for a PyNaCl that has none of this name."""
    if request.param == "bindings":
        monkeypatch.setitem(sys.modules, "nacl._sodium", None)
    verify_signed = keys.choose_verify()
    make_pair, sign = keys.choose_signing()
    monkeypatch.setattr(keys, "_make_pair", make_pair)
    monkeypatch.setattr(keys, "_sign", sign)
    return lambda public, signature, body: verify_signed(signature + body, public)


def strictly(text: bytes, size: int) -> bytes | None:
    """Decode as a reference: whatever the library makes of *text*, if it encodes to the same text again."""
    try:
        raw = base58.b58decode(text)
    except ValueError:
        return None
    return raw if len(raw) == size and base58.b58encode(raw) == text else None


def decoded(text: bytes, size: int) -> bytes | None:
    try:
        return keys.decode_exact(text, size)
    except KeyFormatError:
        return None


@st.composite
def near_misses(draw: st.DrawFn) -> tuple[bytes, int]:
    """Draw the text of a value of about the right size, perhaps with something inserted into it."""
    size = draw(SIZES)
    length = draw(st.sampled_from([size, size, size - 1, size + 1]))
    zeros = draw(st.integers(0, 3))
    raw = bytes(zeros) + draw(st.binary(min_size=length - zeros, max_size=length - zeros))
    text = base58.b58encode(raw)
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from([b"", b"", b"1", b" ", b"\n", b"\0", b"0", b"z", b"\xff"])) + text[
        at:
    ], size


@bounded
@given(near_misses())
def test_decoding_near_misses_is_as_strict_as_encoding_again(sample: tuple[bytes, int]) -> None:
    assert decoded(*sample) == strictly(*sample)


@bounded
@given(st.text(ALPHABET + "0OIl \n\t", max_size=90), SIZES)
def test_decoding_any_text_is_as_strict_as_encoding_again(text: str, size: int) -> None:
    assert decoded(text.encode(), size) == strictly(text.encode(), size)


@bounded
@given(st.text(ALPHABET, min_size=43, max_size=44))
def test_decoding_texts_of_the_length_of_a_key_is_as_strict_as_encoding_again(text: str) -> None:
    assert decoded(text.encode(), 32) == strictly(text.encode(), 32)


@bounded
@given(st.binary(min_size=64, max_size=64))
def test_every_value_survives_its_text(raw: bytes) -> None:
    assert keys.decode_exact(keys.encode_base58(raw), 64) == raw
    assert keys.decode_exact(keys.encode_base58(raw[:32]), 32) == raw[:32]


@bounded
@given(st.integers(0, 3), st.binary(max_size=70))
def test_a_text_is_the_same_as_that_of_the_library(zeros: int, rest: bytes) -> None:
    raw = bytes(zeros) + rest
    assert keys.encode_base58(raw) == base58.b58encode(raw)


@pytest.mark.parametrize("end", [" ", "\n", "\t", "\r", "\0", "1"])
def test_a_public_key_with_something_behind_it_is_refused(end: str) -> None:
    with pytest.raises(KeyFormatError, match=r"bytes instead of 32|not base58"):
        keys.decode_public(make_key().public + end)


@pytest.mark.parametrize("text", ["", "1", "1" * 31, "1" * 33, "é" * 32, "?" * 32, "\udcff" * 32, "z" * 44])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(KeyFormatError, match=r"bytes instead of 32|not base58"):
        keys.decode_public(text)


def test_a_long_text_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    monkeypatch.setattr(base58, "b58decode", calls.append)
    with pytest.raises(KeyFormatError, match="not base58"):
        keys.decode_exact(b"z" * 100_000, 64)
    assert calls == []


# RFC 8032, section 7.1, tests 1 and 2.
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f"
            "b8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da08"
            "5ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
]


@pytest.mark.parametrize(("seed", "public", "body", "signature"), RFC8032)
def test_signatures_are_those_of_rfc_8032(
    seed: str, public: str, body: str, signature: str, verify: Callable[..., bool]
) -> None:
    key = PrivateKey(bytes.fromhex(seed))
    assert keys.decode_public(key.public) == bytes.fromhex(public)
    assert key.sign(bytes.fromhex(body)) == bytes.fromhex(signature)
    assert verify(bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(body))


@pytest.mark.parametrize("part", ["public", "signature", "body"])
def test_a_signature_holds_for_its_key_and_body_alone(part: str, verify: Callable[..., bool]) -> None:
    parts = {
        "public": keys.decode_public(make_key().public),
        "signature": make_key().sign(b"body"),
        "body": b"body",
    }
    assert verify(**parts)
    assert not verify(**parts | {part: parts[part][:-1] + bytes([parts[part][-1] ^ 1])})


def test_nobody_can_make_a_second_signature_from_a_first_by_adding_the_order(verify: Callable[..., bool]) -> None:
    signature = make_key().sign(b"body")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(keys.decode_public(make_key().public), signature[:32] + scalar.to_bytes(32, "little"), b"body")


def test_a_public_key_of_small_order_verifies_nothing(verify: Callable[..., bool]) -> None:
    # With the neutral element as key, R = that element and S = 0 would satisfy the equation for every body.
    neutral = (1).to_bytes(32, "little")
    assert not verify(neutral, neutral + bytes(32), b"anything")


@pytest.mark.parametrize("size", [0, 31, 33])
@pytest.mark.usefixtures("verify")
def test_a_seed_of_another_size_makes_no_key(size: int) -> None:
    with pytest.raises(ValueError, match=r"[Ss]eed"):
        PrivateKey(bytes(size))


def test_a_private_key_survives_its_text() -> None:
    key = PrivateKey.generate()
    again = PrivateKey.from_text(key.reveal())
    assert again.public == key.public
    assert again.sign(b"body") == key.sign(b"body")


def test_generated_keys_differ() -> None:
    assert PrivateKey.generate().public != PrivateKey.generate().public


def test_a_private_key_whose_halves_do_not_belong_together_is_refused() -> None:
    mixed = base58.b58decode(make_key(1).reveal())[:32] + base58.b58decode(make_key(2).reveal())[32:]
    with pytest.raises(KeyFormatError, match="do not match"):
        PrivateKey.from_text(base58.b58encode(mixed).decode())


@pytest.mark.parametrize(
    "damage", [lambda t: t[:-1], lambda t: t + "1", lambda t: t + "\n", lambda t: "0" + t[1:], lambda t: "é" + t[1:]]
)
def test_a_bad_private_key_is_refused_without_being_quoted(damage: object) -> None:
    secret = make_key().reveal()
    with pytest.raises(KeyFormatError, match="invalid private key") as caught:
        PrivateKey.from_text(damage(secret))  # type: ignore[operator]
    assert secret[5:20] not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_private_key_shows_its_public_half_only() -> None:
    key = make_key()
    for text in (repr(key), str(key), f"{key}", repr([key])):
        assert key.public in text
        assert key.reveal()[:10] not in text


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_private_key_is_not_pickled_or_copied(leak: object) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        leak(make_key())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "public", "seed"), [("operator", "O", "SO"), ("account", "A", "SA"), ("user", "U", "SU")]
)
def test_an_nkey_tells_its_kind_by_its_first_letters(kind: str, public: str, seed: str) -> None:
    key = NatsKey(kind)
    assert key.public.startswith(public)
    assert key.seed.startswith(seed)
    assert key.seed not in repr(key)
    assert key.public in repr(key)


def test_an_nkey_is_made_again_from_its_seed_and_from_no_other() -> None:
    key = NatsKey("account")
    assert NatsKey("account", seed=key.seed).public == key.public
    for seed, reason in (
        (key.seed[:-1], "invalid seed"),
        ("x", "invalid seed"),
        (NatsKey("user").seed, "not of this kind"),
    ):
        with pytest.raises(KeyFormatError, match=reason) as caught:
            NatsKey("account", seed=seed)
        assert seed not in str(caught.value)


def test_claims_are_signed_by_the_nkey_in_base64url_without_padding() -> None:
    key = NatsKey("account")
    text = key.sign_claims("header.claims")
    signature = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    raw_public = base64.b32decode(key.public)[1:33]
    assert bindings.crypto_sign_open(signature + b"header.claims", raw_public) == b"header.claims"


def test_the_seed_of_a_user_is_reported_from_all_else() -> None:
    user = NatsKey("user").seed
    assert keys.is_nats_seed(user)
    for text in (
        NatsKey("account").seed,
        NatsKey("operator").seed,
        "",
        "SU",
        user[:-8],
        user.lower(),
        user + user,
        "é" + user,
    ):
        assert not keys.is_nats_seed(text)


@bounded
@given(st.text() | st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567=", max_size=64).map("SU".__add__))
def test_asking_whether_a_text_is_a_seed_always_gets_an_answer(text: str) -> None:
    assert keys.is_nats_seed(text) in (True, False)


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_nkey_is_not_pickled_or_copied(leak: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        leak(NatsKey("user"))


def test_the_key_of_a_peer_is_decoded_once_and_not_again_for_its_first_message(monkeypatch):
    sizes: list[int] = []

    def decode(text: bytes, size: int) -> bytes:
        sizes.append(size)
        return decode_base58(text, size)

    monkeypatch.setattr(verifier_worker, "decode_base58", decode)
    key = PrivateKey.generate()
    assert public_key_problem(key.public) is None  # as the configuration is read
    assert wire.verify(wire.decode(wire.encode(make_message(sender=key.public), key)))
    assert sizes == [keys.PUBLIC_KEY_BYTES, keys.SIGNATURE_BYTES]
