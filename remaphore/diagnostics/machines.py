"""Whether one peer is several machines: what its replies to one request show, when there are more than one.

A daemon replies to a request once; if the request is delivered again, it sends the same reply again. So two different
replies of one peer come from two receivers: two daemons of one machine, which have different instance names, or two
machines with one key, such as a virtual machine and its clone. Replies to different requests prove nothing, as a daemon
may have been restarted between them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.protocol.message import Reply
from remaphore.protocol.ping import Invocation, parse_reply
from remaphore.text import shorten

_CLONE = (
    "if one machine is a copy of another, delete its configuration and key, run remaphore init --destination NAME"
    " there, and restart its daemon; if none is, the key was disclosed: replace it on all nodes"
)
# Where the replies have no invocation. The daemon itself reports it in its reply to ping, unless a handler replies.
ENABLE_PERMISSIONS = "enable the plugin permissions there and run remaphore doctor"
PING_INSTEAD = (
    f"run remaphore ping --count 1, which tells unless a handler replies to ping there; or {ENABLE_PERMISSIONS}"
)
_NAMES = "give two daemons of one machine different names (remaphore run --instance)"


def find_invocation(reply: Reply) -> Invocation | None:
    """Return the invocation that *reply* reports, to `ping` or `permissions`; None if it reports none."""
    if reply.exit_code != 0:
        return None
    invocation = parse_reply(reply.output)
    if invocation is not None:
        return invocation
    try:
        reported = json.loads(reply.output)
    except (ValueError, RecursionError):
        return None
    if not isinstance(reported, dict):
        return None
    return Invocation.of(reported.get("invocation"), reported.get("instance"))


def judge_replies(replies: Sequence[Reply], *, how_to_tell: str) -> Finding | None:
    """Return what the different *replies* of one peer to one request show, None if it replied once.

    how_to_tell: the hint if not all of them have an invocation.
    """
    if len(replies) < 2:
        return None
    where = replies[0].peer
    invocations = sorted(invocation for reply in replies if (invocation := find_invocation(reply)))
    names = Counter(invocation.instance for invocation in invocations)
    shared = sorted(name for name, number in names.items() if number > 1)
    shown = shorten(", ".join(f"{number} ({instance})" for number, instance in invocations))
    keys = sorted({reply.sender for reply in replies})
    runs = [{"invocation": number, "instance": instance} for number, instance in invocations]
    facts = {"invocations": runs, "keys": keys}
    if shared:
        key = "the same key" if len(keys) == 1 else "different keys"
        common = f"{max(names.values())} machines reply as this peer, with {key}, and each runs every message"
        what, hint = f"{common}: invocations {shown}", f"{_CLONE}; {_NAMES}"
        return Finding(Level.ERROR, Code.PEER_SEVERAL_MACHINES, where, what, hint, facts, common)
    if len(invocations) < len(replies):
        what = f"replies {len(replies)} times to one request, so several receivers have its key, on one machine or on"
        what += " several, or the request was delivered again; not all replies have an invocation, which would tell"
        hint = f"{how_to_tell}; {_CLONE}"
        return Finding(Level.WARNING, Code.PEER_SEVERAL_RECEIVERS, where, what, hint, facts)
    what = (
        f"{len(replies)} instances reply as this peer, and each runs every message: {shorten(', '.join(sorted(names)))}"
    )
    return Finding(Level.NOTE, Code.PEER_SEVERAL_INSTANCES, where, what, facts=facts)
