"""What hooks get, made for tests: messages, replies, outcomes, drops, summaries, and a configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from remaphore.config.settings import Auth, Config, Identity
from remaphore.hooks.dispatch import Outcome
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.exchange import Summary
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.peers import ANY_VERB, Peer
from remaphore.testing.clock import START_NS
from remaphore.testing.node import key_of
from remaphore.text import natural_key

SENDER = "com.example.sender"
RECEIVER = "com.example.receiver"


def make_message(
    verb: str = "ping",
    payload: str | bytes = b"",
    *,
    destination: str = "**",
    uuid: bytes = b"example",
    time_ns: int = START_NS,
    wants_reply: bool = False,
    sender: str = "",
    sender_name: str = SENDER,
    own_destination: str = RECEIVER,
) -> Message:
    """Return a message as a plugin gets it: verified, addressed to this node, with its digest.

    sender: the base58 key of the signer, derived from *sender_name* if empty. Two messages have the same digest exactly
    if all their fields are equal.

    message = make_message("deploy", "v42", sender_name="com.example.ci")
    """
    message = Message(
        sender=sender or key_of(sender_name).public,
        destination=destination,
        verb=verb,
        uuid=uuid,
        time_ns=time_ns,
        wants_reply=wants_reply,
        payload=_bytes(payload),
        sender_name=sender_name,
        own_destination=own_destination,
    )
    return replace(message, digest=hashlib.sha256(repr(message).encode()).digest())


def make_reply(
    exit_code: int | None = 0,
    output: str | bytes = b"",
    *,
    peer: str = RECEIVER,
    sender: str = "",
    time_ns: int = START_NS,
    bound: bool = True,
) -> Reply:
    """Return a reply as the requesting side gets it: verified, from *peer*.

    assert make_reply(3, "disk full").text == b"3,disk full"
    """
    return Reply(
        exit_code, _bytes(output), peer=peer, sender=sender or key_of(peer).public, time_ns=time_ns, bound=bound
    )


def make_outcome(
    result: Reply | None = None, *, error: BaseException | None = None, plugin: str = "plugin", seconds: float = 0.1
) -> Outcome:
    """Return what the plugin *plugin* did with a message, as `remaphore_handled` gets it: its reply, or its error.

    Raise ValueError if both are given: a plugin that raises returns nothing.

    outcome = make_outcome(error=OSError("disk full"), plugin="hooks-d")
    await harness.handled(make_message("deploy"), (outcome, make_outcome(Reply(0, b"done"))))
    """
    if result is not None and error is not None:
        raise ValueError("result and error: give one of the two")
    return Outcome("remaphore_message", plugin, seconds, result, error)


def make_drop(
    reason: DropReason = DropReason.BAD_SIGNATURE,
    detail: str = "",
    *,
    size: int = 300,
    subject: str = "remaphore.all",
    count: int = 1,
    exact: bool = False,
) -> Drop:
    """Return a drop, as `remaphore_dropped` gets it: *count* messages or replies of *size* bytes.

    harness.dropped(make_drop(DropReason.UNKNOWN_SENDER, count=20, exact=True))
    """
    return Drop(reason, detail, size, subject, count, exact)


def make_summary(
    *replies: Reply, missing: Iterable[str] = (), not_asked: Iterable[str] = (), dropped: int = 0
) -> Summary:
    """Return the result of a request, as `remaphore_finished` gets it: with these *replies*, one for each destination.

    missing: destinations that did not reply. not_asked: destinations that were never asked. dropped: the number of
    replies that were dropped.

    summary = make_summary(make_reply(0, peer="com.a"), make_reply(3, peer="com.b"), missing=["com.c"])
    assert (summary.ok, summary.failed) == (("com.a",), ("com.b",))
    """
    by_name = {reply.peer: reply for reply in replies}
    missing, not_asked = sorted(missing, key=natural_key), sorted(not_asked, key=natural_key)
    answered = sorted(by_name, key=natural_key)
    rejected = [name for name in answered if by_name[name].rejected]
    return Summary(
        expected=tuple(sorted([*answered, *missing, *not_asked], key=natural_key)),
        answered=tuple(answered),
        failed=tuple(name for name in answered if by_name[name].exit_code and name not in rejected),
        rejected=tuple(rejected),
        missing=tuple(missing),
        dropped=dropped,
        without_code=tuple(name for name in answered if by_name[name].exit_code is None),
        not_asked=tuple(not_asked),
    )


def make_config(destination: str = RECEIVER, **fields: Any) -> Config:
    """Return the configuration of a node with a new key, without any file; *fields* replace those of `Config`.

    Its only peer is itself, with permission for every verb: one configuration can be both sides of a request.

    config = make_config("com.example.web", subject="staging")
    """
    key = PrivateKey.generate()
    every = frozenset({ANY_VERB})
    config = Config(
        source="make_config()",
        destination=destination,
        servers=("nats://127.0.0.1:4222",),
        auth=Auth(kind="none"),
        identities=(Identity(key=key.public, verbs=every, load=lambda: key),),
        peers=(Peer(destination=destination, key=key.public, verbs=every),),
    )
    return replace(config, **fields)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
