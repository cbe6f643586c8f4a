"""Optional dependencies, which are installed as extras of remaphore: `operator`, `embedded`, `metrics`."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.util import find_spec


def install_hint(extra: str) -> str:
    """Return the command that adds *extra* to this installation: of pipx, of this Python's pip, or of uv.

    These commands do not look for remaphore in an index: they keep the one that is installed, from a wheel or a
    checkout, and fetch only what it lacks.
    """
    wanted = f"'remaphore[{extra}]'"
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):  # noqa: PTH110, PTH118 - no import of pathlib
        return f"pipx runpip {shlex.quote(os.path.basename(sys.prefix))} install {wanted}"  # noqa: PTH119
    python = shlex.quote(sys.executable)
    if find_spec("pip") is None:  # as in the environments of uv
        return f"uv pip install --python {python} {wanted}"
    return f"{python} -m pip install {wanted}"
