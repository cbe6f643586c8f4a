"""Why a message is accepted or dropped: the gate's verdict, check by check, with what decided each and what would run.

The verdict is that of the gate itself. The reason of a drop belongs to one check of `CHECKS`: those before it have
passed, those after it were not reached. The replay window belongs to this explainer, so that no daemon's memory is read
or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from remaphore.config.settings import Config
from remaphore.errors import PluginError, cause
from remaphore.hooks.dispatch import emit_plain
from remaphore.hooks.plan import Step
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import CHECKS, PAYLOAD, REPLAY, SIGNATURE, Filters
from remaphore.protocol.message import Message
from remaphore.protocol.peers import Peer
from remaphore.receiving.gates import make_gate

if TYPE_CHECKING:
    import pluggy

PLACEHOLDER = b"<payload>"  # of a message that does not exist

_UUID = b"\0"
_WIRE = "version 1 of the wire"
_MEMORY = "the messages explained before it"
# The checks that a question skips, since each needs a real message.
_ASSUMED = {
    SIGNATURE.name: "assumed: there is no message whose signature could be verified",
    REPLAY.name: "assumed: there is no message that could be a replay",
}


class State(StrEnum):
    """The result of a check. ASSUMED: a question has no message that could be checked."""

    PASSED = "passed"
    ASSUMED = "assumed"
    FAILED = "failed"
    NOT_REACHED = "not reached"


class Contents(StrEnum):
    """How far the fields of a message can be trusted: verified by the gate, claimed by its sender, or of a question."""

    VERIFIED = "verified"
    CLAIMED = "claimed"
    HYPOTHETICAL = "hypothetical"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check. decided_by: the file and its line or key path, or what else decides; detail: why it failed."""

    check: str
    state: State
    decided_by: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The verdict on one message. reason: None if it is accepted. size: bytes, 0 for a question. exact: whether the
    pattern is exactly our destination, False if the message is malformed.

    checks: one for each check of the gate, in order. frame: the fields, None if the message is malformed; *contents*
    states how far they can be trusted. peer: the one whose key the message names, None if there is none. steps: what
    would run and what not; none if dropped.
    """

    size: int
    reason: DropReason | None
    exact: bool
    checks: tuple[CheckResult, ...]
    frame: wire.Frame | None
    contents: Contents
    peer: Peer | None
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> str:
        """`accepted` or `dropped`."""
        return "dropped" if self.reason else "accepted"


class Explainer:
    """Judges like a receiver with *config* and *filters*; remembers accepted messages, to find later copies."""

    def __init__(self, config: Config, *, filters: Filters, plan: Callable[[Message], Sequence[Step]]) -> None:
        """*plan* returns what an accepted message would run; see `ask_plan`."""
        self._config = config
        self._filters = filters
        self._plan = plan
        self._gate = make_gate(config, filters, subject=config.subject)

    def explain(self, raw: bytes, *, now: int) -> Explanation:
        """Explain what happens to the message *raw* if it arrives at *now* (Unix nanoseconds)."""
        frame = self._gate.decode(raw)
        verdict = self._gate.admit(raw, now)
        contents = Contents.CLAIMED if isinstance(verdict, Drop) else Contents.VERIFIED
        fields = None if isinstance(frame, Drop) else frame
        return self._explain(verdict, fields, size=len(raw), contents=contents, assumed={})

    def explain_question(self, *, sender: str, verb: str, to: str, now: int) -> Explanation:
        """Explain what would happen to a message of the public key *sender*, signed at *now*, the time of its arrival.

        No such message exists: its signature counts as valid, it is no replay, and its uuid is the one that the filters
        wait for. Raise EncodeError for values that no message can carry.
        """
        frame = wire.Frame(
            raw=b"",
            sender=sender,
            signature=b"",
            destination=to,
            time_ns=now,
            uuid=self._filters.uuid or _UUID,
            verb=verb,
            wants_reply=True,
            payload=PLACEHOLDER,
        )
        wire.signed_part(frame.message())  # raises EncodeError
        verdict: Message | bytes | Drop = self._gate.precheck(frame, now)
        if not isinstance(verdict, Drop):
            verdict = frame.message(
                sender_name=self._gate.policy.peers[sender].destination,
                own_destination=self._gate.own_destination(frame),
            )
        peer = self._gate.policy.peers.get(sender)
        ruled = peer is not None and verb in peer.only
        assumed = _ASSUMED | ({PAYLOAD.name: "assumed: there is no payload to compare with this rule"} if ruled else {})
        return self._explain(verdict, frame, size=0, contents=Contents.HYPOTHETICAL, assumed=assumed)

    def senders(self, name: str) -> tuple[str, ...]:
        """Return the public keys of the peer whose destination is *name*, or ours, if it is our destination."""
        known = tuple(peer.key for peer in self._gate.policy.peers.values() if peer.destination == name)
        own = tuple(identity.key for identity in self._config.identities) if name == self._config.destination else ()
        return known or own

    def _explain(
        self,
        verdict: Message | Drop,
        frame: wire.Frame | None,
        *,
        size: int,
        contents: Contents,
        assumed: Mapping[str, str],
    ) -> Explanation:
        drop = verdict if isinstance(verdict, Drop) else None
        peer = self._gate.policy.peers.get(frame.sender) if frame else None
        decided_by = what_decides(self._config, self._filters, peer, frame.verb if frame else "")
        last = len(CHECKS) if drop is None else [check.reason for check in CHECKS].index(drop.reason)
        checks = []
        for position, name in enumerate(check.name for check in CHECKS):
            state, detail, place = State.PASSED, "", decided_by[name]
            if drop is not None and position == last:
                state, detail = State.FAILED, drop.detail
            elif position > last:
                state, place = State.NOT_REACHED, ""
            elif name in assumed:
                state, detail = State.ASSUMED, assumed[name]
            checks.append(CheckResult(check=name, state=state, decided_by=place, detail=detail))
        return Explanation(
            size=size,
            reason=None if drop is None else drop.reason,
            exact=frame is not None and self._gate.is_exact(frame),
            checks=tuple(checks),
            frame=frame,
            contents=contents,
            peer=peer,
            steps=() if isinstance(verdict, Drop) else tuple(self._plan(verdict)),
        )


def ask_plan(plugins: pluggy.PluginManager, message: Message) -> list[Step]:
    """Return what *plugins* would do with *message*. Raise PluginError if one of them cannot state it."""
    steps: list[Step] = []
    for outcome in emit_plain(plugins.hook.remaphore_plan, message=message):
        if outcome.error is not None:
            why = cause(outcome.error)
            raise PluginError(
                f"plugin {outcome.plugin!r}: cannot state what it would do: {why}",
                hint=f"remove {outcome.plugin} from plugins.enable, or update it",
            ) from outcome.error
        if isinstance(outcome.result, list):
            steps += outcome.result
    return steps


def silent_plugins(plugins: pluggy.PluginManager) -> list[str]:
    """Return the names of those *plugins* that act on messages, and cannot state on which: they have no plan."""
    acting, planning = (
        {impl.plugin_name for impl in hook.get_hookimpls()}
        for hook in (plugins.hook.remaphore_message, plugins.hook.remaphore_plan)
    )
    return sorted(acting - planning)


def what_decides(config: Config, filters: Filters, peer: Peer | None, verb: str = "") -> Mapping[str, str]:
    """Return what decides each check, by its name, for a message of *verb* that names the key of *peer*.

    Filters are named by the options of the receiver that set them.
    """
    place = config.origin("peers") if peer is None else peer.origin or f"{config.source}: peers"
    options = {"-u": filters.uuid, "-v": filters.verbs, "-p": filters.sender}
    destination = config.origin("destination") if filters.pattern is None else "-D"
    return {
        "shape": _WIRE,
        "request": _WIRE,
        "destination": "-d" if filters.any_destination else destination,
        "own-key": config.origin("identities") if peer is None else place,
        "sender": place,
        # In the legacy format a peer is one line, without key paths below it.
        "verb": place if config.legacy else f"{place}.verbs",
        "time": config.origin("allow_skew"),
        "filters": ", ".join(option for option, value in options.items() if value is not None) or "no filter was given",
        "duplicate": _MEMORY,
        "signature": place if config.legacy else f"{place}.key",
        "payload": f"{place}.only.{verb}" if peer and verb in peer.only else "no payload rule for this verb",
        "replay": _MEMORY,
    }
