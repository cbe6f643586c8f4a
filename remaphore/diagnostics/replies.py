"""What the replies of peers mean: clocks, what each side permits the other, and why a peer does not reply."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from remaphore.config.settings import Config
from remaphore.diagnostics.clock import SYNCHRONIZE
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.diagnostics.probe import Answer
from remaphore.protocol import duration
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import REJECTED
from remaphore.protocol.peers import Peer
from remaphore.text import shorten

# The verb that the plugin of this name answers, see docs/running.md.
PERMISSIONS = "permissions"
_SCHEMA = 1  # of its answers: the one that we can read

_MILLISECOND = duration.MILLISECOND


class ReportedPermissions(NamedTuple):
    """The answer of a peer's plugin `permissions`: what we may send, its name for us and for itself, its version."""

    verbs: tuple[str, ...]
    known_as: str
    destination: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAnswer:
    """What a peer replied to the verb `permissions`, signed with *key*, one of ours."""

    peer: Peer
    key: str
    answer: Answer

    @property
    def rejection(self) -> str:
        """The text of a rejection, `REASON: DETAIL`; empty if the reply is not one."""
        reply = self.answer.reply
        return reply.output.removeprefix(REJECTED).decode(errors="replace") if reply.rejected else ""

    @property
    def rejection_reason(self) -> str:
        """The reason of a rejection, empty if the reply is not one."""
        return self.rejection.split(":", 1)[0]

    def permissions(self) -> ReportedPermissions | None:
        """Return what the plugin `permissions` reports; None if the reply is not from it, or in a later schema."""
        if self.answer.reply.exit_code != 0:
            return None
        try:
            reported = json.loads(self.answer.reply.output)
        except (ValueError, RecursionError):
            return None
        if not isinstance(reported, dict) or reported.get("schema") != _SCHEMA:
            return None
        verbs, *names = map(reported.get, ReportedPermissions._fields)
        if not isinstance(verbs, list) or not all(isinstance(text, str) for text in (*verbs, *names)):
            return None
        return ReportedPermissions(tuple(sorted(verbs)), *map(str, names))


def judge(config: Config, answered: PeerAnswer) -> Iterator[Finding]:
    """Yield the findings about one peer that replied."""
    name, key = answered.peer.destination, answered.key
    reported = answered.permissions()
    yield describe(answered, reported)
    yield from judge_clock(config, answered)
    if key != config.identity().key:
        what = f"expects our key {key}, but we sign with {config.identity().key}"
        hint = f'add a peer with that key there, or write default_identity = "{key}" to {config.source}'
        yield Finding(Level.ERROR, Code.PEER_EXPECTS_OTHER_KEY, name, what, hint)
    if reported is not None:
        yield from judge_names(config, name, reported)
    else:
        yield from judge_no_permissions(answered)


def describe(answered: PeerAnswer, reported: ReportedPermissions | None) -> Finding:
    """Return the finding that a peer replied, with its round trip, clock and permissions."""
    answer = answered.answer
    facts: dict[str, object] = {
        "round_trip_ms": answer.round_trip_ns / _MILLISECOND,
        "skew_ms": answer.skew_ns / _MILLISECOND,
        "we_permit": sorted(answered.peer.verbs),
        "permits_us": None if reported is None else list(reported.verbs),
        "version": None if reported is None else reported.version,
        "bound": answer.reply.bound,
    }
    measured = f" in {answer.round_trip_ns / _MILLISECOND:.1f} ms, clock {format_skew(answer.skew_ns)}"
    permits = f"; we permit it {format_verbs(answered.peer.verbs)}"
    if reported is not None:
        permits += f"; it permits us {format_verbs(reported.verbs)}; remaphore {shorten(reported.version)}"
    what, common = f"replies{measured}{permits}", f"replies{permits}"
    return Finding(Level.OK, Code.PEER_OK, answered.peer.destination, what, facts=facts, common=common)


def judge_clock(config: Config, answered: PeerAnswer) -> Iterator[Finding]:
    """Yield whether the clock of a peer, or its judgement of ours, is a problem."""
    name, answer, allowed = answered.peer.destination, answered.answer, config.allow_skew_ns
    hint = f"on the machine whose clock is wrong: {SYNCHRONIZE}"
    if answered.rejection_reason == DropReason.OUTSIDE_WINDOW:
        common = "rejects the time of our messages"
        what = f"{common}: {shorten(answered.rejection)}"
        yield Finding(Level.ERROR, Code.TIME_REJECTED, name, what, hint, common=common)
    elif answer.least_skew_ns > allowed // 2:
        level = Level.ERROR if answer.least_skew_ns > allowed else Level.WARNING
        limit = f" (allowed: {allowed / duration.SECOND:g} s)"
        what, facts = f"clock is {format_skew(answer.skew_ns)}{limit}", {"skew_ms": answer.skew_ns / _MILLISECOND}
        yield Finding(level, Code.PEER_CLOCK_SKEW, name, what, hint, facts, common=f"clock is wrong{limit}")


def judge_names(config: Config, name: str, reported: ReportedPermissions) -> Iterator[Finding]:
    """Yield the names of the two nodes that differ between their configurations."""
    if reported.known_as != config.destination:
        what = f"lists us as {shorten(reported.known_as)}, but our destination is {config.destination}:"
        what += " messages to either name do not reach their recipient"
        hint = f'write destination = "{config.destination}" there, to the peer with our key'
        yield Finding(Level.WARNING, Code.OWN_DESTINATION_MISMATCH, name, what, hint)
    if reported.destination != name:
        what = f"its own destination is {shorten(reported.destination)}: messages to {name} do not reach it"
        hint = "run remaphore peer show on that node, and correct the one of the two configurations that is wrong"
        yield Finding(Level.WARNING, Code.PEER_DESTINATION_MISMATCH, name, what, hint)


def judge_no_permissions(answered: PeerAnswer) -> Iterator[Finding]:
    """Yield why a peer that replied did not report what it permits us."""
    name, reason = answered.peer.destination, answered.rejection_reason
    if reason == DropReason.VERB_NOT_PERMITTED:
        what = f"does not permit us the verb {PERMISSIONS}, so it does not report what else it permits us"
        hint = f"on that node: remaphore peer permit {answered.key} --allow {PERMISSIONS}"
        yield Finding(Level.NOTE, Code.PERMISSIONS_REJECTED, name, what, hint)
    elif reason == DropReason.OUTSIDE_WINDOW:
        return  # `judge_clock` reports it
    elif reason:
        hint = "read the log of its daemon, or run remaphore check there"
        yield Finding(Level.WARNING, Code.PEER_REJECTS, name, f"rejects: {shorten(answered.rejection)}", hint)
    elif answered.answer.reply.exit_code == 0:
        what = f"its reply to {PERMISSIONS} is not from the plugin of that name, or has an unknown format"
        hint = f"run remaphore hooks {PERMISSIONS} there; remove a handler of that verb, or update the older node"
        yield Finding(Level.WARNING, Code.PERMISSIONS_UNREADABLE, name, what, hint)
    else:
        what = "replies, but does not report what it permits us"
        hint = f'if a daemon runs there, write enable = ["{PERMISSIONS}"] under [plugins] there, and restart it'
        yield Finding(Level.NOTE, Code.PERMISSIONS_UNAVAILABLE, name, what, hint)


def judge_silent(config: Config, peer: Peer, *, timeout: float) -> Finding:
    """Return the finding about a *peer* that did not reply: likely causes, likeliest first, and how to find out."""
    key, name = config.identity().key, peer.destination
    # Another node chose the name, and the hint is pasted into a shell.
    word, end = shlex.quote(name), "-- " if name.startswith("-") else ""
    silent = f"no reply within {timeout:g} s; we permit it {format_verbs(peer.verbs)}"
    facts = {"we_permit": sorted(peer.verbs)}
    if any(identity.key == peer.key for identity in config.identities):  # as in a peers.d that is the same everywhere
        what = f"no reply within {timeout:g} s from this node itself, so no daemon runs here, or it does not receive"
        hint = "start it, or leave this node out: remaphore doctor --to PATTERN"
        return Finding(Level.WARNING, Code.PEER_SILENT, name, what, hint, facts)
    if peer.legacy:
        what = f"{silent}. The Go implementation does not reply to verbs that it does not permit, such as {PERMISSIONS}"
        return Finding(Level.NOTE, Code.PEER_SILENT, name, what, f"remaphore ping {end}{word}", facts)
    what = (
        f"{silent}. Likely causes, in this order: no receiver is running there, or it uses another broker or subject"
        f" than {config.subject}; it does not have our key; the receiver does not report rejections, or filters for"
        " other messages; its destination is another; its clock is wrong by minutes"
    )
    hint = (
        "on that node: remaphore check; remaphore doctor;"
        f" remaphore explain --from {key} --verb {PERMISSIONS} --to={word}"
    )
    return Finding(Level.WARNING, Code.PEER_SILENT, name, what, hint, facts)


def judge_own_clock(config: Config, answers: list[Answer]) -> Iterator[Finding]:
    """Yield that our clock is likely wrong, if those of all peers, at least two, differ in the same direction."""
    far = [answer.skew_ns for answer in answers if answer.least_skew_ns > config.allow_skew_ns // 2]
    if len(far) == len(answers) >= 2 and len({skew > 0 for skew in far}) == 1:
        middle = sorted(far)[len(far) // 2]
        what = f"our clock is likely wrong: the clocks of all {len(far)} peers that replied are {format_skew(middle)}"
        yield Finding(Level.WARNING, Code.OWN_CLOCK_SKEW, "clock", what, SYNCHRONIZE)


def format_skew(skew_ns: int) -> str:
    """Return a difference of clocks for people: `1.5 s ahead of ours`."""
    size = abs(skew_ns)
    text = f"{size / duration.SECOND:.1f} s" if size >= duration.SECOND else f"{size / _MILLISECOND:.1f} ms"
    return f"{text} {'ahead of' if skew_ns > 0 else 'behind'} ours"


def format_verbs(verbs: Collection[str]) -> str:
    """Return *verbs* for people, sorted and cut."""
    return shorten(", ".join(sorted(verbs))) or "nothing"
