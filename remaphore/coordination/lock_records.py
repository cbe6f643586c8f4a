"""The records of one lock in JetStream: signed, read, and named for people."""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remaphore.config.settings import Config
from remaphore.coordination.jetstream import JetStream
from remaphore.errors import UsageError
from remaphore.protocol import record
from remaphore.protocol.lease import HISTORY, MAX_TTL, ObservedSlot, Terms, ttl_of
from remaphore.protocol.peers import by_key
from remaphore.protocol.record import Entry, Record

MIN_TTL = 1.0  # seconds; shorter leases end by the pauses of an ordinary machine
MAX_SLOTS = 100
DEFINITION = "def"  # the last part of the subject that has the number of slots
_MAX_TEXT = 120  # bytes of a note or a host in JSON, so that a record stays short
_FROM_LEADER = 4 * HISTORY  # records that are read one by one; a flood could be endless
_count = itertools.count(secrets.randbits(48))  # of this process; a session is of one process


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a slot, as its last record says.

    who: the destination, or the key of a node that is not among our peers. known: whether it is. since: Unix seconds,
    by the clock of the holder; 0 if it says none. token: the fencing token. ttl: seconds.
    """

    slot: int
    who: str
    known: bool
    since: float
    host: str
    pid: int
    note: str
    token: int
    ttl: float
    session: str


def may_use(config: Config) -> Callable[[str, str], bool]:
    """Return whether the owner of a key may use a verb, by *config*: a peer of ours, or an identity of our own."""
    peers = by_key(config.peers)
    own = {identity.key: identity for identity in config.identities}

    def may(sender: str, verb: str) -> bool:
        return any(known.may_send(verb) for known in (own.get(sender), peers.get(sender)) if known is not None)

    return may


def name_of(config: Config, key: str) -> tuple[str, bool]:
    """Return the destination of the owner of *key*, or the key itself, and whether it is known to us."""
    if any(identity.key == key for identity in config.identities):
        return config.destination, True
    peer = by_key(config.peers).get(key)
    return (peer.destination, True) if peer else (key, False)


def holder_of(config: Config, hold: Record) -> Holder:
    """Return what a `hold` says of its holder."""
    who, known = name_of(config, hold.sender)
    token = hold.number("token")
    return Holder(
        slot=hold.number("slot"),
        who=who,
        known=known,
        since=max(0, hold.number("since")),
        host=hold.text("host"),
        pid=max(0, hold.number("pid")),
        note=hold.text("note"),
        token=token if token > 0 else hold.entry.sequence,
        ttl=ttl_of(hold),
        session=hold.text("session"),
    )


def definition_in(history: Sequence[Entry], terms: Terms) -> Record | None:
    """Return the last record in *history* by which a node that may take the lock defines the number of its slots."""
    for entry in reversed(history):
        found = record.read(entry, terms.lock_verb)
        if found is not None and terms.may(found.sender, found.verb) and found.number("slots") > 0:
            return found
    return None


def check_name(name: str) -> None:
    """Raise UsageError if *name* cannot be that of a lock."""
    problem = record.name_problem(name)
    if problem:
        raise UsageError(f"{name!r} cannot be the name of a lock: {problem}", hint="choose another name")


def _short(text: str) -> str:
    while len(json.dumps(text)) > _MAX_TEXT:
        text = text[:-1]
    return text


class LockRecords:
    """The records of the lock *name* as a node with *config* reads and signs them.

    clock: seconds that are never set, which count while the machine sleeps. Raise UsageError or NotPermittedError.
    """

    def __init__(
        self,
        jetstream: JetStream,
        config: Config,
        name: str,
        *,
        slots: int,
        ttl: float,
        note: str,
        clock: Callable[[], float],
    ) -> None:
        check_name(name)
        if not 1 <= slots <= MAX_SLOTS:
            raise UsageError(f"{slots} slots: not 1 to {MAX_SLOTS}", hint="give another number of slots")
        if not MIN_TTL <= ttl <= MAX_TTL:
            text = f"time to live of {ttl:g} s: not {MIN_TTL:g} to {MAX_TTL:g}"
            raise UsageError(text, hint="give another time to live")
        self.jetstream = jetstream
        self.config = config
        self.clock = clock
        self.terms = Terms(name, slots, ttl, may_use(config))
        self._key = config.sender(self.terms.lock_verb).load()
        self._of_process = {"host": _short(socket.gethostname()), "pid": os.getpid(), "note": _short(note)}

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self.terms.name

    def subject(self, last: int | str) -> str:
        """Return the subject of a slot, or of the definition."""
        return f"{self.jetstream.root}.coord.lock.{self.name}.{last}"

    def events(self, last: int | str = "*") -> str:
        """Return the subject on which the records of a slot are announced."""
        return f"{self.jetstream.root}.happened.lock.{self.name}.{last}"

    def tickets(self, session: str = "*") -> str:
        """Return the subject of the tickets of a session."""
        return f"{self.jetstream.root}.queue.lock.{self.name}.{session}"

    def hold(self, slot: int, session: str, follows: Entry | None, *, token: int = 0, since: float = 0) -> bytes:
        """Return the record by which a session takes a slot, or keeps it."""
        said = {"since": int(since or time.time()), **self._of_process}
        return self._of_slot(
            "hold", slot, session, follows, ttl_ms=math.ceil(self.terms.ttl * 1000), token=token, **said
        )

    def free(self, slot: int, session: str, follows: Entry) -> bytes:
        """Return the record by which a session frees its slot."""
        return self._of_slot("free", slot, session, follows)

    def define(self, follows: Entry | None) -> bytes:
        """Return the record that defines the number of slots."""
        return self._sign({"do": "define", "slots": self.terms.slots}, follows)

    def ticket(self, do: str, session: str, place: int) -> bytes:
        """Return the record by which a session waits, or leaves the line."""
        return self._sign({"do": do, "session": session, "place": place, **self._of_process}, None)

    def _of_slot(self, do: str, slot: int, session: str, follows: Entry | None, **more: object) -> bytes:
        fields = {"do": do, "slot": slot, "slots": self.terms.slots, "session": session, **more}
        return self._sign(fields, follows)

    def _sign(self, fields: dict[str, object], follows: Entry | None) -> bytes:
        return record.make(self._key, self.terms.lock_verb, fields, count=next(_count), follows=follows)

    async def observe(self, slot: ObservedSlot, *, at_least: int = 0) -> None:
        """Read what is new in *slot*. at_least: a sequence number that it has by an event of the leader.

        Any replica answers, and may be behind the event. So the leader is asked if its answer is older than the event,
        or than what we knew.
        """
        where, known = self.subject(slot.index), slot.last
        history = await self.jetstream.history(where, first=known.sequence if known else 1)
        if known:
            if history and history[0] == known:
                history = [*slot.history, *history[1:]]
            else:  # pushed out, or set back, or the answer is older
                history = await self.jetstream.history(where)
        newest = history[-1].sequence if history else 0
        if newest < at_least or not slot.observe(history, now=self.clock()):
            slot.observe(await self._history_of_leader(where, history), now=self.clock(), from_leader=True)

    async def newer(self, slot: int, than: Entry) -> list[Entry]:
        """Return what the stream has of a slot after *than*, in order; the leader is asked if a replica has none."""
        where = self.subject(slot)
        found = await self.jetstream.history(where, first=than.sequence + 1)
        return found or await self._from_leader(where, than.sequence + 1)

    async def has(self, slot: int, entry: Entry) -> bool:
        """Return whether the stream still has *entry*, or has lost it only because many newer ones pushed it out.

        If not, its data was lost or set back to an earlier state, and its sequence numbers are given a second time.
        """
        found = await self.jetstream.at(entry.sequence)
        if found is not None:
            return found == entry
        where = self.subject(slot)
        if len(await self.jetstream.history(where, first=entry.sequence + 1)) >= HISTORY:
            return True
        return len(await self._from_leader(where, entry.sequence + 1, limit=HISTORY)) >= HISTORY

    async def _history_of_leader(self, where: str, history: list[Entry]) -> list[Entry]:
        """Return the records on *where* as the leader has them; *history* is what a replica has."""
        last = await self.jetstream.last(where)
        known = [entry for entry in history if last is not None and entry.sequence <= last.sequence]
        if known and known[-1] != last and await self.jetstream.at(known[-1].sequence) != known[-1]:
            known = []
        if last is None or (known and known[-1] == last):
            return known
        return [*known, *await self._from_leader(where, known[-1].sequence + 1 if known else 1)]

    async def _from_leader(self, where: str, first: int, *, limit: int = _FROM_LEADER) -> list[Entry]:
        found: list[Entry] = []
        while len(found) < limit and (entry := await self.jetstream.following(where, first)) is not None:
            found.append(entry)
            first = entry.sequence + 1
        return found
