"""Keys: ed25519 pairs of nodes in base58, and the nkeys of NATS users in base32.

The only module that uses PyNaCl, base58 and nkeys, but for the verifying process (`verifier_worker`).
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import base58

from remaphore.errors import KeyFormatError
from remaphore.protocol.verifier_worker import (
    ALPHABET,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    PublicKeys,
    decode_base58,
    find_verify,
    make_verify,
)

__all__ = ["PUBLIC_KEY_BYTES", "SIGNATURE_BYTES"]

PRIVATE_KEY_BYTES = 64  # the seed, then the public key: the form of Go's crypto/ed25519
SEED_BYTES = 32
_LETTERS = bytes.maketrans(bytes(range(58)), ALPHABET)


class PrivateKey:
    """The secret half of an identity. Only `reveal` shows its bytes, and it cannot be pickled."""

    __slots__ = ("_secret", "public")

    public: str

    def __init__(self, seed: bytes) -> None:
        """Derive the key pair from a 32-byte *seed*."""
        raw_public, self._secret = _make_pair(seed)
        self.public = base58.b58encode(raw_public).decode()

    @classmethod
    def generate(cls) -> PrivateKey:
        """Return a new key from the system's random source."""
        return cls(os.urandom(SEED_BYTES))

    @classmethod
    def from_text(cls, text: str) -> PrivateKey:
        """Return the key in *text*, 64 bytes of seed and public key. Raise KeyFormatError, which never quotes it."""
        try:
            raw = decode_exact(text.encode("ascii", "replace"), PRIVATE_KEY_BYTES)
        except KeyFormatError as error:
            raise KeyFormatError(f"invalid private key: {error}") from None
        key = cls(raw[:SEED_BYTES])
        if key._secret != raw:
            raise KeyFormatError("invalid private key: its two halves do not match")
        return key

    def reveal(self) -> str:
        """Return the secret as the text that `from_text` reads. For files that only the owner can read."""
        return base58.b58encode(self._secret).decode()

    def sign(self, body: bytes) -> bytes:
        """Return the 64-byte signature of *body*. Use `wire.encode`, which signs only a `Message`."""
        return _sign(body, self._secret)

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key cannot be pickled")


def decode_public(text: str) -> bytes:
    """Return the 32 bytes of a public key. Raise KeyFormatError for any text that no encoder produces.

    No error quotes the text: it may be a private key, given by mistake.
    """
    try:
        return _public_keys[text.encode("ascii", "replace")]
    except ValueError as error:
        raise KeyFormatError(str(error)) from None


def decode_exact(text: bytes, size: int) -> bytes:
    """Return the *size* bytes of base58 *text*. Raise KeyFormatError for any other number of bytes."""
    try:
        return decode_base58(text, size)
    except ValueError as error:
        raise KeyFormatError(str(error)) from None


def encode_base58(raw: bytes) -> bytes:
    """Return the base58 text of *raw*: as many `1` as leading zero bytes, then the digits of the rest.

    Each signature is encoded, and base58.b58encode takes 14 microseconds for one: this takes 6, because it divides the
    large number once for four digits, which are then taken from a small number.
    """
    number = int.from_bytes(raw)
    digits: list[int] = []  # the last one first
    while number:
        number, four = divmod(number, 58**4)
        digits += four % 58, four // 58 % 58, four // 58**2 % 58, four // 58**3
    digits.reverse()
    significant = bytes(digits).translate(_LETTERS).lstrip(b"1")
    return b"1" * (len(raw) - len(raw.lstrip(b"\0"))) + significant


def choose_verify() -> Callable[[bytes, bytes], bool]:
    """Return `find_verify()`, or the same made of PyNaCl's public function if it has no such compiled module."""
    try:
        return find_verify()
    except (ImportError, AttributeError):
        from nacl import bindings
        from nacl.exceptions import BadSignatureError

        def verify_signed(signed: bytes, public: bytes) -> bool:
            try:
                bindings.crypto_sign_open(signed, public)
            except BadSignatureError:
                return False
            return True

        return verify_signed


def choose_signing() -> tuple[Callable[[bytes], tuple[bytes, bytes]], Callable[[bytes, bytes], bytes]]:
    """Return two functions of libsodium: one makes a public and a private key of a seed, one signs with the latter.

    As in `find_verify`, they are those of PyNaCl's compiled module, without the 0.4 MiB of its package `bindings`, and
    those of this package if there is no such module.
    """
    try:
        from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # a compiled module

        lib.sodium_init()
        new, buffer, derive, sign_attached = ffi.new, ffi.buffer, lib.crypto_sign_seed_keypair, lib.crypto_sign
    except (ImportError, AttributeError):
        from nacl import bindings

        return bindings.crypto_sign_seed_keypair, lambda body, secret: bindings.crypto_sign(body, secret)[
            :SIGNATURE_BYTES
        ]

    def make_pair(seed: bytes) -> tuple[bytes, bytes]:
        if len(seed) != SEED_BYTES:  # libsodium reads as many in any case
            raise ValueError(f"seed of {len(seed)} bytes instead of {SEED_BYTES}")
        public, secret = new("unsigned char[]", PUBLIC_KEY_BYTES), new("unsigned char[]", PRIVATE_KEY_BYTES)
        derive(public, secret, seed)  # it cannot fail, and neither can the other one
        return buffer(public)[:], buffer(secret)[:]

    def sign(body: bytes, secret: bytes) -> bytes:
        signed = new("unsigned char[]", SIGNATURE_BYTES + len(body))
        sign_attached(signed, ffi.NULL, body, len(body), secret)
        return bytes(buffer(signed, SIGNATURE_BYTES)[:])

    return make_pair, sign


# What the configuration has is decoded when it is read: the first message of each peer needs its key.
_public_keys = PublicKeys()
verify = make_verify(choose_verify(), _public_keys)  # gets a message as it arrived
_make_pair, _sign = choose_signing()


def library_folders() -> tuple[str, ...]:
    """Return the folders from which PyNaCl and cffi were loaded: what a verifying process needs of `sys.path`.

    They are those of a virtual environment, of `pip --target`, or of a distribution.
    """
    files = (Path(str(sys.modules[name].__file__)).absolute() for name in ("nacl", "_cffi_backend"))
    return tuple(dict.fromkeys(str(file.parents[1] if file.stem == "__init__" else file.parent) for file in files))


class NatsKey:
    """A key of the NATS account system: *kind* is `operator`, `account` or `user`."""

    __slots__ = ("_pair", "public", "seed")

    def __init__(self, kind: str, *, seed: str | None = None) -> None:
        """Generate a new key, or use that of *seed*. `public` begins with O, A or U, `seed` with SO, SA or SU.

        Raise KeyFormatError if *seed* is not one of this kind.
        """
        import nkeys

        prefix = {
            "operator": nkeys.PREFIX_BYTE_OPERATOR,
            "account": nkeys.PREFIX_BYTE_ACCOUNT,
            "user": nkeys.PREFIX_BYTE_USER,
        }[kind]
        self.seed: str = seed or nkeys.encode_seed(os.urandom(SEED_BYTES), prefix).decode()
        try:
            self._pair = nkeys.from_seed(self.seed.encode())
            self.public: str = self._pair.public_key.decode()
        except (nkeys.NkeysError, ValueError):
            raise KeyFormatError(f"invalid seed of an nkey ({kind})") from None
        if self.public[0] != kind[0].upper():
            raise KeyFormatError(f"seed of an nkey that is not of this kind: {kind}")

    def sign_claims(self, text: str) -> str:
        """Return the third part of a JWT, the signature of its first two: base64url without padding."""
        return base64.urlsafe_b64encode(self._pair.sign(text.encode())).rstrip(b"=").decode()

    def __repr__(self) -> str:
        return f"<NatsKey {self.public}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an nkey cannot be pickled")


def nats_user(seed: str) -> str | None:
    """Return the public key of a NATS user's *seed*, None if it is not one (nkeys does not check the checksum)."""
    import nkeys

    try:
        public = nkeys.from_seed(seed.encode()).public_key.decode()
    except (nkeys.NkeysError, ValueError):
        return None
    return public if public.startswith("U") else None


def is_nats_seed(text: str) -> bool:
    """Return whether *text* is the seed of a NATS user: right alphabet, prefix and length."""
    return nats_user(text) is not None
