"""Which operations the agent does for a caller: what any of the rules that name it permits, and nothing else.

There is no `deny` and no order, so that no rule can take back what another one gives, and the union of all rules that
name a caller is what it may do. Root is a caller like others: it may be root of a container that has the socket.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from remaphore.agent.credentials import Caller, overflow_id
from remaphore.agent.refusal import RefusedError
from remaphore.config.settings import AgentRule, Config, Problem
from remaphore.protocol.containment import contains
from remaphore.protocol.match import ALL
from remaphore.protocol.peers import permits
from remaphore.text import quoted, shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client asks for.

    operation: send, request or receive. to: the pattern of a message; of receive, that of the messages to receive, and
    empty for those to our own destination. key: the public key of the identity that signs, empty for that of the rule.
    """

    operation: str
    verb: str
    to: str = ""
    payload: bytes = b""
    key: str = ""


class Permission(NamedTuple):
    """The rule that permits, as a key path of the configuration, and the key that signs; empty for the default one."""

    rule: str
    identity: str


class Rules:
    """The rules of a configuration, with the numbers of the users and groups that they name."""

    def __init__(self, config: Config) -> None:
        self._default_identity = config.identity().key
        self._rules: list[tuple[AgentRule, int | None, int | None]] = []
        self.problems: list[Problem] = []
        for rule in config.agent.allow:
            uid, gid, problem = resolve(rule)
            if problem is not None:
                self.problems.append(problem.at(f"{config.source}: {rule.path}"))
            else:
                self._rules.append((rule, uid, gid))

    def naming(self, caller: Caller) -> Iterator[AgentRule]:
        """Yield the rules that name *caller* or one of its groups."""
        for rule, uid, gid in self._rules:
            if caller.uid == uid or (gid is not None and (gid == caller.gid or gid in caller.groups)):
                yield rule

    def permit(self, caller: Caller, wish: Wish) -> Permission:
        """Return the permission of the first rule that permits *wish*. Raise RefusedError, with what came closest."""
        closest, passed = "no rule names you or one of your groups", -1
        for rule in self.naming(caller):
            for number, (test, failure) in enumerate(_CHECKS):
                if not test(self, rule, wish):
                    if number > passed:
                        closest, passed = failure(wish), number
                    break
            else:
                return Permission(rule.path, rule.identity)
        raise RefusedError("refused", f"refused by the agent: {closest}", hint=_HINT)

    def _may_sign(self, rule: AgentRule, wish: Wish) -> bool:
        return not wish.key or wish.key == (rule.identity or self._default_identity)


_HINT = "ask the administrator for a rule in [[agent.allow]]; remaphore agent --whoami shows those that name you"

_CHECKS: Sequence[tuple[Callable[[Rules, AgentRule, Wish], bool], Callable[[Wish], str]]] = (
    (lambda _, rule, wish: wish.operation in rule.do, lambda wish: f"no rule permits you to {wish.operation}"),
    (
        lambda _, rule, wish: permits(rule.verbs, wish.verb),
        lambda wish: f"no rule permits you to {wish.operation} {_shown(wish.verb)}",
    ),
    (
        lambda _, rule, wish: (
            (wish.operation == "receive" and not wish.to) or any(contains(pattern, wish.to) for pattern in rule.to)
        ),
        lambda wish: f"{quoted(wish.to)} reaches more than the destinations that you may address",
    ),
    (
        lambda _, rule, wish: rule.payload is None or wish.operation == "receive" or rule.payload.permits(wish.payload),
        lambda wish: f"the payload is not one that you may send with {_shown(wish.verb)}",
    ),
    (Rules._may_sign, lambda wish: f"no rule permits you to sign with {shorten(wish.key)}"),  # noqa: SLF001 - its own class
)


def _shown(verb: str) -> str:
    return "every verb" if verb == "*" else f"the verb {quoted(verb)}"


def resolve(rule: AgentRule) -> tuple[int | None, int | None, Problem | None]:
    """Return the uid or the gid that *rule* names, and why it can name none. A rule with a problem permits nothing."""
    try:
        if rule.user:
            uid, gid = _number(rule.user, lambda name: pwd.getpwnam(name).pw_uid), None
        else:
            uid, gid = None, _number(rule.group, lambda name: grp.getgrnam(name).gr_gid)
    except KeyError:
        kind, name = ("user", rule.user) if rule.user else ("group", rule.group)
        problem = Problem(
            f"{kind}: no {kind} {name!r} on this machine", f"create it, or correct the name: getent {kind}"
        )
        if kind == "user":
            problem = problem._replace(hint="create it, or correct the name: getent passwd")
        return None, None, problem
    kind = "uid" if uid is not None else "gid"
    if (uid if uid is not None else gid) == overflow_id(kind):
        what = f"{'user' if rule.user else 'group'}: {kind} {overflow_id(kind)} stands for all that have no mapping"
        return None, None, Problem(what, "name a user or group of its own")
    return uid, gid, None


def _number(text: str, look_up: Callable[[str], int]) -> int:
    """Return the number of the user or group *text*: a name first, as chown(1) does, else a number. Raise KeyError."""
    try:
        return look_up(text)
    except KeyError:
        if text.isascii() and text.isdecimal():
            return int(text)
        raise


def permits_everything(rule: AgentRule) -> bool:
    """Return whether *rule* permits to send any payload with every verb to every destination: that is root on all.

    A pattern that consists of `*` and `**` alone, such as `*.**`, leaves out only names of another number of segments.
    """
    everywhere = any(set(pattern.split(".")) <= {"*", ALL} for pattern in rule.to)
    return bool(rule.do - {"receive"}) and "*" in rule.verbs and everywhere and rule.payload is None
