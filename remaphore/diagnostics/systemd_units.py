"""The systemd unit files that start our daemon: whether what they name exists."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path

from remaphore.diagnostics.findings import Code, Finding, Level

# In the order of systemd.unit(5): a file in the first replaces those of the same name in the others.
DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_PREFIXES = "@-:+!|"  # of a command line, systemd.service(5)
_PATH_OPTIONS = ("-c", "--config", "--hooks", "--tls-cert", "--tls-key", "--tls-ca")
_RELOAD = "systemctl daemon-reload"
_MAX_COMMAND = 8192  # characters; shlex copies a word for each of its characters, so a long one takes quadratic time


def check_units(root: Path) -> Iterator[Finding]:
    """Yield the findings about the unit files remaphore*.service below *root*; paths in them are relative to it too."""
    for name, path in sorted(find_units(root).items()):
        if path.resolve() == Path("/dev/null"):
            what = "masked: systemd does not start it"
            yield Finding(Level.NOTE, Code.UNIT_MASKED, str(path), what, f"systemctl unmask {name}")
        else:
            yield from check_unit(path, root)


def find_units(root: Path) -> dict[str, Path]:
    """Return the unit files remaphore*.service below *root* that are in effect, by name."""
    units: dict[str, Path] = {}
    for directory in DIRECTORIES:
        for path in sorted((root / directory).glob("remaphore*.service")):
            units.setdefault(path.name, path)
    return units


def check_unit(path: Path, root: Path) -> Iterator[Finding]:
    """Yield the problems of one unit file and its drop-ins, or that it has none."""
    try:
        settings = read_unit(path, root)
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        yield Finding(Level.ERROR, Code.UNIT_UNREADABLE, str(path), what, f"chmod a+r {shlex.quote(str(path))}")
        return
    except UnicodeDecodeError:
        yield Finding(Level.ERROR, Code.UNIT_UNREADABLE, str(path), "not UTF-8", "save it as UTF-8")
        return
    problems = [
        Finding(Level.ERROR, Code.UNIT_COMMAND, str(path), problem, f"correct ExecStart, then {_RELOAD}")
        for command in settings.get("ExecStart", []) or [""]
        for problem in command_problems(command, root)
    ]
    if settings.get("Type", [""])[-1:] != ["notify"]:
        what = "no Type=notify: systemd considers it started even if it fails, and a reload complete at once"
        hint = f"write Type=notify to [Service], then {_RELOAD}"
        problems.append(Finding(Level.WARNING, Code.UNIT_TYPE, str(path), what, hint))
    yield from problems or [Finding(Level.OK, Code.UNIT_OK, str(path), "everything that it names exists")]


def command_problems(command: str, root: Path) -> Iterator[str]:
    """Yield the problems of the value of an ExecStart."""
    if len(command) > _MAX_COMMAND:
        yield f"ExecStart has {len(command)} characters, the limit of this check is {_MAX_COMMAND}"
        return
    try:
        words = shlex.split(command.lstrip(_PREFIXES))
    except ValueError as error:
        yield f"ExecStart cannot be parsed: {error}"
        return
    if not words:
        yield "no ExecStart: it starts nothing"
        return
    named = [words[0], *(value for option, value in itertools.pairwise(words) if option in _PATH_OPTIONS)]
    named += [word.partition("=")[2] for word in words if word.startswith(tuple(f"{each}=" for each in _PATH_OPTIONS))]
    for name in named:
        # What systemd substitutes (%i) or searches in its own path cannot be checked here.
        if name.startswith("/") and "%" not in name and _is_missing(root / name[1:]):
            yield f"ExecStart names {name}, which does not exist"


def _is_missing(path: Path) -> bool:
    """Return whether *path* does not exist; False if we may not look."""
    try:
        return not path.exists()
    except OSError:
        return False


def read_unit(path: Path, root: Path) -> dict[str, list[str]]:
    """Return all values of each setting of a unit and its drop-ins; an empty value resets those before it.

    Raise OSError, UnicodeDecodeError.
    """
    directories = [root / directory / f"{path.name}.d" for directory in DIRECTORIES]
    drop_ins = {drop_in.name: drop_in for directory in reversed(directories) for drop_in in directory.glob("*.conf")}
    settings: dict[str, list[str]] = {}
    for file in (path, *(drop_ins[name] for name in sorted(drop_ins))):
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            key, separator, value = line.strip().partition("=")
            if separator and not key.startswith(("#", ";")):
                values = settings.setdefault(key.strip(), [])
                values.append(value.strip()) if value.strip() else values.clear()
    return settings
