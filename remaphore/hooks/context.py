"""The environment of a plugin, which `remaphore_startup` passes in addition to the daemon's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remaphore.config.settings import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginContext:
    """The environment of a plugin. config: the daemon's at its start. instance: the name given by `--instance`.

    invocation: a random number of this run of the daemon, 16 hexadecimal digits, as in the built-in reply to `ping`.
    """

    config: Config
    instance: str
    invocation: str
