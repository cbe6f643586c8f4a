"""Where a plugin runs: what `remaphore_startup` hands it beside the daemon's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remaphore.config.settings import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginContext:
    """The surroundings of a plugin. config: the daemon's at its start. instance: the name given by `--instance`."""

    config: Config
    instance: str
