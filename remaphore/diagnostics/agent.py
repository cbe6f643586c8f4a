"""The table `[agent]`: rules that permit everything, or nothing, and a socket that no client finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from remaphore.agent.place import VARIABLE
from remaphore.agent.rules import permits_everything, resolve
from remaphore.config.settings import AGENT_SOCKET, Config
from remaphore.diagnostics.findings import Code, Finding, Level


def check_agent(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings about the agent, none without its table. environ: may name its socket to clients."""
    if not config.agent.allow and config.agent.socket is None:
        return
    problems, named = [], config.agent.socket
    if named is not None and named != AGENT_SOCKET and environ.get(VARIABLE) != str(named):
        what = f"agent.socket: no client looks at {named}, since clients read no configuration"
        hint = f"delete it for {AGENT_SOCKET}, or name it to clients with --agent or ${VARIABLE}"
        problems.append(Finding(Level.ERROR, Code.AGENT_SOCKET_UNKNOWN, config.source, what, hint))
    for rule in config.agent.allow:
        where = f"{config.source}: {rule.path}"
        uid, _, problem = resolve(rule)
        if problem is not None:
            what = f"{problem.what}; the rule permits nothing"
            problems.append(Finding(Level.WARNING, Code.AGENT_RULE_IDLE, where, what, problem.hint))
        elif permits_everything(rule) and uid != 0:
            who = f"user {rule.user}" if rule.user else f"group {rule.group}"
            what = f"{who} may send every verb to every destination: whoever is that is root wherever this node may be"
            hint = 'name verbs and destinations, such as verbs = ["deploy"] and to = ["com.example.web.*"]'
            problems.append(Finding(Level.WARNING, Code.AGENT_RULE_BROAD, where, what, hint))
    if not config.agent.allow:
        hint = "add a table [[agent.allow]] with user or group, do, verbs and to"
        problems.append(Finding(Level.WARNING, Code.AGENT_RULE_IDLE, config.source, "agent: no rules", hint))
    yield from problems or [
        Finding(Level.OK, Code.AGENT_OK, config.source, f"agent: rules for local users: {len(config.agent.allow)}")
    ]
