"""The original's command line, unchanged in meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from remaphore.cli.goflags import Kind, parse
from remaphore.cli.options import DEFAULT_VERB, Options
from remaphore.errors import UsageError
from remaphore.protocol import duration

if TYPE_CHECKING:
    from remaphore.cli.options.receiving import Receive
    from remaphore.cli.options.sending import Send

FLAGS = {
    **dict.fromkeys(("C", "d", "o", "r", "s"), Kind.BOOL),
    **dict.fromkeys(("D", "S", "c", "p", "u", "v"), Kind.TEXT),
    "t": Kind.DURATION,
}


def read(words: Sequence[str]) -> Options:
    """Return what *words* ask for. Raises UsageError."""
    values, rest = parse(words, FLAGS)
    flag: dict[str, Any] = {name: values.get(name, False if kind is Kind.BOOL else "") for name, kind in FLAGS.items()}
    if flag["C"]:
        from remaphore.cli.options.local import Example

        return Example()
    if flag["r"] and flag["s"]:
        raise UsageError("-r and -s are mutually exclusive")
    if flag["d"] and flag["D"]:
        raise UsageError("-d and -D are mutually exclusive")
    verbs = tuple(verb for verb in map(str.strip, flag["v"].split(",")) if verb)
    return (_sending if flag["r"] or flag["s"] else _receiving)(flag, verbs, rest)


def _receiving(flag: Mapping[str, Any], verbs: tuple[str, ...], rest: list[str]) -> Receive:
    from remaphore.cli.options.receiving import Receive

    return Receive(
        config=flag["c"] or None,
        subject=flag["S"],
        verbs=verbs,
        once=flag["o"] or bool(flag["u"]),
        id=flag["u"],
        timeout=_seconds(flag["t"]),
        any_destination=flag["d"],
        pattern=flag["D"],
        key=flag["p"],
        script=tuple(rest),
    )


def _sending(flag: Mapping[str, Any], verbs: tuple[str, ...], rest: list[str]) -> Send:
    from remaphore.cli.options.sending import Send

    kind = Send
    if flag["r"]:
        from remaphore.cli.options.requesting import Request

        kind = Request
    return kind(
        config=flag["c"] or None,
        subject=flag["S"],
        to=flag["D"] or "**",
        verb=verbs[0] if verbs else DEFAULT_VERB,
        id=flag["u"],
        key=flag["p"],
        payload=" ".join(rest),
        timeout=_seconds(flag["t"]) if flag["r"] else None,  # the original's -s ignores -t
    )


def _seconds(nanoseconds: int | str) -> float | None:
    """Without `-t`, or with one of 0 or less, there is no limit."""
    return nanoseconds / duration.SECOND if isinstance(nanoseconds, int) and nanoseconds > 0 else None
