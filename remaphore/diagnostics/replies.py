"""What the answers of peers mean: clocks, what we permit each other, and why one does not answer."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from remaphore.config.settings import Config
from remaphore.diagnostics.clock import MEND
from remaphore.diagnostics.findings import Code, Finding, Level, quote
from remaphore.diagnostics.probe import Answer
from remaphore.protocol import duration
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import REJECTED
from remaphore.protocol.peers import Peer

# The verb that the plugin of this name answers, see docs/running.md.
PERMISSIONS = "permissions"
PING = "ping"
_SCHEMA = 1  # of its answers, as far as we can read them

_MILLISECOND = duration.MILLISECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a peer answered when it was asked with the verb `permissions` and *key*, one of ours."""

    peer: Peer
    key: str
    answer: Answer


class _Told(NamedTuple):
    """What the plugin `permissions` of a peer says: what we may send, how it calls us and itself, its version."""

    verbs: tuple[str, ...]
    known_as: str
    destination: str
    version: str


def judge(config: Config, asked: Asked) -> Iterator[Finding]:
    """Say what *asked* shows of one peer."""
    name, key = asked.peer.destination, asked.key
    told = _told(asked)
    yield _describe(asked, told)
    yield from _judge_clock(config, asked)
    if key != config.identity().key:
        what = f"it knows our key {key}, and not {config.identity().key}, which signs"
        hint = f'let it add a peer with that key, or write default_identity = "{key}" to {config.source}'
        yield Finding(Level.ERROR, Code.PEER_KNOWS_OTHER_KEY, name, what, hint)
    if told is not None:
        yield from _judge_names(config, name, told)
    else:
        yield from _judge_silence(asked)


def _told(asked: Asked) -> _Told | None:
    """Return what the plugin `permissions` of the peer says, None if that is not what answered."""
    if asked.answer.reply.exit_code != 0:
        return None
    try:
        told = json.loads(asked.answer.reply.output)
    except (ValueError, RecursionError):
        return None
    return _read(told) if isinstance(told, dict) and told.get("schema") == _SCHEMA else None


def _read(told: dict[str, Any]) -> _Told | None:
    verbs, *names = map(told.get, _Told._fields)
    if not isinstance(verbs, list) or not all(isinstance(text, str) for text in (*verbs, *names)):
        return None
    return _Told(tuple(sorted(verbs)), *map(str, names))


def _describe(asked: Asked, told: _Told | None) -> Finding:
    answer = asked.answer
    facts: dict[str, object] = {
        "round_trip_ms": answer.round_trip_ns / _MILLISECOND,
        "skew_ms": answer.skew_ns / _MILLISECOND,
        "we_permit": sorted(asked.peer.verbs),
        "permits_us": None if told is None else list(told.verbs),
        "version": None if told is None else told.version,
        "bound": answer.reply.bound,
    }
    what = f"answers in {answer.round_trip_ns / _MILLISECOND:.1f} ms, its clock {_shown(answer.skew_ns)}"
    what += f"; we permit it {_words(asked.peer.verbs)}"
    if told is not None:
        what += f"; it permits us {_words(told.verbs)}; remaphore {quote(told.version)}"
    return Finding(Level.OK, Code.PEER_OK, asked.peer.destination, what, facts=facts)


def _judge_clock(config: Config, asked: Asked) -> Iterator[Finding]:
    name, answer, allowed = asked.peer.destination, asked.answer, config.allow_skew_ns
    hint = f"on the machine whose clock is wrong: {MEND}"
    if _rejected(asked) == DropReason.OUTSIDE_WINDOW:
        what = f"it rejects what we sign: {quote(_words_of(asked))}"
        yield Finding(Level.ERROR, Code.CLOCK_REFUSED, name, what, hint)
    elif answer.least_skew_ns > allowed // 2:
        level = Level.ERROR if answer.least_skew_ns > allowed else Level.WARNING
        what = f"its clock is {_shown(answer.skew_ns)}, allowed are {allowed / duration.SECOND:g} s"
        yield Finding(level, Code.CLOCK_OFF, name, what, hint)


def _judge_names(config: Config, name: str, told: _Told) -> Iterator[Finding]:
    if told.known_as != config.destination:
        what = f"it knows us as {quote(told.known_as)}, we call ourselves {config.destination}:"
        what += " what either of us sends to that name does not find its way"
        hint = f'let it write destination = "{config.destination}" to the peer with our key'
        yield Finding(Level.WARNING, Code.PEER_KNOWS_US_OTHERWISE, name, what, hint)
    if told.destination != name:
        what = f"it calls itself {quote(told.destination)}: what we send to {name} does not reach it"
        yield Finding(
            Level.WARNING, Code.PEER_CALLS_ITSELF_OTHERWISE, name, what, f"write the name that it has, or {name} there"
        )


def _judge_silence(asked: Asked) -> Iterator[Finding]:
    """Say why a peer that answers did not say what it permits us."""
    name, rejected = asked.peer.destination, _rejected(asked)
    if rejected == DropReason.VERB_NOT_PERMITTED:
        what = "it knows us, and does not let us ask what it permits us"
        hint = f'let it add "{PERMISSIONS}" to the verbs of the peer with our key {asked.key}'
        yield Finding(Level.NOTE, Code.PERMISSIONS_REFUSED, name, what, hint)
    elif rejected == DropReason.OUTSIDE_WINDOW:
        return  # its clock has been judged
    elif rejected:
        hint = "see the log of its daemon, or remaphore check there"
        yield Finding(Level.WARNING, Code.PEER_REFUSES, name, f"it rejects: {quote(_words_of(asked))}", hint)
    elif asked.answer.reply.exit_code == 0:
        what = f"what it answers to {PERMISSIONS} is not what the plugin of that name says, as we know it"
        hint = f"there: remaphore hooks {PERMISSIONS}; take a handler away, or update the older of the two nodes"
        yield Finding(Level.WARNING, Code.PERMISSIONS_UNREADABLE, name, what, hint)
    else:
        what = "it answers, and does not say what it permits us"
        hint = f'if a daemon runs there, let it write enable = ["{PERMISSIONS}"] under [plugins], and restart'
        yield Finding(Level.NOTE, Code.PERMISSIONS_UNTOLD, name, what, hint)


def _rejected(asked: Asked) -> str:
    """Return the reason of a rejection, empty if it is none."""
    return _words_of(asked).split(":", 1)[0] if asked.answer.reply.rejected else ""


def _words_of(asked: Asked) -> str:
    return asked.answer.reply.output.removeprefix(REJECTED).decode(errors="replace")


def judge_silent(config: Config, peer: Peer, *, timeout: float) -> Finding:
    """Say what may be wrong with a *peer* that did not answer, likeliest first, and how to find out."""
    key, name = config.identity().key, peer.destination
    silent = f"no answer within {timeout:g} s; we permit it {_words(peer.verbs)}"
    facts = {"we_permit": sorted(peer.verbs)}
    if peer.legacy:
        what = f"{silent}. What runs the original says nothing to what it does not permit, as {PERMISSIONS} likely is"
        return Finding(Level.NOTE, Code.PEER_SILENT, name, what, f"remaphore ping {name}", facts)
    what = (
        f"{silent}. Likely, in this order: nothing receives there, or on another broker or subject than"
        f" {config.subject}; it does not know our key; what receives there does not say when it rejects, or waits for"
        " something else; it calls itself otherwise; its clock is minutes off"
    )
    hint = (
        "on that node: remaphore check; remaphore doctor;"
        f" remaphore explain --from {key} --verb {PERMISSIONS} --to {name}"
    )
    return Finding(Level.WARNING, Code.PEER_SILENT, name, what, hint, facts)


def judge_own_clock(config: Config, answers: list[Answer]) -> Iterator[Finding]:
    """Say so if all clocks, two at least, differ from ours in the same direction: then it is ours."""
    far = [answer.skew_ns for answer in answers if answer.least_skew_ns > config.allow_skew_ns // 2]
    if len(far) == len(answers) >= 2 and len({skew > 0 for skew in far}) == 1:
        middle = sorted(far)[len(far) // 2]
        what = f"all {len(far)} peers that answer have clocks {_shown(middle)}, so it is likely ours that is wrong"
        yield Finding(Level.WARNING, Code.OWN_CLOCK_OFF, "clock", what, MEND)


def _shown(skew_ns: int) -> str:
    size = abs(skew_ns)
    text = f"{size / duration.SECOND:.1f} s" if size >= duration.SECOND else f"{size / _MILLISECOND:.1f} ms"
    return f"{text} {'ahead of' if skew_ns > 0 else 'behind'} ours"


def _words(verbs: Collection[str]) -> str:
    return quote(", ".join(sorted(verbs))) or "nothing"
