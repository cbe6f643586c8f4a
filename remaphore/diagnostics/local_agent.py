"""The local agent as `doctor` finds it: which way commands go, through it or directly, and whether it works."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from remaphore.agent import place
from remaphore.agent.client import whoami
from remaphore.config import search
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import ConfigError, RemaphoreError

_WHERE = "agent"
_AGAIN_SECONDS = 0.1
_RESTART = "systemctl restart remaphore-agent"


async def examine_agent(environ: Mapping[str, str], *, chosen: str | None, timeout: float) -> Iterator[Finding]:
    """Return the findings about the agent of this machine; none if there is none, and commands work directly.

    environ: of this process, whose user is the one that asks. chosen: the configuration that -c names, None without.
    timeout: seconds for the agent to reach its broker: systemd may start it for this very question.
    """
    ends = asyncio.get_running_loop().time() + timeout
    try:
        path = place.find(environ)
        if path is None or chosen is not None:
            return _unused(environ, chosen)
        about = await whoami(path)
        while not about.get("connected") and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(_AGAIN_SECONDS)
            about = await whoami(path)
    except RemaphoreError as error:
        return iter([from_error(Code.AGENT_UNUSABLE, _WHERE, error)])
    return judge(path, about)


async def examine_without_keys(
    environ: Mapping[str, str], error: ConfigError, *, chosen: str | None, timeout: float
) -> list[Finding]:
    """Return the findings for a user who has no keys and needs none; empty if commands need what *error* is about.

    Root's own configuration is one that it can correct. The other arguments are those of `examine_agent`.
    """
    if os.geteuid() == 0 and search.find_default(environ)[0] is not None:
        return []
    found = list(await examine_agent(environ, chosen=chosen, timeout=timeout))
    if not found or found[0].code is Code.AGENT_NOT_USED:
        return []
    what, hint = f"broker and peers were not examined: {error}", "on the agent's machine: sudo remaphore doctor"
    return [*found, Finding(Level.NOTE, Code.AGENT_HAS_KEYS, _WHERE, what, hint)]


def _unused(environ: Mapping[str, str], chosen: str | None) -> Iterator[Finding]:
    """Yield the agent that commands of this user would use, and what stands before it."""
    try:
        path = place.find({key: value for key, value in environ.items() if key == place.VARIABLE})
    except RemaphoreError:
        return
    if path is None:
        return
    why = f"-c {chosen}" if chosen is not None else "the configuration of this user"
    what = f"commands work directly and not through the agent at {path}: {why} takes precedence"
    hint = f"omit -c, or name the agent: --agent {shlex.quote(path)}"
    yield Finding(Level.NOTE, Code.AGENT_NOT_USED, _WHERE, what, hint)


def judge(path: str, about: Mapping[str, object]) -> Iterator[Finding]:
    """Yield the findings about the answer *about* of the agent at *path*, of the same version of the protocol."""
    ours, theirs = version("remaphore"), about.get("release")
    if theirs != ours:
        what = f"the agent at {path} is remaphore {theirs or '(older)'}, this is {ours}"
        yield Finding(Level.WARNING, Code.AGENT_OTHER_RELEASE, _WHERE, what, _RESTART)
    if not about.get("connected"):
        what = f"the agent at {path} has no connection to a broker"
        yield Finding(Level.ERROR, Code.AGENT_DISCONNECTED, _WHERE, what, "journalctl -u remaphore-agent")
    rules = about.get("rules")
    names = [str(rule.get("rule")) for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
    if not names:
        what = f"commands go through the agent at {path}, and no rule of it names uid {about.get('uid')}"
        hint = "add a rule to [[agent.allow]], or use --direct"
        yield Finding(Level.WARNING, Code.AGENT_NAMES_NO_RULE, _WHERE, what, hint)
    else:
        what = f"commands go through the agent at {path}; rules for us: {', '.join(names)}"
        yield Finding(Level.OK, Code.AGENT_USED, _WHERE, what)
