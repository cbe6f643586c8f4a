"""Reading values from a parsed TOML file, so that every error names the path of its key.

No value is quoted: a value in a wrong place may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from remaphore.config import characters, checks
from remaphore.config.settings import Problem
from remaphore.errors import ConfigError
from remaphore.text import describe_character

_T = TypeVar("_T")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")  # shorter than a seed, in base58 or as an nkey
_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "a table",
}


class Table:
    """One table of the file: *at* is its path, empty for the whole file; *known* its keys, None if any is allowed.

    The methods return None (or an empty tuple) for a key that is missing, unless it is required; all of them raise
    ConfigError. *top*: the keys that are only allowed at the top of the file, for the hint. *text*: the
    whole file, for the place of a character that cannot be seen; empty if it is not at hand. *owner*: what may know
    further keys in a newer version.
    """

    __slots__ = ("_at", "_data", "_source", "_text", "_top")

    def __init__(
        self,
        data: Mapping[str, Any],
        *,
        source: str,
        known: Collection[str] | None,
        at: str = "",
        top: Collection[str] = (),
        text: str = "",
        owner: str = "remaphore",
    ) -> None:
        self._data, self._source, self._at, self._top, self._text = data, source, at, top, text
        if known is not None:
            for key in data:
                if key not in known:
                    place = self._deceptive(key)
                    hint = f"delete or replace {place}" if place else _unknown_key_hint(key, known, top, owner)
                    raise self.error(key, "unknown key", hint)

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def error(self, key: str, what: str, hint: str = "") -> ConfigError:
        """Return the error that states *what* is wrong with *key*, such as `remaphore.toml: peers[1].key: missing`."""
        return ConfigError(f"{self._source}: {self.path(key)}: {what}", hint=hint)

    def path(self, key: str) -> str:
        """Return the path of *key* in the file, such as `peers[1].verbs`; of the table itself if *key* is empty.

        A key that is not a bare key, or so long that it may be a secret, is shown as `"..."`.
        """
        if not key:
            return self._at
        word, bracket, index = key.partition("[")
        shown = (word if _BARE_KEY.fullmatch(word) else '"..."') + bracket + index
        return f"{self._at}.{shown}" if self._at else shown

    def require(self, key: str, example: str) -> None:
        """Raise ConfigError unless *key* exists; *example* is a line to add."""
        if key not in self._data:
            raise self.error(key, "missing", f"add {example}")

    def text(self, key: str, *, may_be_empty: bool = False) -> str | None:
        """Return a string, which may not be empty or blank unless *may_be_empty*."""
        value = self._typed(key, str)
        return value if value is None or may_be_empty else self.require_content(key, value)

    def required_text(self, key: str) -> str:
        """Return a string that is required."""
        self.require(key, f'{key} = "..."')
        return self.text(key) or ""

    def texts(self, key: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
        """Return an array of strings, none of them empty or blank unless *may_be_empty*."""
        items = self._typed(key, list) or []
        for number, item in enumerate(items):
            at = f"{key}[{number}]"
            text = self.check(at, item, str)
            if not may_be_empty:
                self.require_content(at, text)
        return tuple(items)

    def duration(self, key: str) -> int | None:
        """Return the nanoseconds, more than 0, of a string in Go's notation."""
        text = self.text(key)
        return None if text is None else self.read_duration(key, text)

    def read_duration(self, key: str, text: str) -> int:
        """Return the nanoseconds, more than 0, of *text*, the string at *key*."""
        try:
            nanoseconds = checks.read_duration(text)
        except ConfigError as error:
            place = self._deceptive(text)
            raise self.error(key, str(error), f"delete or replace {place}" if place else error.hint) from None
        if nanoseconds <= 0:
            raise self.error(key, "must be more than 0", "use a value such as 5s")
        return nanoseconds

    def positive(self, key: str) -> int | None:
        """Return an integer of 1 or more."""
        value = self._typed(key, int)
        if value is not None and value < 1:
            raise self.error(key, "must be 1 or more", f"use 1 or more, or delete {key} for the default")
        return value

    def integer(self, key: str) -> int:
        """Return an integer that is required."""
        self.require(key, f"{key} = 1")
        return self.check(key, self._data[key], int)

    def boolean(self, key: str) -> bool | None:
        """Return true or false."""
        return self._typed(key, bool)

    def is_text(self, key: str) -> bool:
        """Return whether the value of *key* is a string."""
        return isinstance(self._data.get(key), str)

    def is_table(self, key: str) -> bool:
        """Return whether the value of *key* is a table."""
        return isinstance(self._data.get(key), dict)

    def raw(self, key: str) -> dict[str, Any]:
        """Return a table as the parser returned it, without any check of its keys."""
        return self._typed(key, dict) or {}

    def table(self, key: str, known: Collection[str] | None) -> Table:
        """Return a table with these *known* keys."""
        return Table(self.raw(key), source=self._source, known=known, at=self.path(key), top=self._top, text=self._text)

    def tables(self, key: str, known: Collection[str]) -> Iterator[Table]:
        """Return the tables of an array, `[[key]]` in the file."""
        for number, item in enumerate(self._typed(key, list) or []):
            at = f"{key}[{number}]"
            data = self.check(at, item, dict)
            yield Table(data, source=self._source, known=known, at=self.path(at), top=self._top, text=self._text)

    def require_content(self, key: str, value: str) -> str:
        """Return *value*, the string at *key*. Raise ConfigError if it is empty or blank."""
        if not value.strip():
            raise self.error(key, "empty", "write a value or delete it")
        return value

    def check(self, key: str, value: object, kind: type[_T]) -> _T:
        """Return *value*, which is at *key*. Raise ConfigError unless it is a *kind*."""
        # The exact type: in Python, True is an instance of int.
        if type(value) is not kind:
            raise self.error(key, f"must be {_NAMES[kind]}, not {_NAMES.get(type(value), 'a date or time')}")
        assert isinstance(value, kind)
        return value

    def checked(self, key: str, value: str, problem_of: Callable[[str], Problem | None]) -> str:
        """Return *value*, the string at *key*. Raise the problem that *problem_of* finds in it, if any."""
        problem = problem_of(value)
        if problem is not None:
            place = self._deceptive(value)
            raise self.error(key, problem.what, f"delete or replace {place}" if place else problem.hint)
        return value

    def _deceptive(self, value: str) -> str:
        """Return the first character of *value* that cannot be seen, and where it is in the file, if that is known."""
        index = characters.find(value)
        if index is not None and not self._text:
            return describe_character(value[index])
        start = self._text.find(value)  # -1 if it is written with escapes, which can be seen
        return "" if index is None or start < 0 else characters.locate(self._text, start + index)

    def _typed(self, key: str, kind: type[_T]) -> _T | None:
        return self.check(key, self._data[key], kind) if key in self._data else None


def _unknown_key_hint(key: str, known: Collection[str], top: Collection[str], owner: str) -> str:
    if key in top and top is not known:
        return f"move {key} to the top of the file, above the first [table]"
    from remaphore.text import closest

    likely = closest(key, known)
    hint = f"did you mean {likely}?" if likely else f"known keys: {', '.join(known)}"
    return f"{hint} (if a newer {owner} knows this key, update this one)"
