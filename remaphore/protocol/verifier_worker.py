"""The program of a verifying process, and the decoder of base58 that it shares with `keys`.

`python -I -S verifier_worker.py PATH...` verifies signatures and does nothing else; the receiving side starts it in a
flood. It sees only messages as they arrived, no key of ours and no configuration. It ends with its stdin, and not by a
signal that a service manager sends to all processes of a service: the daemon may still need it.

This file imports nothing of remaphore, and of PyNaCl only the compiled module: so the process needs 4 MiB of its own
instead of 8, and a file of another version cannot be mixed with this one after an upgrade. *PATH...*: the folders that
contain PyNaCl and cffi.

One batch on stdin: `BATCH_HEAD` (version, name of the batch, how many messages, how many bytes), the length of each
message (4 bytes, big-endian), all messages. The answer on stdout: `ANSWER_HEAD` (version, name of the batch, how many
messages), and a byte for each: 1 if its signature is valid, else 0.
"""

from __future__ import annotations

import sys
from struct import Struct, unpack

TYPE_CHECKING = False  # that of `typing`, whose import would need a MiB of this process
if TYPE_CHECKING:
    from collections.abc import Callable

# The first byte is the version of this exchange, so that a daemon and a process of another version end it.
VERSION = 1
BATCH_HEAD = Struct(">B8sII")
ANSWER_HEAD = Struct(">B8sI")

ALPHABET = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # base58, as Bitcoin has it
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
# base58 grows by log(256)/log(58); a text longer than this cannot be right and is not worth decoding.
MAX_TEXT = {PUBLIC_KEY_BYTES: 44, SIGNATURE_BYTES: 88}
MAX_KEYS = 16_384  # that are kept decoded

_DIGITS = bytes.maketrans(ALPHABET, bytes(range(58)))
# Base58 is decoded in rounds: digits are joined to pairs, these to fours, and so on. All pairs of a round are joined by
# one multiplication of a large integer, so that 128 digits take seven rounds. For example, of the digits 1 2 3 4, a
# byte each, round one makes 1*58+2 and 3*58+4, two bytes each, and round two (1*58+2)*58**2 + (3*58+4).
# For each round: the bits of a place, a mask of every second place, and the weight of the place to the left of it.
_PAIRS = tuple(
    (8 << n, int.from_bytes((bytes(1 << n) + b"\xff" * (1 << n)) * (64 >> n)), 58 ** (1 << n)) for n in range(7)
)


def decode_base58(text: bytes, size: int) -> bytes:
    """Return the *size* bytes of base58 *text*. Raise ValueError, which quotes nothing, for any other number of bytes.

    The signature of every message is decoded, and base58.b58decode takes 17 microseconds for one (and ignores white
    space at its end): this takes 3. Each value has only one text: as many leading `1` as leading zero bytes.
    """
    if len(text) > MAX_TEXT[size] or text.translate(None, ALPHABET):
        raise ValueError("not base58 (Bitcoin alphabet)")
    value = int.from_bytes(text.translate(_DIGITS))
    for bits, low, base in _PAIRS:
        value = (value >> bits & low) * base + (value & low)
    significant = (value.bit_length() + 7) // 8
    decoded = len(text) - len(text.lstrip(b"1")) + significant
    if decoded != size:
        raise ValueError(f"{decoded} bytes instead of {size}")
    return value.to_bytes(size, "big")


def find_verify() -> Callable[[bytes, bytes], bool]:
    """Return the function that says whether a signature, with what it signs behind it, was made with a public key.

    It calls libsodium as `nacl.bindings.crypto_sign_open` does, without the 2 microseconds of that function, which
    copies the message and makes an exception of a result. The key must have PUBLIC_KEY_BYTES. Raise ImportError or
    AttributeError if PyNaCl has no such module.
    """
    from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # a compiled module

    lib.sodium_init()
    open_signed = lib.crypto_sign_open
    nowhere = ffi.NULL  # to write the message and its length to

    def verify(signed: bytes, public: bytes) -> bool:
        return bool(open_signed(nowhere, nowhere, signed, len(signed), public) == 0)

    return verify


class PublicKeys(dict[bytes, bytes]):
    """Decoded public keys by their text; a missing one is decoded. Raise ValueError for a text that is none."""

    def __missing__(self, text: bytes) -> bytes:
        """Decode *text*, and keep the result."""
        if len(self) >= MAX_KEYS:
            self.clear()
        self[text] = key = decode_base58(text, PUBLIC_KEY_BYTES)
        return key


def make_verify(verify_signed: Callable[[bytes, bytes], bool], keys: PublicKeys) -> Callable[[bytes], bool]:
    """Return the function that says whether the signature of a message, as it arrived, is valid.

    *verify_signed*: what `find_verify` returns.
    """

    def verify(raw: bytes) -> bool:
        key, signature, body = raw.split(b",", 2)
        try:
            public = keys[key]
            signed = decode_base58(signature, SIGNATURE_BYTES) + body
        except ValueError:
            return False
        return verify_signed(signed, public)

    return verify


def serve(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
    """Answer batches until *read* returns less than was asked for. *read* waits for the bytes, *write* writes all."""
    verify = make_verify(find_verify(), PublicKeys())
    while len(head := read(BATCH_HEAD.size)) == BATCH_HEAD.size:
        version, name, count, total = BATCH_HEAD.unpack(head)
        if version != VERSION:
            return
        lengths = read(4 * count)
        messages = read(total)
        if len(lengths) != 4 * count or len(messages) != total:
            return
        results = bytearray()
        end = 0
        for length in unpack(f">{count}I", lengths):
            begin, end = end, end + length
            results.append(verify(messages[begin:end]))
        write(ANSWER_HEAD.pack(VERSION, name, count) + results)


if __name__ == "__main__":
    # `signal` would need half a MiB for its enums.
    from _signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal  # type: ignore[import-not-found]

    for number in (SIGHUP, SIGINT, SIGTERM):
        signal(number, SIG_IGN)
    sys.path += sys.argv[1:]
    with open(1, "wb", buffering=0) as answers:  # unbuffered; it has room for an answer, so all of it is written
        serve(sys.stdin.buffer.read, answers.write)
