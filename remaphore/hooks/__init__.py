"""Hooks: what plugins may do, how they are found, how an event reaches each of them.

pluggy does discovery, validation and the marking of functions; `dispatch` calls them, because an event must reach every
plugin even if one raises, hangs or cancels itself. Nothing here knows a network, a configuration file or a bundled
plugin by name.
"""
