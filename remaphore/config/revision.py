"""An edit of a configuration: its files are read, changed in memory, read again, compared, and only then replaced.

The comparison guards against a mistake of ours or of tomlkit's: an edit changes what it is to change, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from remaphore.config import files, search, secrets, toml
from remaphore.config.settings import Config
from remaphore.errors import ConfigError

_MODE = 0o644  # a node's peers are not secret


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a configuration: the name of the main file, and the text of each file by its name."""

    main: str
    by_name: Mapping[str, str]

    def config(self) -> Config:
        """Return the configuration that they make. Raise ConfigError."""
        others = sorted(item for item in self.by_name.items() if item[0] != self.main)
        return toml.parse(self.by_name[self.main], self.main, folder(self.main), drop_ins=others)

    def changed(self, name: str, text: str) -> Texts:
        """Return these texts with *text* for the file *name*."""
        return Texts(self.main, {**self.by_name, name: text})


def folder(path: str) -> Path:
    """Return the directory of the configuration *path*, which its relative names are relative to."""
    return Path(path).absolute().parent


def check_format(path: str) -> None:
    """Raise ConfigError if the configuration *path* is a legacy .conf, which is never edited."""
    if not path.endswith(".toml"):
        hint = f"convert it to TOML: remaphore config convert {shlex.quote(path)}"
        raise ConfigError(f"{path}: a legacy .conf file cannot be edited", hint=hint)


@contextlib.contextmanager
def editing(path: str) -> Iterator[Texts]:
    """Read the configuration *path*, and keep other remaphores from editing it meanwhile. Raise ConfigError."""
    check_format(path)
    # Whoever names it by a link has the lock of the same directory.
    with files.locked(Path(os.path.realpath(path)).parent):
        raw, _ = secrets.read_file(path, what="configuration")
        # Who else could have changed them does not matter to an edit: `check` reports it, `run` refuses to start.
        drop_ins = search.drop_ins(folder(path), warn=lambda _problem: None)
        yield Texts(path, {path: search.utf8(raw, path), **dict(drop_ins)})


def write(before: Texts, after: Texts, *, expected: Config) -> tuple[str, ...]:
    """Write the files that differ, and return their names. *expected*: the configuration that *after* must make.

    What root creates in the directory of another user belongs to that user. Raise ConfigError.
    """
    if _comparable(after.config()) != _comparable(expected):
        hint = "nothing was changed: edit the file by hand"
        raise ConfigError(f"{before.main}: the edit would change more than it should", hint=hint)
    changed = [name for name in after.by_name if after.by_name[name] != before.by_name.get(name)]
    gone = [name for name in before.by_name if name not in after.by_name]
    created = [Path(name) for name in changed if name not in before.by_name]
    for place in {path.parent for path in created}:
        files.make_folder(place, like=folder(before.main))
    files.create_all(
        [files.NewFile(path=path, text=after.by_name[str(path)], mode=_MODE, like=path.parent) for path in created]
    )
    for name in changed:
        if name in before.by_name:
            files.replace(Path(name), after.by_name[name])
    for name in gone:
        files.delete(Path(name))
    return (*changed, *gone)


def _comparable(config: Config) -> tuple[object, ...]:
    """Return what must be equal: all but the order of peers and identities, and the warnings."""
    rest = replace(config, peers=(), identities=(), warnings=(), unsafe=())
    return rest, Counter(config.peers), Counter(config.identities)
