"""The two marks of pluggy for this project: `hookspec` on our specifications, `hookimpl` on a plugin's functions."""

import pluggy

PROJECT = "remaphore"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
