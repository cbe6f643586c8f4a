"""pluggy's two markers for this project: `hookspec` for our specifications, `hookimpl` for a plugin's functions."""

import pluggy

PROJECT = "remaphore"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""The decorator of a plugin's functions: `@hookimpl` marks each that is named after a hook."""
