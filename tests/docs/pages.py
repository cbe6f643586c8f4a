"""What a page of the documentation says to type, taken out of its Markdown. CONTRIBUTING.md has the rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
TYPED = ("sh", "console")

_BLOCK = re.compile(
    r"""
    ^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$      # a fence
    | ^<!--\ (?P<kind>typed\ first|not\ typed|exit\ code):\s+(?P<comment>.*?)-->$
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_NO_MARKS = {"not typed": "", "exit code": "0"}
_PROMPT = re.compile(r"(?P<terminal>[a-z][a-z0-9-]*)?\$ (?P<command>.*)")
_ON = re.compile(r"\s*# on (?P<terminal>[a-z][a-z0-9-]*)\n")
_HEREDOC = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True)
class Command:
    """What is typed in one terminal. shown: the lines that the page shows after it, None if it shows none."""

    line: int
    terminal: str
    text: str
    shown: tuple[str, ...] | None = None
    code: int = 0


@dataclass(frozen=True)
class Block:
    """A block of commands. why_not: the reason why it is not typed; empty if it is."""

    line: int
    commands: tuple[Command, ...]
    why_not: str = ""


def pages() -> list[Path]:
    """Return every page of the repository, relative to it."""
    found = [*ROOT.glob("*.md"), *(ROOT / "hooks.d").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def blocks(text: str) -> Iterator[Block]:
    """Return the blocks of commands of a page, in order."""
    marks = {**_NO_MARKS}
    end = 0
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if marks != _NO_MARKS and text[end : found.start()].strip():
            raise AssertionError(f"line {line}: a mark stands right before the block that it is about")
        end = found.end()
        if found["kind"] in marks:
            marks[found["kind"]] = " ".join(found["comment"].split())
        elif found["kind"]:
            yield Block(line, tuple(_script(found["comment"], line)))
        else:
            if found["language"] in TYPED:
                read = _script if found["language"] == "sh" else _session
                *first, last = read(found["text"], line + 1)
                yield Block(line, (*first, replace(last, code=int(marks["exit code"]))), marks["not typed"])
            marks = {**_NO_MARKS}


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
