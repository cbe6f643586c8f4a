"""Whether locks can be used on a server, and whether a stream answers in place of the nodes."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from remaphore.config.settings import Config
from remaphore.coordination import streams
from remaphore.coordination.high_water import HINT, HighWaterMarks, MarksError
from remaphore.coordination.jetstream import NOT_ENABLED, STREAM_NOT_FOUND, TOO_OLD, ApiError, JetStream
from remaphore.coordination.lock_records import MAX_SLOTS
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.diagnostics.peers import lock_names
from remaphore.errors import CoordinationUnavailableError, SequenceConflictError, TransportError
from remaphore.protocol import subject
from remaphore.protocol.peers import ANY_VERB
from remaphore.protocol.record import name_problem
from remaphore.receiving.ledger.state import coordination_directory
from remaphore.text import shorten
from remaphore.transport.nats_client import NatsBus

CAPTURED_LIMIT = 0.5  # seconds for a stream to confirm; without one, the server says at once that there is none
# A sequence number that no record follows: a write after it changes nothing, and is refused only if it is permitted.
_NEVER = 2**53
_DIGEST_BYTES = 32
_SUBJECTS_OF_A_LOCK = MAX_SLOTS + 1  # its slots, and their number
_MAX_LISTED = 3000  # subjects whose names certainly fit in one response of 1 MiB
_CODES = {
    NOT_ENABLED: Code.JETSTREAM_OFF,
    STREAM_NOT_FOUND: Code.COORDINATION_NO_STREAM,
    TOO_OLD: Code.COORDINATION_SERVER_TOO_OLD,
}
_INIT = "remaphore coordination init, with the login of an administrator of the broker"


async def check_captured(config: Config, url: str, bus: NatsBus) -> AsyncIterator[Finding]:
    """Yield the finding if a stream of JetStream stores our messages: it confirms each request in place of a node."""
    where = subject.for_replies(config.subject, os.urandom(_DIGEST_BYTES))  # of a request that does not exist
    inbox = subject.for_inboxes(config.subject)
    try:
        (response,) = await bus.request(where, b"", inbox=inbox, timeout=CAPTURED_LIMIT)
        name = json.loads(response.data)["stream"]
    except (TransportError, ValueError, TypeError, KeyError, RecursionError):
        return
    what = f"the stream {shorten(str(name))} stores messages below {config.subject}, and answers in place of the nodes"
    hint = f"take {config.subject}.> out of its subjects, or delete it: nats stream rm"
    yield Finding(Level.ERROR, Code.SUBJECT_CAPTURED, url, what, hint)


async def check_coordination(config: Config, url: str, bus: NatsBus) -> AsyncIterator[Finding]:
    """Yield what keeps the locks from working that the configuration names; nothing if it names none."""
    names = lock_names(config)
    if not names:
        return
    jetstream = JetStream(bus, config.subject)
    try:
        found = [await jetstream.info(name) for name in (jetstream.records, jetstream.queue)]
        await _use(jetstream, config.subject, names)
        of_junk = [finding async for finding in _check_junk(jetstream, url, names)]
    except CoordinationUnavailableError as error:
        code = _CODES.get(error.code, Code.COORDINATION_UNAVAILABLE) if isinstance(error, ApiError) else None
        yield from_error(code or Code.COORDINATION_DENIED, url, error)
        return
    except TransportError as error:
        yield from_error(Code.COORDINATION_UNAVAILABLE, url, error)
        return
    of_memory = await _check_marks(config, url, jetstream)
    set_back = any(finding.code is Code.COORDINATION_SET_BACK for finding in of_memory)
    of_streams = _check_streams(config, url, found, clustered=bool(bus.about.get("cluster")))
    for finding in [*of_memory, *of_junk, *of_streams]:
        if not (set_back and finding.code is Code.COORDINATION_OK):
            yield finding


async def _use(jetstream: JetStream, root: str, names: set[str]) -> None:
    """Make each kind of request that a lock makes, without storing anything. Raise what the broker answers."""
    await jetstream.latest(jetstream.queue, f"{root}.queue.lock.none.*")
    for name in sorted(name for name in names if not name_problem(name)) or ["none"]:
        where = f"{root}.coord.lock.{name}.def"
        await jetstream.history(where)
        await jetstream.last(where)
        for each in (where, f"{root}.queue.lock.{name}.none"):
            try:
                await jetstream.publish(each, b"", after=_NEVER)
            except SequenceConflictError:
                continue


async def _check_junk(jetstream: JetStream, url: str, names: set[str]) -> AsyncIterator[Finding]:
    """Yield the locks of *names* below which there are more subjects than a lock can have. Raise as `_use`."""
    locks, of_any = names, f"{jetstream.root}.coord.lock.*.*"
    if ANY_VERB in names and await jetstream.count_subjects(of_any) <= _MAX_LISTED:
        locks = names | {where.split(".")[-2] for where in await jetstream.subjects(of_any)}
    for name in sorted(name for name in locks if not name_problem(name)):
        count = await jetstream.count_subjects(f"{jetstream.root}.coord.lock.{name}.*")
        if count > _SUBJECTS_OF_A_LOCK:
            what = f"{count} subjects below the lock {name}, where a lock has at most {_SUBJECTS_OF_A_LOCK}: junk"
            hint = (
                f"find out who publishes to {jetstream.root}.coord.lock.{name}.*, and revoke that login;"
                " then remaphore coordination init --recreate"
            )
            yield Finding(Level.WARNING, Code.COORDINATION_LOCK_JUNK, url, what, hint, {"subjects": count})


async def _check_marks(config: Config, url: str, jetstream: JetStream) -> list[Finding]:
    """Return the findings about what this node remembers of the stream of records, and remember its last record."""
    code, folder = Code.COORDINATION_NOT_REMEMBERED, coordination_directory(config, os.environ)
    try:
        marks = HighWaterMarks(folder, jetstream, config.servers)
        found = await marks.check()
        await marks.note_last()
    except MarksError as error:
        what = f"a broker that was restored from a backup is not recognized: {error}"
        return [Finding(Level.NOTE, code, url, what, error.hint)]
    except (CoordinationUnavailableError, TransportError) as error:
        return [from_error(Code.COORDINATION_UNAVAILABLE, url, error)]
    if found is None:
        return []
    facts = {"known": found.known, "last": found.last}
    return [Finding(Level.ERROR, Code.COORDINATION_SET_BACK, url, str(found), HINT, facts)]


def _check_streams(config: Config, url: str, found: list[dict[str, Any]], *, clustered: bool) -> Iterator[Finding]:
    """Yield what is wrong with the streams whose settings and state are *found*."""
    sound = True
    for stream, wanted in zip(found, streams.definitions(config.subject, replicas=1, first_sequence=0), strict=True):
        actual: Mapping[str, Any] = stream["config"]
        flaws = "; ".join(streams.differences(actual, wanted))
        if flaws:
            what = f"stream {wanted['name']}: {flaws}"
            yield Finding(Level.ERROR, Code.COORDINATION_SETTINGS, url, what, _INIT)
        if clustered and actual["num_replicas"] == 1:
            what = f"stream {wanted['name']} is on one server of the cluster: locks stop with it"
            hint = "remaphore coordination init --replicas 3, with the login of an administrator of the broker"
            yield Finding(Level.WARNING, Code.COORDINATION_SINGLE_REPLICA, url, what, hint)
        if 2 * stream["state"]["bytes"] > wanted["max_bytes"] and wanted.get("discard") == "new":
            used = round(100 * stream["state"]["bytes"] / wanted["max_bytes"])
            what = f"stream {wanted['name']} is {used} % full; when it is full, no lock can be taken or kept"
            hint = "limit who may publish there, see init --print; then remaphore coordination init --recreate"
            yield Finding(Level.WARNING, Code.COORDINATION_HALF_FULL, url, what, hint)
        sound = sound and not flaws
    if sound:
        records = found[0]
        replicas, size = records["config"]["num_replicas"], records["state"]["bytes"]
        what = f"locks can be used, replicas {replicas}"
        yield Finding(Level.OK, Code.COORDINATION_OK, url, what, facts={"replicas": replicas, "bytes": size})
