"""Why a message is taken or not: the gate's verdict, check by check, with what decided each and what would run.

It is the gate itself that judges. A drop's reason belongs to one check of `CHECKS`: those before it have passed,
those after it were not reached. The window is this explainer's own, so no daemon's memory is asked or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from remaphore.config.settings import Config
from remaphore.errors import DecodeError, PluginError
from remaphore.hooks.dispatch import emit_plain
from remaphore.hooks.manager import cause
from remaphore.hooks.plan import Step
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import CHECKS, SIGNATURE, Filters
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.message import Message
from remaphore.protocol.peers import Peer
from remaphore.receiving.gates import make_gate

if TYPE_CHECKING:
    import pluggy

# It stands where the payload of a message would.
PLACEHOLDER = b"<payload>"

_UUID = b"\0"
_WIRE = "version 1 of the wire"
_MEMORY = "the messages explained before it"
_ASSUMED = "assumed: there is no message whose signature could be verified"


class State(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_REACHED = "not reached"


class Contents(StrEnum):
    """What the fields of a message are worth: verified by the gate, claimed by whoever sent it, or a question's."""

    VERIFIED = "verified"
    CLAIMED = "claimed"
    SUPPOSED = "supposed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. decided_by: the file and its line or key path, or what else decides; detail: why it failed."""

    check: str
    state: State
    decided_by: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The verdict on one message. reason: None if it is accepted. size: bytes, 0 for a question.

    findings: one for each check of the gate, in order. frame: the fields, None if it has no shape; *contents* says what
    they are worth. peer: whose key it names, None if nobody's. steps: what would run and what not; none if dropped.
    """

    size: int
    reason: DropReason | None
    findings: tuple[Finding, ...]
    frame: wire.Frame | None
    contents: Contents
    peer: Peer | None
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> str:
        """`accepted` or `dropped`."""
        return "dropped" if self.reason else "accepted"


class Explainer:
    """Judges as a receiver with *config* and *filters* does; what it accepts it remembers for the messages after it."""

    def __init__(self, config: Config, *, filters: Filters, plan: Callable[[Message], Sequence[Step]]) -> None:
        """*plan* says what a message that was accepted would make run; see `ask_plan`."""
        self._config = config
        self._filters = filters
        self._plan = plan
        self._gate = make_gate(config, filters, subject=config.subject)

    def judge(self, raw: bytes, *, now: int) -> Explanation:
        """Explain what becomes of *raw* if it arrives at *now* (Unix nanoseconds)."""
        verdict = self._gate.admit(raw, now)
        contents = Contents.CLAIMED if isinstance(verdict, Drop) else Contents.VERIFIED
        return self._explain(verdict, _decode(raw), size=len(raw), contents=contents)

    def suppose(self, *, sender: str, verb: str, to: str, now: int) -> Explanation:
        """Explain what would become of a message of the public key *sender*, signed at *now*, when it arrives.

        Its signature counts as good, and its uuid is the one that is waited for. Raises EncodeError for what no message
        can carry.
        """
        stranger = PrivateKey.generate()  # nobody here has the sender's: its name goes onto a message of another
        message = Message(
            sender=stranger.public,
            destination=to,
            verb=verb,
            uuid=self._filters.uuid or _UUID,
            time_ns=now,
            wants_reply=True,
            payload=PLACEHOLDER,
        )
        raw = sender.encode() + wire.encode(message, stranger).removeprefix(stranger.public.encode())
        frame = wire.decode(raw)
        verdict = self._gate.precheck(frame, now) or self._gate.commit(frame, now, verified=True)
        return self._explain(verdict, _decode(raw), size=0, contents=Contents.SUPPOSED)

    def senders(self, name: str) -> tuple[str, ...]:
        """Return the public keys of the peer whose destination is *name*."""
        return tuple(peer.key for peer in self._gate.policy.peers.values() if peer.destination == name)

    def _explain(
        self, verdict: Message | Drop, frame: wire.Frame | None, *, size: int, contents: Contents
    ) -> Explanation:
        drop = verdict if isinstance(verdict, Drop) else None
        peer = self._gate.policy.peers.get(frame.sender) if frame else None
        return Explanation(
            size=size,
            reason=None if drop is None else drop.reason,
            findings=self._findings(drop, peer, assumed=contents is Contents.SUPPOSED),
            frame=frame,
            contents=contents,
            peer=peer,
            steps=() if isinstance(verdict, Drop) else tuple(self._plan(verdict)),
        )

    def _findings(self, drop: Drop | None, peer: Peer | None, *, assumed: bool) -> tuple[Finding, ...]:
        decided_by = what_decides(self._config, self._filters, peer)
        last = len(CHECKS) if drop is None else [check.reason for check in CHECKS].index(drop.reason)
        findings = []
        for position, check in enumerate(CHECKS):
            state, detail, place = State.PASSED, "", decided_by[check.name]
            if drop is not None and position == last:
                state, detail = State.FAILED, drop.detail
            elif position > last:
                state, place = State.NOT_REACHED, ""
            elif assumed and check is SIGNATURE:
                detail = _ASSUMED
            findings.append(Finding(check=check.name, state=state, decided_by=place, detail=detail))
        return tuple(findings)


def ask_plan(plugins: pluggy.PluginManager, message: Message) -> list[Step]:
    """Return what *plugins* would do with *message*. Raises PluginError if one of them cannot say."""
    steps: list[Step] = []
    for outcome in emit_plain(plugins.hook.remaphore_plan, message=message):
        if outcome.error is not None:
            why = cause(outcome.error)
            raise PluginError(f"plugin {outcome.plugin!r} cannot say what it would do: {why}") from outcome.error
        if isinstance(outcome.result, list):
            steps += outcome.result
    return steps


def what_decides(config: Config, filters: Filters, peer: Peer | None) -> Mapping[str, str]:
    """Return, by the names of the checks, what decides each for a message that names the key of *peer*.

    Filters go by the receiver's options: those are the names that people know them by.
    """
    place = config.origin("peers") if peer is None else peer.origin or f"{config.source}: peers"
    given = {"-u": filters.uuid, "-v": filters.verbs, "-p": filters.sender}
    return {
        "shape": _WIRE,
        "request": _WIRE,
        "sender": place,
        # In the original's format a peer is one line, and has no path below it.
        "verb": place if config.legacy else f"{place}.verbs",
        "time": config.origin("allow_skew"),
        "destination": _destination(config, filters),
        "filters": ", ".join(option for option, value in given.items() if value is not None) or "none was given",
        "duplicate": _MEMORY,
        "signature": place if config.legacy else f"{place}.key",
        "replay": _MEMORY,
    }


def _destination(config: Config, filters: Filters) -> str:
    if filters.any_destination:
        return "-d"
    return config.origin("destination") if filters.pattern is None else "-D"


def _decode(raw: bytes) -> wire.Frame | None:
    try:
        return wire.decode(raw)
    except DecodeError:
        return None
