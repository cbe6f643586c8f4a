"""Node sets: several names in one text, in the notation of ClusterShell. `expand` reads them, `fold` writes them.

`com.web.[1-3,7]` stands for `com.web.1`, `com.web.2`, `com.web.3` and `com.web.7`; `[08-10]` for `08`, `09` and `10`. A
name may have several brackets, which are combined, and commas outside brackets separate names:
`com.a[1-2].b[1-2],com.c` has five names. What is in no bracket is not interpreted, so that a
pattern may be in a set.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Container, Iterable, Iterator, Sequence

from remaphore.errors import UsageError
from remaphore.text import natural_key

__all__ = ["MAX_NAMES", "expand", "fold", "is_plain"]

MAX_NAMES = 100_000
"""The most names in one set: ten times the peers of a large configuration.

They are counted before the first one is made, since `[1-99999999]` would fill the memory.
"""

_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_MAX_QUOTED = 60  # characters of a text that an error quotes
_EXAMPLE = "write numbers and ranges in brackets, such as com.example.web.[1-3,7]"

# A destination may contain other characters, which are operators and ranges in a node set: such a name is not folded.
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER = re.compile(r"([0-9]+)")
_LONG_NUMBER = re.compile(r"[0-9]{16}")  # a serial number; no range would be shorter
_FOLDED_NUMBERS = 4  # of a name, counted from its end

_Parts = tuple[str, ...]  # of a name: text, number, text, number ... text


def is_plain(text: str) -> bool:
    """Return whether *text* is one name or pattern, which stands for itself."""
    return bool(text) and not any(each in "[]," or each.isspace() for each in text)


def expand(text: str, known: Container[str] = ()) -> tuple[str, ...]:
    """Return the names and patterns that *text* stands for, each once, in its order. Raise UsageError.

    known: names that stand for themselves, whatever characters they have: a destination may contain brackets.
    """
    names: dict[str, None] = {}
    for item in _split(text, known):
        if item in known:
            names[item] = None
            continue
        if not item:
            hint = "write at least one destination or pattern, and no comma at an end"
            raise UsageError(f"empty name in {_quote(text)}", hint=hint)
        texts, ranges = _parse(item)
        count = math.prod(sum(len(each) for each, _ in numbers) for numbers in ranges)
        if len(names) + count > MAX_NAMES:
            raise UsageError(
                f"{_quote(item)} has {count} names; the limit is {MAX_NAMES}", hint="use a pattern: com.**"
            )
        for numbers in itertools.product(*map(_numbers, ranges)):
            parts = (*itertools.chain.from_iterable(zip(texts, numbers, strict=False)), texts[-1])
            names["".join(parts)] = None
    return tuple(names)


def _split(text: str, known: Container[str]) -> Iterator[str]:
    """Yield what is between the commas outside brackets."""
    held: list[str] = []  # the beginning of a name whose bracket is not closed yet
    depth = 0
    for piece in text.split(","):
        held.append(piece)
        if len(held) > 1 or piece.strip() not in known:
            depth += piece.count("[") - piece.count("]")
        if depth <= 0:
            yield ",".join(held).strip()
            held, depth = [], 0
    if held:
        raise UsageError(f"unclosed bracket in {_quote(','.join(held))}", hint=_EXAMPLE)


def _parse(item: str) -> tuple[list[str], list[list[tuple[range, int]]]]:
    """Return the texts around the brackets of *item*, and for each bracket its ranges with their widths."""
    parts = _BRACKET.split(item)
    texts = parts[::2]
    if any("[" in text or "]" in text for text in texts):
        surplus = item.count("[") - item.count("]")
        what = "nested brackets" if not surplus else "unclosed bracket" if surplus > 0 else "unopened bracket"
        raise UsageError(f"{what} in {_quote(item)}", hint=_EXAMPLE)
    if any(each.isspace() for text in texts for each in text):
        raise UsageError(f"white space in {_quote(item)}", hint="separate destinations by commas, or repeat the option")
    return texts, [[_range(each.strip(), item) for each in inside.split(",")] for inside in parts[1::2]]


def _range(text: str, item: str) -> tuple[range, int]:
    """Return the numbers of `7`, `1-3` or `08-10`, and the digits that each has at least."""
    found = _RANGE.fullmatch(text)
    if found is None:
        what = f"{_quote(text)} is not a number or a range" if text else "empty bracket or number"
        raise UsageError(f"{what} in {_quote(item)}", hint=_EXAMPLE)
    first, last = found[1], found[2] or found[1]
    padded = any(len(each) > 1 and each.startswith("0") for each in (first, last))
    if padded and len(first) != len(last):
        hint = "write both ends with the same number of digits, such as [08-10]"
        raise UsageError(f"the ends of the range {_quote(text)} in {_quote(item)} are padded differently", hint=hint)
    if int(first) > int(last):
        raise UsageError(
            f"reversed range {_quote(text)} in {_quote(item)}", hint=f"write the smaller number first: {last}-{first}"
        )
    return range(int(first), int(last) + 1), len(first) if padded else 0


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}...")


def _numbers(ranges: list[tuple[range, int]]) -> Iterator[str]:
    return (f"{number:0{width}}" for numbers, width in ranges for number in numbers)


def fold(names: Iterable[str]) -> str:
    """Return the node set of *names*, in natural order: `com.db.[1-3,7],com.web`.

    The last number is folded first, then the one before it among names that are otherwise equal, each in one pass. The
    fewest ranges for several numbers would take minutes to find for 2,000 names.

        a1.b1 a1.b2 a2.b1 a2.b2 a3.b1  ->  a1.b[1-2] a2.b[1-2] a3.b1  ->  a[1-2].b[1-2],a3.b1
    """
    rows: list[_Parts] = []
    others = []
    for name in sorted(set(names), key=natural_key):
        if _PLAIN.fullmatch(name) and not _LONG_NUMBER.search(name):
            rows.append(tuple(_NUMBER.split(name)))
        else:
            others.append(name)
    if not any("[" in name or "]" in name for name in others):  # else `expand` could not tell them from ranges
        for place in range(1, _FOLDED_NUMBERS + 1):
            rows = _fold_number(rows, -2 * place)
    return ",".join([*map("".join, rows), *others])


def _fold_number(rows: Iterable[_Parts], place: int) -> list[_Parts]:
    """Return *rows*, with one row in place of all that differ only in the number at *place*, and ranges there.

    For place -2, the last number: ("com.a", "1", ""), ("com.a", "2", "") -> ("com.a", "[1-2]", "").
    """
    groups: dict[tuple[_Parts, _Parts], list[str]] = {}  # in the order of their first rows
    for row in rows:
        if len(row) < -place:
            groups[row, ()] = []
        else:
            groups.setdefault((row[:place], row[place + 1 :]), []).append(row[place])
    return [(*head, _ranges(numbers), *tail) if numbers else head for (head, tail), numbers in groups.items()]


def _ranges(numbers: Sequence[str]) -> str:
    """Return different *numbers* as ranges: `1 2 3 7` as `[1-3,7]`, `08 09 10` as `[08-10]`; a single one as itself."""
    if len(numbers) == 1:
        return numbers[0]
    ranges: list[list[str]] = []
    for number in sorted(numbers, key=lambda digits: (int(digits), len(digits))):
        if ranges and number == _next(ranges[-1]):
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return "[" + ",".join(each[0] if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in ranges) + "]"


def _next(numbers: Sequence[str]) -> str:
    """Return the number that continues a range: 10 after 8 and 9, and after 08 and 09; nothing after 099 to 999."""
    first, following = numbers[0], str(int(numbers[-1]) + 1)
    if not first.startswith("0") or first == "0":
        return following
    return following.zfill(len(first)) if len(following) <= len(first) else ""
