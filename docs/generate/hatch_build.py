"""Writes the man pages into the wheel, from the parsers of the source that it is built from."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = {".1": "share/man/man1", ".5": "share/man/man5"}


class ManPages(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook that pyproject.toml names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the pages and add them as shared data. An editable install has none."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="remaphore-man-")
        for name, text in _pages(self.root, self.metadata.version).items():
            page = Path(self._folder.name, name)
            page.write_text(text)
            build_data["shared_data"][str(page)] = f"{FOLDERS[page.suffix]}/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        """Remove them again."""
        if version != "editable":
            self._folder.cleanup()


def _pages(root: str, version: str) -> dict[str, str]:
    sys.path.insert(0, root)  # the build environment does not have this package
    try:
        from docs.generate import man

        return man.pages(version)
    finally:
        sys.path.remove(root)
