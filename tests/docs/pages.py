"""The commands of a page of the documentation, read from its Markdown. CONTRIBUTING.md has the rules.

A page read in a terminal contains no test code: whatever a command needs and the page does not show is in a setup file,
tests/docs/setup/README.sh for README.md, tests/docs/setup/docs/handlers.sh for docs/handlers.md. It names blocks of its
page by their first line, in the order of the page:

    # before: left$ remaphore check
    mkdir -p $DESK/left/state
    # exit code 1: left$ remaphore check
    # not typed, it needs a network: pip install remaphore
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETUP = Path(__file__).with_name("setup")
TYPED = ("sh", "console")

_BLOCK = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(
    r"^# (?:before|not typed, (?P<why_not>[^:]+)|exit code (?P<code>\d+)): (?P<first_line>.+)\n"
    r"(?P<script>(?:(?!# ).*\n)*)",
    re.MULTILINE,
)
_PROMPT = re.compile(r"(?P<terminal>[a-z][a-z0-9-]*)?\$ (?P<command>.*)")
_ON = re.compile(r"\s*# on (?P<terminal>[a-z][a-z0-9-]*)\n")
_HEREDOC = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True)
class Command:
    """A command of one terminal. shown: the lines that the page shows after it, None if it shows none."""

    line: int
    terminal: str
    text: str
    shown: tuple[str, ...] | None = None
    code: int = 0


@dataclass(frozen=True)
class Block:
    """A block of commands. why_not: the reason why it is not typed; empty if it is typed."""

    line: int
    commands: tuple[Command, ...]
    why_not: str = ""


def pages() -> list[Path]:
    """Return every page of the repository, relative to it."""
    found = [*ROOT.glob("*.md"), *(ROOT / "hooks.d").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def fences(text: str) -> tuple[list[tuple[str, str]], str]:
    """Language and text of each fenced block, and what stands outside of them."""
    parts = re.split(r"^```(.*)\n", text, flags=re.MULTILINE)
    inside = [(parts[number], parts[number + 1]) for number in range(1, len(parts) - 1, 4)]
    return inside, "\n".join(parts[number] for number in range(0, len(parts), 4))


def setup_of(page: str | Path) -> Path:
    """Return the path of the setup file of a page, which need not exist."""
    return SETUP / Path(page).with_suffix(".sh")


def page_blocks(page: str | Path) -> Iterator[Block]:
    """Return the blocks of commands of a page of the repository, with those of its setup file, in order."""
    setup = setup_of(page)
    return blocks((ROOT / page).read_text(), setup.read_text() if setup.exists() else "")


def blocks(text: str, setup: str = "") -> Iterator[Block]:
    """Return the blocks of commands of a page's *text* and its *setup*, in order.

    Raises: AssertionError for a mark of *setup* that names no block after the block of the mark before it.
    """
    marks = list(_MARK.finditer(setup))
    for found in _BLOCK.finditer(text):
        if found["language"] not in TYPED:
            continue
        line = text.count("\n", 0, found.start()) + 1
        code, why_not = 0, ""
        while marks and marks[0]["first_line"] == found["text"].strip().partition("\n")[0]:
            mark = marks.pop(0)
            code, why_not = int(mark["code"] or code), mark["why_not"] or why_not
            if mark["script"].strip():
                yield Block(line, tuple(_script(mark["script"], line)))
        read = _script if found["language"] == "sh" else _session
        *first, last = read(found["text"], line + 1)
        yield Block(line, (*first, replace(last, code=code)), why_not)
    assert not marks, f"no block of the page begins with this line, in this order: {marks[0]['first_line']}"


def _script(text: str, line: int) -> Iterator[Command]:
    """Return the commands of a block of language `sh`: one a line, without what they print, on one machine."""
    on = _ON.match(text)
    lines = iter(enumerate(text.splitlines(), line))
    for number, first in lines:
        if first.strip() and not first.startswith("#"):
            yield Command(number, on["terminal"] if on else "", _whole(first, lines))


def _session(text: str, line: int) -> Iterator[Command]:
    """Return the commands of a block of language `console`: each after a prompt, and what it prints below it."""
    last: Command | None = None
    shown: list[str] = []
    lines = iter(enumerate(text.splitlines(), line))
    for number, each in lines:
        prompt = _PROMPT.fullmatch(each)
        if prompt is None:
            shown.append(each)
            continue
        yield from _with(last, shown)
        last, shown = Command(number, prompt["terminal"] or "", _whole(prompt["command"], lines)), []
    yield from _with(last, shown)


def _with(command: Command | None, shown: list[str]) -> Iterator[Command]:
    if command is None:
        assert not "".join(shown).strip(), f"a session begins with a prompt, not with {shown[0]!r}"
        return
    while shown and not shown[-1]:
        shown.pop()
    yield Command(command.line, command.terminal, command.text, tuple(shown) or None)


def _whole(first: str, rest: Iterator[tuple[int, str]]) -> str:
    """Return a command with the lines that continue it: after a backslash, or up to the end of what `<<` begins."""
    lines = [first]
    while lines[-1].endswith("\\"):
        lines.append(next(rest)[1])
    for end in _HEREDOC.findall("\n".join(lines)):
        while lines[-1] != end:
            lines.append(next(rest)[1])
    return "\n".join(lines)
