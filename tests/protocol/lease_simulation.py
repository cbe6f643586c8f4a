"""The rules of leases in virtual time: four nodes, one slot, and what a network, a machine and a stranger do to them.

Clocks have other offsets and rates, requests and answers are late or lost, replicas answer what was true before, the
broker restarts, and a node's process is stopped while its guardian and its command are not. The rules are those of
`remaphore.protocol.lease` itself; only what a node does with them, in the order of coordination/lock.py, is written
here. A schedule fails if two commands live at one time, or a token goes back.
"""

import heapq
import random
from collections.abc import Callable, Generator
from types import MappingProxyType

from remaphore.protocol import lease as rules
from remaphore.protocol.record import Entry, Record, binding

SUBJECT = "remaphore.coord.lock.deploy.0"
NODES = 4
TTLS = (2.0, 5.0, 9.0)  # seconds
SECONDS = 120.0  # of virtual time
PATIENCE = 1.0  # seconds until a request is given up
LOSS = 0.03  # of requests, and of answers
STALE = 0.1  # of reads
MAX_RATE = 0.02  # by which a clock is fast or slow


class Stream:
    """The records of one slot, with compare-and-set, and what they say."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._said: dict[bytes, tuple[str, str, int, bytes, MappingProxyType[str, object]]] = {}

    def make(self, node: int, do: str, count: int, follows: Entry | None, **fields: object) -> bytes:
        raw = b"%d,%d" % (node, count)
        said = MappingProxyType({"do": do, "slot": 0, "slots": 1, **fields})
        place = follows.sequence if follows else 0
        self._said[raw] = (str(node), "lock:deploy", place, binding(follows), said)
        return raw

    def read(self, entry: Entry, verb: str) -> Record | None:
        said = self._said.get(entry.raw)
        return Record(entry, *said) if said is not None and verb == said[1] else None

    def store(self, raw: bytes, after: int, *, compare: bool) -> Entry | None:
        last = self.entries[-1].sequence if self.entries else 0
        if compare and last != after:
            return None
        self.entries.append(Entry(last + 1, SUBJECT, raw))
        return self.entries[-1]


class LastSendings(rules.Sendings):
    """The wrong rule that a live test of the prototype did not find."""

    def note(self, raw: bytes, *, now: float) -> None:
        self._first[raw] = now


class OwnTtl(rules.ObservedSlot):
    """The wrong rule of Kubernetes' leader election (kubernetes #47671)."""

    def free_from(self) -> float:
        free = self.since is None or self.judgement.free
        return super().free_from() if free else self.since + self.terms.ttl * rules.CLOCK_RATE + rules.MARGIN


class ReviewAfterDeadline(rules.Lease):
    """A node that was stopped follows junk that has pushed out the record of the next holder, and frees the slot."""

    def review(self, newer: list[Entry], *, now: float) -> None:
        super().review(newer, now=min(now, self.deadline - 0.001))


class HistoryOfJunk(rules.ObservedSlot):
    """Junk that has pushed out the record of a holder says nothing of how long that one may use the slot."""

    def free_from(self) -> float:
        pushed_out = self.judgement.problem and self.judgement.holder is None
        return self.since + self.terms.ttl * rules.CLOCK_RATE + rules.MARGIN if pushed_out else super().free_from()


class NoMargin(rules.ObservedSlot):
    """The waiter's clock may run faster than the holder's."""

    def free_from(self) -> float:
        free = self.since is None or self.judgement.free
        return super().free_from() if free else self.since + self.judgement.quiet * 0.85


BROKEN_RULES = (
    "deadline from the last sending",
    "deadline from the answer",
    "no margin",
    "own ttl in place of the holder's",
    "no compare-and-set",
    "freed before the command ended",
    "own ttl where junk has pushed the holder out",
    "freed after the deadline over junk",
)


class Simulation:
    """One schedule. broken: the rule of BROKEN_RULES that it breaks, empty for none."""

    def __init__(self, seed: int, broken: str = "") -> None:
        self.dice = random.Random(seed)
        self.broken = broken
        self.time = 0.0
        self.stream = Stream()
        observed = {BROKEN_RULES[2]: NoMargin, BROKEN_RULES[3]: OwnTtl, BROKEN_RULES[6]: HistoryOfJunk}
        self.observed = observed.get(broken, rules.ObservedSlot)
        self.lease = ReviewAfterDeadline if broken == BROKEN_RULES[7] else rules.Lease
        self.sendings = LastSendings if broken == BROKEN_RULES[0] else rules.Sendings
        self.broker_is_up = True
        self.running: set[int] = set()
        self.tokens: list[int] = []
        self.faults: list[str] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self.nodes = [Node(self, number) for number in range(NODES)]
        self.at(5, self._trouble)

    def at(self, when: float, act: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, act))

    def delay(self) -> float:
        return self.dice.uniform(0.001, 0.05) if self.dice.random() < 0.9 else self.dice.uniform(0.05, 4.0)

    def run(self) -> "Simulation":
        while self._due and self.time < SECONDS:
            self.time, _, act = heapq.heappop(self._due)
            act()
        return self

    def begin(self, node: int, token: int) -> None:
        if self.running:
            self.faults.append(f"{node} beside {self.running} at {self.time}")
        if self.tokens and token <= self.tokens[-1]:
            self.faults.append(f"token {token} after {self.tokens[-1]}")
        self.running.add(node)
        self.tokens.append(token)

    def note_answer(self, raw: bytes, sendings: rules.Sendings, *, now: float) -> None:
        if self.broken == "deadline from the answer":
            sendings.forget()
            sendings.note(raw, now=now)

    def _trouble(self) -> None:
        kind = self.dice.random()
        if kind < 0.35:
            self.broker_is_up = False
            self.at(self.time + self.dice.uniform(0.1, 12), lambda: setattr(self, "broker_is_up", True))
        elif kind < 0.5:  # from a login without a key: as many as push all records out of the history, or fewer
            for number in range(self.dice.choice([1, 5, rules.HISTORY, rules.HISTORY + 1])):
                self.stream.store(b"junk %d" % number, 0, compare=False)
        else:
            node = self.dice.choice(self.nodes)
            node.stopped_until = self.time + self.dice.uniform(0.5, 25)
        self.at(self.time + self.dice.uniform(3, 15), self._trouble)


Steps = Generator[tuple, object, None]


class Node:
    """A node that takes the lock, runs a command, and frees it, again and again."""

    def __init__(self, world: Simulation, number: int) -> None:
        self.world, self.number = world, number
        self.rate = world.dice.uniform(1 - MAX_RATE, 1 + MAX_RATE)
        self.offset = world.dice.uniform(-1e6, 1e6)
        self.ttl = world.dice.choice(TTLS)
        self.stopped_until = 0.0
        self.count = 0
        self.life = 0  # of the command, raised when it ends: what was due for an earlier one does nothing
        self.alive = False
        self.terms = rules.Terms("deploy", 1, self.ttl, lambda _sender, _verb: True, world.stream.read)
        self.steps = self.live()
        world.at(world.dice.uniform(0, 2), lambda: self.step(None))

    def now(self) -> float:
        return self.offset + self.rate * self.world.time

    def step(self, value: object) -> None:
        world = self.world
        if world.time < self.stopped_until:
            world.at(self.stopped_until, lambda: self.step(value))
            return
        what, *arguments = self.steps.send(value)
        if what == "sleep":
            world.at(world.time + arguments[0] / self.rate, lambda: self.step(None))
        else:
            self.request(what, *arguments)

    def request(self, what: str, *arguments: object) -> None:
        world, answered = self.world, []

        def answer(result: object) -> None:
            if not answered:
                answered.append(result)
                self.step(result)

        def arrive() -> None:
            if world.broker_is_up:
                result = self.read() if what == "read" else self.store(*arguments)
                if world.dice.random() >= LOSS:
                    world.at(world.time + world.delay(), lambda: answer(result))

        world.at(world.time + PATIENCE / self.rate, lambda: answer(None))
        if world.dice.random() >= LOSS:
            world.at(world.time + world.delay(), arrive)

    def read(self) -> list[Entry]:
        entries = self.world.stream.entries
        if self.world.dice.random() < STALE:
            entries = entries[: self.world.dice.randint(max(0, len(entries) - 3), len(entries))]
        return entries[-rules.HISTORY :]

    def store(self, raw: bytes, after: int) -> tuple[Entry | None]:
        compare = self.world.broken != "no compare-and-set"
        return (self.world.stream.store(raw, after, compare=compare),)

    def make(self, do: str, session: str, follows: Entry | None, **fields: object) -> bytes:
        self.count += 1
        return self.world.stream.make(
            self.number, do, self.count, follows, session=session, ttl_ms=int(self.ttl * 1000), **fields
        )

    def start(self, lease: rules.Lease) -> None:
        self.alive = True
        self.world.begin(self.number, lease.token)
        self.guard(lease.deadline)

    def guard(self, deadline: float) -> None:
        """End the command at the deadline, as the guardian does, whatever the node's own process does."""
        self.life += 1
        life = self.life
        self.world.at(
            max(self.world.time, (deadline - self.offset) / self.rate), lambda: self.life == life and self.end()
        )

    def end(self) -> None:
        if self.alive:
            self.alive = False
            self.life += 1
            self.world.running.discard(self.number)

    def live(self) -> Steps:
        dice = self.world.dice
        while True:
            lease = yield from self.take()
            if self.now() >= lease.deadline - self.ttl / 2:
                continue
            self.start(lease)
            if dice.random() < 0.1:  # killed: nothing more is heard of it
                yield "sleep", self.ttl * 2
                continue
            yield from self.hold(lease, until=self.now() + dice.choice([0.05, 0.5, 6.0]))
            if self.world.broken == "freed before the command ended":
                yield from self.free(lease)
                yield "sleep", dice.uniform(0, 0.5)
                self.end()
            else:
                self.end()
                yield from self.free(lease)
            yield "sleep", dice.uniform(0, 0.3)

    def take(self) -> Generator[tuple, object, rules.Lease]:
        session = f"{self.number}.{self.count}"
        slot, sendings = self.world.observed(0, self.terms), self.world.sendings()
        while True:
            history = yield ("read",)
            if history is None or not slot.observe(history, now=self.now()):
                continue
            if slot.last is not None and sendings.first(slot.last.raw) is not None:  # stored, the answer was lost
                return self.world.lease.taken(slot, slot.last, session=session, sendings=sendings)
            if not slot.may_take(self.now()):
                yield "sleep", 0.2
                continue
            raw = self.make("hold", session, slot.last)
            for _ in range(2):  # the same bytes: which of both was stored is not known
                sendings.note(raw, now=self.now())
                answer = yield "store", raw, slot.last.sequence if slot.last else 0
                if answer is not None:
                    break
            if answer is not None and answer[0] is not None:
                self.world.note_answer(raw, sendings, now=self.now())
                return self.world.lease.taken(slot, answer[0], session=session, sendings=sendings)

    def hold(self, lease: rules.Lease, *, until: float) -> Steps:
        while self.alive and self.now() < until:
            yield "sleep", min(self.ttl / 3, max(0.01, until - self.now()))
            if not self.alive or self.now() >= until:
                return
            raw = self.make("hold", lease.session, lease.last)
            lease.sendings.note(raw, now=self.now())
            answer = yield "store", raw, lease.last.sequence
            if answer is not None and answer[0] is not None:
                self.world.note_answer(raw, lease.sendings, now=self.now())
                lease.confirm(answer[0])
            else:
                history = yield ("read",)
                newer = [entry for entry in history or () if entry.sequence > lease.last.sequence]
                try:
                    lease.review(newer, now=self.now())
                except rules.LeaseLostError:
                    self.end()
                    return
            if self.alive:
                self.guard(lease.deadline)

    def free(self, lease: rules.Lease) -> Steps:
        raw = self.make("free", lease.session, lease.last)
        for _ in range(3):
            if (yield "store", raw, lease.last.sequence) is not None:
                return
