"""A virtual environment without network: new and empty, but for the dependencies that the running one has."""

from __future__ import annotations

import atexit
import ensurepip
import functools
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")  # of pip
SECONDS = 120  # for any one command; nothing takes that long unless it is broken


class FreshVenv:
    """Has what is installed into it, and by a .pth file the directories that hold *distributions* of the running one.

    A directory that a .pth file names is searched for modules, but its own .pth files are not read: what is installed
    there in editable form, as remaphore is, cannot be imported here. Its `python -m pip` is the one that this version
    of Python brings.
    """

    def __init__(self, folder: Path, *distributions: str) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        wanted = {*_requirements("remaphore"), *distributions}
        places = sorted({str(importlib.metadata.distribution(name).locate_file("")) for name in wanted})
        (site,) = (folder / "lib").glob("python3*/site-packages")
        (site / "zz-running-environment.pth").write_text("\n".join([str(bundled_pip()), *places]) + "\n")

    def install(self, *words: str | Path) -> None:
        """Run `pip install` here, with the running environment's pip, and take nothing from an index."""
        _checked(sys.executable, "-m", "pip", "--python", self.python, "install", *OFFLINE, *words)

    def run(self, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, such as `python` or `remaphore`, to its end."""
        program, *arguments = words
        return _run(self.bin / program, *arguments, cwd=cwd)


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of the project in *source* into the new directory *folder*, and return its path."""
    (wheel,) = build_wheels(folder, source)
    return wheel


def build_wheels(folder: Path, *sources: Path) -> list[Path]:
    """Build the wheel of the project in each of *sources* into the new directory *folder*, and return their paths."""
    _checked(sys.executable, "-m", "pip", "wheel", *OFFLINE, "-w", folder, *sources)
    return [*folder.glob("*.whl")]


@functools.cache
def bundled_pip() -> Path:
    """Return a directory with the pip that a new environment of this Python begins with; `venv` takes longer."""
    (wheel,) = Path(ensurepip.__file__).with_name("_bundled").glob(f"pip-{ensurepip.version()}-*.whl")
    folder = tempfile.TemporaryDirectory(prefix="remaphore-pip-")
    atexit.register(folder.cleanup)
    zipfile.ZipFile(wheel).extractall(folder.name)
    return Path(folder.name)


def wheelhouse(folder: Path, *distributions: str) -> None:
    """Write a wheel of each of *distributions*, as installed here, and of all that they need, into *folder*."""
    seen: set[str] = set()
    todo = [*distributions]
    while todo:
        found = importlib.metadata.distribution(todo.pop())
        if found.name in seen:
            continue
        seen.add(found.name)
        needed = [Requirement(line) for line in found.requires or []]
        todo += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
        tag = re.findall(r"^Tag: (.*)$", found.read_text("WHEEL") or "", re.MULTILINE)[0]
        name = re.sub(r"[-_.]+", "_", found.name)
        with zipfile.ZipFile(folder / f"{name}-{found.version}-{tag}.whl", "w") as wheel:
            for file in found.files or []:
                if ".." not in file.parts and file.suffix != ".pyc" and file.name not in ("INSTALLER", "REQUESTED"):
                    wheel.write(file.locate(), str(file))


def clean_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what would lead Python elsewhere, with *changes*."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | changes


def _requirements(distribution: str) -> set[str]:
    listed = importlib.metadata.requires(distribution) or []
    return {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in listed if "extra ==" not in line}


def _checked(*words: str | Path) -> None:
    ran = _run(*words, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
