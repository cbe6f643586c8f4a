"""A virtual environment without network: new and empty, but for the dependencies that the running one has."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 120  # for any one command; nothing takes that long unless it is broken


class FreshVenv:
    """Has what is installed into it, and by a .pth file the directories that hold *distributions* of the running one.

    A directory that a .pth file names is searched for modules, but its own .pth files are not read: what is installed
    there in editable form, as remaphore is, cannot be imported here.
    """

    def __init__(self, folder: Path, *distributions: str) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        wanted = {*_requirements("remaphore"), *distributions}
        places = sorted({str(importlib.metadata.distribution(name).locate_file("")) for name in wanted})
        (site,) = (folder / "lib").glob("python3*/site-packages")
        (site / "zz-running-environment.pth").write_text("\n".join(places) + "\n")

    def install(self, *words: str | Path) -> None:
        """Run `pip install` here, with the running environment's pip, and take nothing from an index."""
        offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
        _checked(sys.executable, "-m", "pip", "--python", self.python, "install", *offline, *words)

    def run(self, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, such as `python` or `remaphore`, to its end."""
        program, *arguments = words
        return _run(self.bin / program, *arguments, cwd=cwd)


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of the project in *source* into the new directory *folder*, and return its path."""
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
    _checked(sys.executable, "-m", "pip", "wheel", *offline, "-w", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


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
