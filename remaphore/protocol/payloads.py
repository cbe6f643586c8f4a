"""Payload rules: what a sender may send as the payload of a verb.

A rule has exact texts, or one pattern for the whole payload, or both, or only a maximum length. All compare bytes.

The payload comes from another machine, and `re` has no time limit, so a pattern that could take long is refused when
the configuration is loaded. That is decided by an analysis of the pattern, never by a measurement. `(a+)+` on `aaaa!`
tries each way to divide `aaaa` among the two repetitions: 8, and twice as many for each further `a`. Without a
repetition or a choice inside a repetition, the number of ways is at most the product of what each repetition and choice
permits: `[a-z]{1,8}-[0-9]{1,3}` has 8 * 3, and `a*a*` has 257 * 257 for a payload of at most 256 bytes.

The elements are permitted one by one: whatever a later Python may add is refused until it is listed here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from remaphore.errors import ConfigError

# What backtracking may have to try: the ways of a pattern, each of at most `max_length` bytes. It permits two unlimited
# repetitions with the default length; the slowest patterns that were found take 0.1 s.
MAX_STEPS = 20_000_000
MAX_PATTERN = 1_000  # characters; a longer one is a list, which belongs into `payloads`
DEFAULT_LENGTH = 256  # bytes of a payload that a pattern may match
MAX_PATTERN_LENGTH = 4_096  # bytes, for `max_length` of a rule with a pattern

_FIRST, _LAST = 0x20, 0x7E  # printable ASCII
# All that is accepted if the parser of `re` is not there: no repetition and no group, so nothing is tried twice.
_PLAIN = re.compile(r"(?:[A-Za-z0-9 _/:,=@%~;'\"!<>&#-]|\\[^A-Za-z0-9]|\\[dw]|\[[A-Za-z0-9_-]+\]|\|)+")

_DOT = (
    "a bare dot, which matches any character",
    r"write \. for a dot, or a class of the permitted characters, such as [a-z0-9.-]",
)
_NEGATED = (
    "a negated class, which also matches line breaks and control characters",
    "list the permitted characters, such as [A-Za-z0-9_-]",
)
_SPACE = (r"\s, which also matches line breaks", r"write a space, or [ \t]")
_RANGE = ("a range that exceeds printable ASCII", "use ranges from space to ~ only, such as [ -~]")
_ANCHOR = (r"an anchor (^, $, \b and the like)", "delete it: the pattern is always compared with the whole payload")
_LOOK = ("a look-ahead or look-behind", "delete it, and write what the whole payload consists of")
_BACK = ("a reference to a group", "write what may stand there, or list the texts in payloads")
_FLAGS = ("a flag", "delete it; for both cases of a letter write a class, such as [Aa]")
_NESTED = (
    "a repetition inside a repetition, which can take for ever, such as (a+)+",
    "repeat one class instead, such as [a-z,]+ for ([a-z]+,)*",
)
_CHOICE = (
    "a choice inside a repetition, which can take for ever, such as (a|aa)*",
    "write a class such as [ab], or write the repetitions out",
)
_EMPTY_BODY = ("a repetition of nothing", "delete it, or write what it repeats")
_OTHER = (
    "an element that payload patterns do not have",
    r"use letters, classes such as [a-z], groups, | and the repetitions ?, *, + and {1,20}",
)


class PayloadRuleError(ConfigError):
    """A payload rule that is refused. key: its key that is wrong, empty for the rule as a whole."""

    def __init__(self, message: str, *, hint: str, key: str = "pattern") -> None:
        super().__init__(message, hint=hint)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRule:
    """The payloads that are permitted: the exact ones, and those that the pattern matches, up to a length.

    payloads: the exact ones. pattern: compared with the whole payload, see `compile_pattern`; None matches any.
    max_length: of a payload that is not exact, in bytes; None if only the exact ones are permitted. `of` makes a rule
    from the values in a configuration.
    """

    payloads: frozenset[bytes] = frozenset()
    pattern: re.Pattern[bytes] | None = None
    max_length: int | None = None

    @classmethod
    def of(
        cls, *, payloads: Iterable[str] = (), pattern: str | None = None, max_length: int | None = None
    ) -> PayloadRule:
        """Return the rule of these values. Raise PayloadRuleError, whose hint says what to write instead."""
        exact = frozenset(text.encode() for text in payloads)
        if pattern is not None:
            longest = DEFAULT_LENGTH if max_length is None else max_length
            if longest > MAX_PATTERN_LENGTH:
                what = f"more than {MAX_PATTERN_LENGTH}, the limit with a pattern"
                hint = f"set it to {MAX_PATTERN_LENGTH} or less, or delete the pattern"
                raise PayloadRuleError(what, hint=hint, key="max_length")
            return cls(payloads=exact, pattern=compile_pattern(pattern, max_length=longest), max_length=longest)
        if not exact and max_length is None:
            raise PayloadRuleError("permits nothing", hint="add payloads, pattern or max_length", key="")
        if exact and max_length is not None:
            hint = "delete it, or add a pattern"
            raise PayloadRuleError("has no effect on exact payloads", hint=hint, key="max_length")
        return cls(payloads=exact, max_length=max_length)

    def settings(self) -> dict[str, object]:
        """Return the rule as a configuration has it: `payloads`, `pattern` and `max_length`, those that are set."""
        keys: dict[str, object] = {
            "payloads": sorted(text.decode() for text in self.payloads),
            "pattern": self.pattern and self.pattern.pattern.decode(),
            "max_length": self.max_length,
        }
        return {key: value for key, value in keys.items() if value}

    def permits(self, payload: bytes) -> bool:
        """Return whether *payload* is permitted."""
        if payload in self.payloads:
            return True
        if self.max_length is None or len(payload) > self.max_length:
            return False
        return self.pattern is None or self.pattern.fullmatch(payload) is not None


def compile_pattern(text: str, *, max_length: int) -> re.Pattern[bytes]:
    """Return *text* as a pattern of bytes, to be used with `fullmatch`, on payloads of at most *max_length* bytes.

    It is a regular expression without what matches more than it seems to (a bare dot, negated classes), what changes
    the meaning of the rest (anchors, look-around, flags, references), and what can take long. Raise PayloadRuleError.
    """
    if len(text) > MAX_PATTERN:
        raise _refusal(
            f"longer than {MAX_PATTERN} characters", "list the texts in payloads, or write a shorter pattern"
        )
    if not text:
        raise _refusal("empty", 'write payloads = [""] to permit the empty payload')
    if not text.isascii() or not text.isprintable():
        raise _refusal(
            "a character beyond printable ASCII",
            r"write \n or \t for a control character; list other texts in payloads",
        )
    raw = text.encode()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as "Possible nested set": the meaning of [[a] may change
            tree = _parse(raw)
            pattern = re.compile(raw)
    except re.error as error:
        at = "" if error.pos is None else f", at character {error.pos + 1}"
        raise _refusal(f"not a regular expression: {error.msg}{at}", r"write \ before a special character") from None
    except (OverflowError, RecursionError, Warning) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refusal(f"not usable: {what}", r"write it simpler, with \ before special characters") from None
    if tree is not None:
        _check_work(tree, max_length)
    elif _PLAIN.fullmatch(text) is None:
        what = "this Python cannot analyse patterns, and this one has more than letters and classes"
        raise _refusal(what, "list the texts in payloads, or write a pattern without repetitions and groups")
    return pattern


def _refusal(what: str, hint: str) -> PayloadRuleError:
    return PayloadRuleError(what, hint=hint)


def _parse(raw: bytes) -> Any:
    """Return the tree that `re` makes of *raw*, or None if its parser, which is private, is not there."""
    try:
        from re import _parser  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _parser.parse(raw)


def _check_work(tree: Any, max_length: int) -> None:
    if tree.state.flags:
        raise _refusal(*_FLAGS)
    ways = _ways(tree, max_length, repeated=False)
    shortest, _ = tree.getwidth()
    if shortest > max_length:
        hint = f"set max_length to {shortest} or more, or write a shorter pattern"
        raise _refusal(f"matches no payload of at most {max_length} bytes", hint)
    if ways * max_length > MAX_STEPS:
        raise _refusal(
            "its repetitions and choices can divide a payload in too many ways",
            "give the repetitions smaller limits, such as {1,20} instead of +, or set a smaller max_length",
        )


def _ways(tree: Any, max_length: int, *, repeated: bool) -> int:
    """Return in how many ways *tree* can match some text of at most *max_length* bytes, at most.

    repeated: whether it is inside a repetition, where neither a choice nor another repetition may be.
    """
    ways = 1
    for operation, value in tree:
        match str(operation):
            case "LITERAL":
                pass
            case "IN":
                for kind, argument in value:
                    _check_class(str(kind), argument)
            case "SUBPATTERN":
                _group, flags_on, flags_off, body = value
                if flags_on or flags_off:
                    raise _refusal(*_FLAGS)
                ways *= _ways(body, max_length, repeated=repeated)
            case "BRANCH":
                if repeated:
                    raise _refusal(*_CHOICE)
                ways *= sum(_ways(branch, max_length, repeated=False) for branch in value[1])
            case "MAX_REPEAT" | "MIN_REPEAT":
                ways *= _ways_of_repetition(value, max_length, repeated=repeated)
            case other:
                raise _refusal(*_REFUSED.get(other, _OTHER))
    return ways


def _ways_of_repetition(value: Any, max_length: int, *, repeated: bool) -> int:
    least: int = value[0]
    most: int = value[1]
    body = value[2]
    if repeated and least != most:
        raise _refusal(*_NESTED)
    ways = _ways(body, max_length, repeated=repeated or most > 1)
    # `(){4000000000}` would match nothing four billion times.
    if most > 1 and not body.getwidth()[0]:
        raise _refusal(*_EMPTY_BODY)
    return ways * max(1, min(most, max_length) - least + 1)


def _check_class(kind: str, argument: Any) -> None:
    if kind == "RANGE" and not _FIRST <= argument[0] <= argument[1] <= _LAST:
        raise _refusal(*_RANGE)
    if kind == "NEGATE" or (kind == "CATEGORY" and "NOT" in str(argument)):
        raise _refusal(*_NEGATED)
    if kind == "CATEGORY" and str(argument) == "CATEGORY_SPACE":
        raise _refusal(*_SPACE)


_REFUSED = {
    "ANY": _DOT,
    "NOT_LITERAL": _NEGATED,
    "AT": _ANCHOR,
    "ASSERT": _LOOK,
    "ASSERT_NOT": _LOOK,
    "FAILURE": _LOOK,
    "GROUPREF": _BACK,
    "GROUPREF_EXISTS": _BACK,
}
