"""How many destinations are enough: of those that `wait` waits for, and of those that a request asks.

A destination with several keys is one node, and counts once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from remaphore.errors import UsageError
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.peers import ANY_VERB, Peer, addressed

_FORM = re.compile(r"([1-9][0-9]{0,8})(%?)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A number of destinations, or with *percent*, a share of all of them, rounded up."""

    number: int
    percent: bool = False

    @classmethod
    def parse(cls, text: int | str) -> Self:
        """Return the requirement that *text* states: `all`, a number from 1, or 1% to 100%. Raise UsageError."""
        found = _FORM.fullmatch("100%" if text == "all" else str(text))
        if found is None or (found[2] and int(found[1]) > 100):
            what = f"{text!r} is not a number of destinations"
            raise UsageError(what, hint="write all, a number such as 3, or 1% to 100%")
        return cls(int(found[1]), bool(found[2]))

    def __str__(self) -> str:
        return f"{self.number}%" if self.percent else str(self.number)

    def of(self, available: int) -> int:
        """Return how many of *available* destinations are required: 50 % of 4 are 2, of 5 they are 3.

        Raise UsageError if there are fewer.
        """
        needed = max(1, -(-available * self.number // 100)) if self.percent else self.number
        if needed > available:
            what = f"{needed} {'destination is' if needed == 1 else 'destinations are'} required, of only {available}"
            raise UsageError(what, hint=f"require at most {available}, or choose more destinations")
        return needed


class SenderQuorum:
    """Counts the destinations that have sent a message, until *required* of them are heard.

    It keeps their names only: a message has up to 1 MiB.
    """

    def __init__(self, peers: Iterable[Peer], requirement: Requirement) -> None:
        """*peers*: those that are waited for. Raise UsageError if *requirement* is more than they are."""
        self._keys = {peer.key: peer.destination for peer in peers}
        self.expected = tuple(dict.fromkeys(self._keys.values()))
        self.required = requirement.of(len(self.expected))
        self.heard: dict[str, None] = {}  # in the order of arrival

    @property
    def met(self) -> bool:
        """Whether enough destinations are heard."""
        return len(self.heard) >= self.required

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that are not heard yet, in the order of `expected`."""
        return tuple(name for name in self.expected if name not in self.heard)

    def expects(self, message: Message) -> bool:
        """Return whether *message* is from one of those that are waited for."""
        return message.sender in self._keys

    def count(self, message: Message) -> bool:
        """Count *message*; return whether it is the first of its destination. It must be from one that is expected."""
        name = self._keys[message.sender]
        if name in self.heard:
            return False
        self.heard[name] = None
        return True


def senders(
    peers: Iterable[Peer], pattern: str, verbs: Iterable[str] | None, own_keys: Iterable[str]
) -> tuple[Peer, ...]:
    """Return the peers that match *pattern* and may send one of *verbs* (None: any) to us, in natural order.

    own_keys: ours. The list of peers may contain this node, which does not wait for itself.
    """
    own = frozenset(own_keys)
    wanted = None if verbs is None else frozenset((*verbs, ANY_VERB))
    return tuple(
        peer
        for peer in addressed(peers, pattern)
        if peer.key not in own and peer.verbs and (wanted is None or not wanted.isdisjoint(peer.verbs))
    )


class ReplyQuorum:
    """Counts the replies to a request until *required* of *expected* destinations have succeeded, or cannot any more.

    fail_fast: whether the latter ends the request.
    """

    def __init__(self, required: int, expected: int, *, fail_fast: bool) -> None:
        self.required = required
        self.timed_out = 0
        self._fail_fast = fail_fast
        self._succeeded = 0
        self._possible = expected  # destinations that have succeeded, or may do so still

    @classmethod
    def of(cls, require: Requirement | int | str | None, expected: int, *, fail_fast: bool) -> Self | None:
        """Return what counts the replies for *require*; None without one. Raise UsageError if it cannot be met."""
        if require is None:
            if fail_fast:
                raise UsageError("fail_fast needs a requirement", hint="add require: a number, '90%' or 'all'")
            return None
        requirement = require if isinstance(require, Requirement) else Requirement.parse(require)
        return cls(requirement.of(expected), expected, fail_fast=fail_fast)

    @property
    def met(self) -> bool:
        """Whether enough destinations have succeeded."""
        return self._succeeded >= self.required

    @property
    def decided(self) -> bool:
        """Whether nothing that may still arrive matters."""
        return self.met or (self._fail_fast and self._possible < self.required)

    def count(self, reply: Reply) -> None:
        """Count *reply*, the first of its destination."""
        if reply.exit_code == 0:
            self._succeeded += 1
        else:
            self._possible -= 1

    def count_timeouts(self, number: int) -> None:
        """Count the *number* of destinations that did not reply in time."""
        self.timed_out += number
        self._possible -= number
