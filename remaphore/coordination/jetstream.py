"""What coordination asks of JetStream: plain requests, without consumers, watches or the key-value classes.

Errors are of three kinds. CoordinationUnavailableError: it cannot work on this broker, whatever is tried. A
TransportError: there is no answer now, and a write may or may not have been done. SequenceConflictError: it was not.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from remaphore.coordination import streams
from remaphore.errors import (
    ConnectionLostError,
    CoordinationUnavailableError,
    DecodeError,
    NoRespondersError,
    NoResponseError,
    SequenceConflictError,
    SubjectDeniedError,
)
from remaphore.protocol import subject
from remaphore.protocol.record import Entry
from remaphore.protocol.status import load_json
from remaphore.protocol.wire import MAX_MESSAGE_BYTES
from remaphore.transport.bus import Bus, Callback, Hear, Incoming
from remaphore.transport.requests import UNDECIDED

TIMEOUT = 2.0  # seconds for one request
BATCH = 1000  # messages of one answer; the server's own limit is 1,024
ASK_ADMINISTRATOR = "ask the administrator of the broker to run: remaphore coordination init"
EMPTY = "examine how full the stream is (remaphore doctor), and end what fills it: docs/coordination.md, Start again"
PERMIT = "permit what remaphore coordination init --print prints"

# Codes of JetStream's errors (server/errors.json of nats-server).
NOT_ENABLED_FOR_ACCOUNT = 10039
NOT_ENABLED = 10076
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
NOT_STORED = 10077  # mostly because the stream is full
TOO_OLD = -1  # not of JetStream: the server is older than locks need
_WRONG_SEQUENCE = (10071, 10164)
_UNAVAILABLE = 503
_BEYOND = 2**31  # an offset after the last subject: the answer then has their number, and no names
_NOT_FOUND = 404
_END_OF_BATCH = 204
_TOO_MANY = 413

# Requests that change nothing: without an answer, there is nothing to be undecided about.
_READS = ("$JS.API.STREAM.INFO.", "$JS.API.STREAM.MSG.GET.", "$JS.API.DIRECT.GET.")


class ApiError(CoordinationUnavailableError):
    """JetStream answers with an error. code: its number."""

    def __init__(self, message: str, *, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class JetStream:
    """The streams of coordination below *root*.

    timeout: seconds for each request. denied_hint: of the error if the broker denies one.
    """

    def __init__(self, bus: Bus, root: str, *, timeout: float = TIMEOUT, denied_hint: str = PERMIT) -> None:
        self.records = streams.records(root)
        self.queue = streams.queue(root)
        self.root = root
        self._bus = bus
        self._inbox = subject.for_inboxes(root)
        self._timeout = timeout
        self._denied_hint = denied_hint

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker now."""
        return self._bus.connected

    @property
    def reconnects(self) -> int:
        """The number of connections after the first."""
        return self._bus.reconnects

    async def api(self, name: str, body: object = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the answer to the request *name* of JetStream's API. Raise ApiError for an error in it."""
        where = f"$JS.API.{name}"
        data = b"" if body is None else json.dumps(body).encode()
        try:
            response, *_ = await self._request(where, data, timeout=timeout or self._timeout)
        except NoRespondersError:
            raise _off() from None
        return _answer(response, where)

    async def info(self, stream: str) -> dict[str, Any]:
        """Return the settings and the state of *stream*."""
        return await self.api(f"STREAM.INFO.{stream}")

    async def check(self) -> None:
        """Raise CoordinationUnavailableError, with the cause, if locks cannot work here."""
        for stream in (self.records, self.queue):
            await self.info(stream)

    async def publish(self, where: str, raw: bytes, *, after: int | None = None, ttl: int | None = None) -> int:
        """Store *raw* on the subject *where*, and return its sequence number.

        after: the sequence number of the last message on *where*, 0 for none: with another one, raise
        SequenceConflictError. ttl: seconds after which it is removed, of a stream that permits that. Raise
        NoResponseError also if nothing stores the subject now: a cluster has no leader for some seconds when its leader
        is lost, and answers as if there were no stream.
        """
        headers = {} if after is None else {"Nats-Expected-Last-Subject-Sequence": str(after)}
        if ttl is not None:
            headers["Nats-TTL"] = str(ttl)
        try:
            response, *_ = await self._request(where, raw, timeout=self._timeout, headers=headers or None)
        except NoRespondersError:
            raise NoResponseError(f"no stream stores {where} now", hint=ASK_ADMINISTRATOR) from None
        sequence = _answer(response, where).get("seq")
        if not isinstance(sequence, int):
            raise NoResponseError(
                f"{where}: the response is not that of a stream", hint=CoordinationUnavailableError.default_hint
            )
        return sequence

    async def history(self, where: str, *, first: int = 1) -> list[Entry]:
        """Return the messages on *where* from the sequence number *first* on, in order.

        Any replica may answer, so the newest may be missing; `last` asks the leader.
        """
        return await self._direct(self.records, {"seq": max(1, first), "next_by_subj": where, "batch": BATCH})

    async def latest(self, stream: str, *patterns: str) -> list[Entry]:
        """Return the last message of each subject that *patterns* match, in the order of their sequence numbers.

        Nothing if these are more than 1,024 subjects, of which the server sends none.
        """
        return await self._direct(stream, {"multi_last": patterns, "batch": BATCH})

    async def last(self, where: str) -> Entry | None:
        """Return the last message on *where*, as the leader has it."""
        return await self._get({"last_by_subj": where})

    async def at(self, sequence: int) -> Entry | None:
        """Return the record with this sequence number, as the leader has it."""
        return await self._get({"seq": sequence})

    async def following(self, where: str, sequence: int) -> Entry | None:
        """Return the first message on *where* with at least this sequence number, as the leader has it."""
        return await self._get({"seq": max(1, sequence), "next_by_subj": where})

    async def subjects(self, pattern: str) -> list[str]:
        """Return the subjects of records that *pattern* matches, in order."""
        found: dict[str, int] = {}
        while True:
            query = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self.api(f"STREAM.INFO.{self.records}", query)
            page = answer["state"].get("subjects") or {}
            found |= page
            if not page or len(found) >= answer.get("total", 0):
                return sorted(found)

    async def count_subjects(self, pattern: str) -> int:
        """Return the number of subjects of records that *pattern* matches, also if their names fit in no response."""
        query = {"subjects_filter": pattern, "offset": _BEYOND}
        answer = await self.api(f"STREAM.INFO.{self.records}", query)
        return int(answer.get("total", 0))

    async def listen(self, where: str, hear: Hear, *, on_gap: Callback) -> Callback:
        """Call *hear* with what is published on *where*; see `Bus.listen`."""
        try:
            return await self._bus.listen(where, hear, on_gap=on_gap)
        except SubjectDeniedError as error:
            raise CoordinationUnavailableError(str(error), hint=self._denied_hint) from None

    async def _request(self, where: str, data: bytes, **options: Any) -> list[Incoming]:
        """Return the responses; see `Bus.request`. Raise CoordinationUnavailableError if the broker cannot, or denies.

        An old server is refused before each request: it ignores settings and fields that it does not know, so that
        streams could be made there on which no lock is safe.
        """
        if problem := streams.version_problem(self._bus.about.get("version", "")):
            raise ApiError(problem, hint="upgrade nats-server", code=TOO_OLD)
        try:
            return await self._bus.request(where, data, inbox=self._inbox, **options)
        except SubjectDeniedError as error:
            raise CoordinationUnavailableError(str(error), hint=self._denied_hint) from None
        except (NoResponseError, ConnectionLostError) as error:
            if not where.startswith(_READS):
                raise
            hint = "wait until the broker, or the cluster, answers again"
            raise type(error)(str(error).removesuffix(f": {UNDECIDED}"), hint=hint) from None

    async def _get(self, query: Mapping[str, object]) -> Entry | None:
        try:
            answer = await self.api(f"STREAM.MSG.GET.{self.records}", query)
        except ApiError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        return Entry(int(message["seq"]), str(message["subject"]), base64.b64decode(message.get("data", "")))

    async def _direct(self, stream: str, query: Mapping[str, object]) -> list[Entry]:
        where = f"$JS.API.DIRECT.GET.{stream}"
        try:
            *parts, end = await self._request(
                where,
                json.dumps(query).encode(),
                timeout=self._timeout,
                complete=lambda responses: bool(responses) and responses[-1].status != 0,
            )
        except NoRespondersError:
            raise NoResponseError(f"no server answers {where} now", hint=ASK_ADMINISTRATOR) from None
        if end.status == _TOO_MANY:
            return []
        if end.status not in (_END_OF_BATCH, _NOT_FOUND):
            text = f"{where}: {end.status} {end.headers.get('Description', '')}"
            raise CoordinationUnavailableError(text.rstrip())
        return sorted(entry for part in parts if (entry := _entry(part)) is not None)


def _entry(part: Incoming) -> Entry | None:
    """Return the stored message in *part*, None if it is something else."""
    sequence = part.headers.get("Nats-Sequence", "")
    if not (sequence.isascii() and sequence.isdigit()):
        return None
    return Entry(int(sequence), part.headers.get("Nats-Subject", ""), part.data)


def _answer(response: Incoming, where: str) -> dict[str, Any]:
    """Return the JSON object in *response*. Raise what its error means."""
    if len(response.data) > MAX_MESSAGE_BYTES:  # and cut off there
        hint = f"{EMPTY}; name one lock until then: remaphore lock show NAME"
        raise CoordinationUnavailableError(f"{where}: more subjects than a response has room for", hint=hint)
    try:
        answer = load_json(response.data)
    except DecodeError as error:
        raise NoResponseError(f"{where}: the response is {error}", hint="find out what answers there") from None
    if not isinstance(answer, dict):
        raise NoResponseError(f"{where}: the response is no JSON object", hint="find out what answers there")
    failure = answer.get("error")
    if not isinstance(failure, dict):
        return answer
    code, text = failure.get("err_code", 0), str(failure.get("description", "unknown error"))
    if code in _WRONG_SEQUENCE:
        raise SequenceConflictError(f"{where}: {text}")
    if code in (NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT):
        raise _off()
    if code == STREAM_NOT_FOUND:
        raise ApiError(f"no stream {where.rpartition('.')[2]} on this broker", hint=ASK_ADMINISTRATOR, code=code)
    if failure.get("code") == _UNAVAILABLE and code != NOT_STORED:
        raise NoResponseError(f"{where}: {text}", hint="wait until the cluster has a leader again")
    raise ApiError(f"{where}: {text}", hint=EMPTY if code == NOT_STORED else "", code=code)


def _off() -> CoordinationUnavailableError:
    return ApiError(
        "JetStream is off on this broker, or for the account of this login",
        hint="ask the administrator of the broker to enable JetStream, and to run: remaphore coordination init",
        code=NOT_ENABLED,
    )
