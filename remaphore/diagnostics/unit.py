"""The unit files of systemd that start a daemon of ours: whether what they name is there."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path

from remaphore.diagnostics.findings import Code, Finding, Level

# As systemd.unit(5) has them; a file in the first replaces one of its name in the others.
FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_PREFIXES = "@-:+!|"  # of a command line, systemd.service(5)
_TAKE_PATHS = ("-c", "--config", "--hooks")
_RELOAD = "systemctl daemon-reload"
_MAX_COMMAND = 8192  # characters; shlex copies a word with each of its characters, so a long one takes quadratic time


def check_units(root: Path = Path("/")) -> Iterator[Finding]:
    """Judge the unit files remaphore*.service below *root*, where the paths in them are looked for too."""
    units: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("remaphore*.service")):
            units.setdefault(path.name, path)
    for name, path in sorted(units.items()):
        if path.resolve() == Path("/dev/null"):
            yield Finding(
                Level.NOTE, Code.UNIT_MASKED, str(path), "masked: it cannot be started", f"systemctl unmask {name}"
            )
        else:
            yield from _check_unit(path, root)


def _check_unit(path: Path, root: Path) -> Iterator[Finding]:
    try:
        settings = _read(path, root)
    except OSError as error:
        what = f"it cannot be read ({error.strerror})"
        yield Finding(Level.ERROR, Code.UNIT_UNREADABLE, str(path), what, f"chmod a+r {shlex.quote(str(path))}")
        return
    except UnicodeDecodeError:
        yield Finding(Level.ERROR, Code.UNIT_UNREADABLE, str(path), "it is not UTF-8", "save it as UTF-8")
        return
    sound = True
    for command in settings.get("ExecStart", []) or [""]:
        for finding in _check_command(path, command, root):
            sound = False
            yield finding
    if settings.get("Type", [""])[-1:] != ["notify"]:
        sound = False
        what = "without Type=notify it counts as started before it receives, and a reload as done at once"
        yield Finding(Level.WARNING, Code.UNIT_TYPE, str(path), what, f"write Type=notify to [Service], then {_RELOAD}")
    if sound:
        yield Finding(Level.OK, Code.UNIT_OK, str(path), "what it names is there")


def _check_command(path: Path, command: str, root: Path) -> Iterator[Finding]:
    hint = f"correct ExecStart, then {_RELOAD}"
    if len(command) > _MAX_COMMAND:
        what = f"ExecStart has {len(command)} characters, and is read up to {_MAX_COMMAND}"
        yield Finding(Level.ERROR, Code.UNIT_PATH, str(path), what, hint)
        return
    try:
        words = shlex.split(command.lstrip(_PREFIXES))
    except ValueError as error:
        yield Finding(Level.ERROR, Code.UNIT_PATH, str(path), f"ExecStart cannot be read ({error})", hint)
        return
    if not words:
        yield Finding(Level.ERROR, Code.UNIT_PATH, str(path), "it has no ExecStart, so it starts nothing", hint)
        return
    named = [words[0], *(value for option, value in itertools.pairwise(words) if option in _TAKE_PATHS)]
    named += [word.partition("=")[2] for word in words if word.startswith(("--config=", "--hooks="))]
    for name in named:
        # What systemd fills in (%i) or looks up in its own path is not for us to tell.
        if name.startswith("/") and "%" not in name and not (root / name[1:]).exists():
            yield Finding(Level.ERROR, Code.UNIT_PATH, str(path), f"ExecStart names {name}, which is not there", hint)


def _read(path: Path, root: Path) -> dict[str, list[str]]:
    """Return the settings of a unit and its drop-ins, all of their values; an empty one takes back those before it."""
    folders = [root / folder / f"{path.name}.d" for folder in FOLDERS]
    drop_ins = {drop_in.name: drop_in for folder in reversed(folders) for drop_in in folder.glob("*.conf")}
    settings: dict[str, list[str]] = {}
    for file in (path, *(drop_ins[name] for name in sorted(drop_ins))):
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            key, separator, value = line.strip().partition("=")
            if separator and not key.startswith(("#", ";")):
                values = settings.setdefault(key.strip(), [])
                values.append(value.strip()) if value.strip() else values.clear()
    return settings
