"""Keys, peers, messages and gates for the tests, and invalid messages with valid signatures.

Everything is deterministic: a key is named by a number, the clock stands at `NOW`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

from hypothesis import settings
from nacl import bindings

from remaphore.protocol import receipt, wire
from remaphore.protocol.duration import SECOND
from remaphore.protocol.gate import Filters, Gate, Policy
from remaphore.protocol.keys import SEED_BYTES, PrivateKey, encode_base58
from remaphore.protocol.message import REPLY_VERB, Message, Reply, reply_uuid
from remaphore.protocol.peers import Peer, by_key
from remaphore.protocol.replay import ReplayWindow

NOW = 1_700_000_000 * SECOND
SKEW = 5 * SECOND
OWN = "com.crypto.us.left"
OWN_NUMBER = 100  # of the key of a gate's node

# Property tests: the same samples on each run, and no deadline that a busy machine could miss.
bounded = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def make_seed(number: int) -> bytes:
    """Return the seed of `make_key(number)`."""
    return hashlib.sha256(b"key %d" % number).digest()


@cache
def make_key(number: int = 1) -> PrivateKey:
    """Return the private key that is called *number* in the tests."""
    return PrivateKey(make_seed(number))


def make_peer(number: int = 1, destination: str | None = None, *verbs: str, legacy: bool = False) -> Peer:
    """Return the owner of `make_key(number)`, by default com.peerN, which may send *verbs* (none given: all)."""
    return Peer(
        destination=f"com.peer{number}" if destination is None else destination,
        key=make_key(number).public,
        verbs=frozenset(verbs or ("*",)),
        legacy=legacy,
    )


def make_message(number: int = 1, **fields: object) -> Message:
    """Return a timely `ping` to all, from `make_key(number)`; *fields* replace those of `Message`."""
    message = Message(sender=make_key(number).public, destination="**", verb="ping", uuid=b"uuid", time_ns=NOW)
    return replace(message, **fields)  # type: ignore[arg-type]


def make_encoded(number: int = 1, **fields: object) -> bytes:
    """Return the signed bytes of `make_message(number, **fields)`."""
    return wire.encode(make_message(number, **fields), make_key(number))


def make_request(number: int = 1, **fields: object) -> Message:
    """Return a request as its sender knows it: with the digest of its bytes."""
    message = make_message(number, **({"wants_reply": True} | fields))
    return replace(message, digest=wire.digest(wire.encode(message, make_key(number))))


def make_encoded_reply(number: int, request: Message, **fields: object) -> bytes:
    """Return the bytes of a good reply (0, `ok`) to *request* from `make_key(number)`; *fields* replace its fields."""
    reply = {
        "destination": "",
        "verb": REPLY_VERB,
        "uuid": reply_uuid(request.digest),
        "payload": Reply(0, b"ok").payload,
    }
    return make_encoded(number, **(reply | fields))


def make_encoded_receipt(number: int, request: Message, **fields: object) -> bytes:
    """Return the bytes of a good receipt for *request* from `make_key(number)`; *fields* replace its fields."""
    message = receipt.compose(request.digest, sender=make_key(number).public, time_ns=NOW)
    return wire.encode(replace(message, **fields), make_key(number))  # type: ignore[arg-type]


def make_gate(
    *peers: Peer,
    destination: str = OWN,
    own: tuple[int, ...] = (OWN_NUMBER,),
    filters: Filters | None = None,
    allow_skew_ns: int = SKEW,
    window: ReplayWindow | None = None,
) -> Gate:
    """Return the gate of a node called *destination* that knows *peers* (none given: `make_peer()`).

    own: the numbers of its keys.
    """
    policy = Policy(
        destination=destination,
        own_keys=frozenset(make_key(number).public for number in own),
        peers=by_key(peers or (make_peer(),)),
        allow_skew_ns=allow_skew_ns,
        filters=filters or Filters(),
        subject="remaphore.all",
    )
    return Gate(policy, window)


def sign_body(body: bytes, number: int = 1) -> bytes:
    """Return a message with any *body* at all (destination to payload), validly signed by `make_key(number)`."""
    key = make_key(number)
    return b",".join((key.public.encode(), encode_base58(key.sign(body)), body))


def body_of(raw: bytes) -> bytes:
    """Return the signed part of a message: all that follows its second comma."""
    return raw.split(b",", 2)[2]


def sign_again(raw: bytes, number: int = 1) -> bytes:
    """Return the message *raw* of `make_key(number)` with another valid signature.

    RFC 8032 derives the nonce from the key and the body, but a verifier cannot check that it was.
    """
    body, seed, public = body_of(raw), make_seed(number), bindings.crypto_sign_seed_keypair(make_seed(number))[0]
    hashed = bytearray(hashlib.sha512(seed).digest()[:SEED_BYTES])
    hashed[0] &= 248
    hashed[31] = hashed[31] & 127 | 64
    nonce = _scalar(b"another nonce" + body)
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = _scalar(point + public + body)
    answer = bindings.crypto_core_ed25519_scalar_add(
        nonce, bindings.crypto_core_ed25519_scalar_mul(challenge, bytes(hashed))
    )
    return b",".join((make_key(number).public.encode(), encode_base58(point + answer), body))


def _scalar(text: bytes) -> bytes:
    return bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(text).digest())
