"""The streams of coordination: their settings, and what a login needs to use them. No I/O.

There are two, named after the root of the subjects. `remaphore-coord` has the records, and the safety of locks depends
on its settings: nothing in it can be deleted, and its sequence numbers, which are fencing tokens, never start again
from 1. `remaphore-queue` has the waiters, for fairness alone; it may be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from remaphore.protocol import subject
from remaphore.protocol.peers import ANY_VERB, KINDS_WITH_NAMES

HISTORY = 16  # messages of one subject that are kept; the state of a lock is judged by these
MAX_STORED_BYTES = 1024  # of one message with its headers; see record.MAX_RECORD_BYTES
MAX_BYTES = 64 * 1024 * 1024  # of all records: 200,000, more than 12,000 locks with a full history
MAX_QUEUE_BYTES = 16 * 1024 * 1024
OLDEST_SERVER = (2, 11, 0)  # of nats-server: reads several messages in one request, and has a time to live for each
_LONGEST_VERSION = 20  # characters that are read
_DAY = 86_400 * 10**9  # nanoseconds
_SECOND = 10**9
# A first sequence below this was not made from a time: the stream was made by other means.
LEAST_FIRST_SEQUENCE = 10**15

# Settings that a broker may add to, or change, without a difference to what is promised.
_FREE = ("name", "num_replicas", "first_seq", "duplicate_window", "max_consumers")


def records(root: str) -> str:
    """Return the name of the stream of records."""
    return f"{root.replace('.', '-')}-coord"


def queue(root: str) -> str:
    """Return the name of the stream of waiters."""
    return f"{root.replace('.', '-')}-queue"


def version_problem(version: str) -> str:
    """Return why locks cannot work on a nats-server of this *version*; empty if they can, or if it is unknown."""
    parts = version[:_LONGEST_VERSION].partition("-")[0].split(".")[: len(OLDEST_SERVER)]
    if not all(part.isascii() and part.isdigit() for part in parts) or tuple(map(int, parts)) >= OLDEST_SERVER:
        return ""
    return f"nats-server {'.'.join(parts)}: locks need {'.'.join(map(str, OLDEST_SERVER))} or newer"


def definitions(root: str, *, replicas: int, first_sequence: int) -> tuple[dict[str, Any], ...]:
    """Return the settings of both streams, as JetStream reads them.

    first_sequence: microseconds since 1970, so that a stream that is made again continues with higher numbers. A token
    stays below 2**53, and so exact in every JSON parser, until the year 2255.
    """
    common = {
        "retention": "limits",
        "num_replicas": replicas,
        "max_msg_size": MAX_STORED_BYTES,
        "allow_direct": True,
        "duplicate_window": _SECOND,
        "max_consumers": -1,
    }
    return (
        {
            "name": records(root),
            "subjects": [f"{root}.coord.>"],
            "storage": "file",
            "max_msgs_per_subject": HISTORY,
            "max_bytes": MAX_BYTES,
            "max_age": 30 * _DAY,
            "discard": "new",  # junk that fills it cannot push out a record
            "deny_delete": True,
            "deny_purge": True,
            "allow_rollup_hdrs": False,
            "first_seq": first_sequence,
            "republish": {"src": f"{root}.coord.>", "dest": f"{root}.happened.>"},
            **common,
        },
        {
            "name": queue(root),
            "subjects": [f"{root}.queue.>"],
            "storage": "file",  # one in memory is gone, with its settings, when its server restarts
            "max_msgs_per_subject": 1,
            "max_bytes": MAX_QUEUE_BYTES,
            "max_age": _DAY // 24,
            "discard": "old",
            "allow_msg_ttl": True,
            **common,
        },
    )


def differences(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings of the stream *actual* on which its promises depend and that are not as *wanted*."""
    for name, value in wanted.items():
        found = actual.get(name, False if isinstance(value, bool) else None)
        if name not in _FREE and found != value:
            yield f"{name} is {found}, not {value}"
    first = actual.get("first_seq", 0)
    if "first_seq" in wanted and not (isinstance(first, int) and first >= LEAST_FIRST_SEQUENCE):
        yield "first_seq is not a time in microseconds"


def reads(root: str) -> list[str]:
    """Return the subjects of JetStream on which a node that uses locks publishes its requests."""
    both = (records(root), queue(root))
    return [
        *(f"$JS.API.DIRECT.GET.{name}" for name in both),
        *(f"$JS.API.STREAM.INFO.{name}" for name in both),
        f"$JS.API.STREAM.MSG.GET.{records(root)}",
    ]


def denied(root: str) -> list[str]:
    """Return what no node may publish to: events and responses are the broker's, and could be forged there."""
    return [f"{subject.for_inboxes(root)}.>", f"{root}.happened.>"]


def permissions(root: str, verbs: frozenset[str]) -> dict[str, Any]:
    """Return what a login needs to send messages and replies, and to use those locks that *verbs* permit.

    Without a lock, it may publish to no record: junk by logins that use no lock cannot fill the stream.
    """
    names = {verb.partition(":")[2] for verb in verbs if verb.partition(":")[0] in KINDS_WITH_NAMES}
    if ANY_VERB in verbs:
        names = {ANY_VERB}
    locks = sorted({ANY_VERB} if ANY_VERB in names else names)
    allowed = [f"{root}.*", f"{root}.*.receipt"]
    for name in locks:
        allowed += [f"{root}.coord.lock.{name}.*", f"{root}.queue.lock.{name}.*"]
    return {
        "publish": {"allow": [*allowed, *(reads(root) if locks else ())], "deny": denied(root)},
        "subscribe": {"allow": [f"{root}.>"]},
    }
