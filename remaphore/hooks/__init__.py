"""Hooks: what plugins may implement, how they are found and configured, how an event reaches each of them.

Here is what all plugins share, and what they get as arguments (`stats`, `context`, `plan`, `Outcome`); not a
network, not the reading of a configuration file, not the name of a bundled plugin. `specs` declares the hooks. pluggy
does discovery and validation; `dispatch` calls them, because an event must reach every plugin even if one raises, hangs
or cancels itself.
"""
