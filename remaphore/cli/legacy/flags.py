"""The flags of the Go implementation, and the options that they stand for. Their meaning does not change.

Two of them are ours: --agent and --direct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remaphore.cli.legacy.goflags import Kind, parse
from remaphore.cli.requests import DEFAULT_VERB
from remaphore.errors import UsageError
from remaphore.protocol import duration
from remaphore.protocol.match import ALL

FLAGS = {
    **dict.fromkeys(("C", "d", "o", "r", "s", "direct"), Kind.BOOL),
    **dict.fromkeys(("D", "S", "c", "p", "u", "v", "agent"), Kind.TEXT),
    "t": Kind.DURATION,
}


def read(arguments: Sequence[str]) -> object:
    """Return the options of the command line *arguments*. Raise UsageError."""
    values, rest = parse(arguments, FLAGS)
    flag: dict[str, Any] = {name: values.get(name, False if kind is Kind.BOOL else "") for name, kind in FLAGS.items()}
    if flag["C"]:
        from remaphore.cli.legacy.example import Example

        return Example()
    if flag["r"] and flag["s"]:
        raise UsageError("-r and -s are mutually exclusive", hint="-s sends without waiting, -r waits for replies")
    if flag["d"] and flag["D"]:
        raise UsageError("-d and -D are mutually exclusive", hint="-d accepts any destination, -D only this pattern")
    verbs = tuple(verb for verb in map(str.strip, flag["v"].split(",")) if verb)
    timeout = flag["t"] / duration.SECOND if flag["t"] and flag["t"] > 0 else None  # 0 and less: no limit
    if not (flag["r"] or flag["s"]):
        from remaphore.cli.commands.receive import Receive

        return Receive(
            config=flag["c"] or None,
            agent=flag["agent"] if "agent" in values else None,
            direct=flag["direct"],
            subject=flag["S"],
            verbs=verbs,
            once=flag["o"] or bool(flag["u"]),
            id=flag["u"],
            timeout=timeout,
            any_destination=flag["d"],
            pattern=flag["D"],
            key=flag["p"],
            script=tuple(rest),
        )
    message: dict[str, Any] = {
        "config": flag["c"] or None,
        "agent": flag["agent"] if "agent" in values else None,
        "direct": flag["direct"],
        "subject": flag["S"],
        "to": flag["D"] or ALL,
        "verb": verbs[0] if verbs else DEFAULT_VERB,
        "id": flag["u"],
        "key": flag["p"],
        "payload": " ".join(rest),
    }
    if flag["r"]:
        from remaphore.cli.commands.request import Request

        return Request(**message, timeout=timeout)
    from remaphore.cli.commands.send import Send

    return Send(**message)  # -t has no effect on -s in the Go implementation
