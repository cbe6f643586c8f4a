"""The first line of a script, as the kernel reads it: `#!INTERPRETER ARGUMENT`. execve(2)

What editors, wikis and chat programs put into a file is invisible: a byte order mark, UTF-16, a carriage return, a
no-break space. The kernel then says "no such file" or "exec format error"; here it is stated what the file contains.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from remaphore.text import describe_character

LINE_BYTES = 256  # BINPRM_BUF_SIZE: what the kernel reads of a file

_LF = b"\n"
ELF = b"\x7fELF"
_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"#\0!\0", b"\0#\0!")
_BOM = b"\xef\xbb\xbf"
_HIDDEN_START = re.compile(rb"[^\x21-\x7e]+#!")  # nothing visible before #!, also on lines before it
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")
_FIRST_LINES = "a first line such as #!/bin/sh"


class Obstacle(NamedTuple):
    """Why a program cannot be started, and a hint how to change that: a command where there is one."""

    reason: str
    hint: str


class Interpreter(NamedTuple):
    """The program that runs a script. command: the name that env(1) looks up in PATH, if the program is env."""

    path: str
    command: str = ""


def read_first_line(path: str, start: bytes) -> Interpreter | Obstacle | None:
    """Return the interpreter of the script *path*, whose first LINE_BYTES are *start*; None for a binary."""
    name = shlex.quote(path)
    problem = _encoding_problem(start, name)
    if problem is not None or start.startswith(ELF):
        return problem
    if not start.startswith(b"#!") and b"\0" in start:  # another binary, which the kernel may know (binfmt_misc)
        return None
    if not start.startswith(b"#!"):
        # Not quoted: this becomes part of a reply, and the file may be anything.
        what = "its first line does not begin with #!" if start else "it is empty"
        return Obstacle(what, f"add {_FIRST_LINES} to {name}")
    line, newline, _ = start[2:].partition(_LF)
    words = re.split(rb"[ \t]+", line.strip(b" \t"), maxsplit=1)
    if b"\r" in line:
        end, fix = ("CR LF", r"s/\r$//") if newline and line.endswith(b"\r") else ("CR", r"s/\r/\n/g")
        what = f"its lines end in {end}, so its interpreter would be {_shown(line.strip(b' '))}"
        return Obstacle(what, f"sed -i '{fix}' {name}")
    if not newline and len(start) >= LINE_BYTES and len(words) == 1:
        what = f"its first line is longer than the {LINE_BYTES} bytes that the kernel reads"
        return Obstacle(what, f"make a link with a short path to the interpreter, and name that in {name}")
    return _interpreter(path, words)


def _interpreter(path: str, words: list[bytes]) -> Interpreter | Obstacle:
    if not words[0]:
        return Obstacle("its first line names no interpreter", f"add {_FIRST_LINES} to {shlex.quote(path)}")
    program = words[0].decode(errors="surrogateescape")
    odd = next((char for char in program if not char.isprintable()), "")
    if odd:
        what = f"its first line contains an invisible character, {describe_character(odd)}: {_shown(words[0])}"
        return Obstacle(what, f"replace that character in the first line of {shlex.quote(path)} by a space")
    if program.rpartition("/")[2] != "env" or len(words) == 1:
        return Interpreter(program)
    argument = words[1].decode(errors="surrogateescape").rstrip(" \t")
    if not argument.startswith("-"):
        # One argument, whatever it contains: without -S, `env python3 -u` looks for a program "python3 -u".
        return Interpreter(program, argument)
    option = re.fullmatch(r"(?:-S|--split-string[= ])\s*(.*)", argument)
    try:
        rest = shlex.split(option[1]) if option else []
    except ValueError:
        rest = []
    while rest and (_ASSIGNMENT.fullmatch(rest[0]) or rest[0] == "-i"):
        rest.pop(0)
    # Other options, and variables in braces, are left to env itself.
    return Interpreter(program, rest[0] if rest and not rest[0].startswith("-") and "$" not in rest[0] else "")


def _encoding_problem(start: bytes, name: str) -> Obstacle | None:
    if start.startswith(_UTF16):
        return Obstacle(
            "it is UTF-16 text", f"save {name} as UTF-8 without a byte order mark (iconv -f UTF-16 -t UTF-8)"
        )
    if start.startswith(_BOM):
        what = "it begins with a byte order mark (EF BB BF)"
        return Obstacle(what, f"sed -i '1s/^\\xef\\xbb\\xbf//' {name}")
    hidden = _HIDDEN_START.match(start)
    if hidden:
        before = hidden[0][:-2].decode(errors="surrogateescape")
        named = ", ".join(dict.fromkeys(map(describe_character, before[:5])))
        return Obstacle(f"there is white space before its #!: {named}", f"delete everything before #! in {name}")
    return None


def _shown(raw: bytes) -> str:
    return ascii(raw.decode(errors="surrogateescape"))
