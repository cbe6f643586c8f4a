"""The promises of the two pages, and the mutations that break them, from the TOML files of this folder."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PAGES = {"reliability": "docs/reliability.md", "security": "docs/security.md"}


@dataclass(frozen=True)
class Promise:
    """A row of a page: its first cell, and the tests that it names, such as `tests/faults/test_clock.py::test_x`."""

    page: str
    text: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Mutation:
    """One change of one file that breaks a promise. *tests*: those of the promise that must turn red, each of them."""

    name: str
    promise: Promise
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self, root: Path = ROOT) -> str:
        """Return the text of the file with the change. Raise ValueError unless the old text is there exactly once."""
        text = (root / self.file).read_text()
        if (found := text.count(self.old)) != 1:
            where = f"tests/mutations/{self.promise.page}.toml: {self.name}"
            raise ValueError(f"{where}: its old text is {found} times, not once, in {self.file}")
        return text.replace(self.old, self.new)


def promises() -> list[Promise]:
    """Return the rows of both pages that name tests."""
    found = []
    for page, path in PAGES.items():
        for line in (ROOT / path).read_text().splitlines():
            # In docs/reliability.md the names are relative to tests/.
            named = re.findall(r"`(?:tests/)?([\w/]+\.py::test_\w+)`", line)
            if line.startswith("| ") and named:
                text = line.removeprefix("| ").partition(" | ")[0]
                found.append(Promise(page, text, tuple(f"tests/{name}" for name in named)))
    return found


def mutations() -> list[Mutation]:
    """Return the whole catalogue. Raise ValueError for an entry whose promise or test is not on its page."""
    rows = promises()
    return [
        _read(entry, [row for row in rows if row.page == page])
        for page in PAGES
        for entry in tomllib.loads((FOLDER / f"{page}.toml").read_text())["mutation"]
    ]


def _read(entry: dict[str, str | list[str]], rows: list[Promise]) -> Mutation:
    """Return an entry as a `Mutation`. It gives the beginning of its promise, and no tests if it means all of them."""
    name, begin = entry["name"], entry["promise"]
    found = [row for row in rows if row.text.startswith(begin)]
    if len(found) != 1:
        raise ValueError(f"{name}: {len(found)} promises begin with {begin!r}")
    tests = tuple(_full_names(name, entry.get("tests", ()), found[0]))
    return Mutation(name, found[0], entry["file"], entry["old"], entry["new"], tests or found[0].tests)


def _full_names(name: str, tests: list[str], promise: Promise) -> Iterator[str]:
    for test in tests:
        full = [each for each in promise.tests if each.endswith(f"::{test}")]
        if len(full) != 1:
            raise ValueError(f"{name}: the promise does not name {test}")
        yield full[0]
