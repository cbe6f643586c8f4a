"""The running parts: sender, requester, receiver, the embedded broker, and the Python API on top of them.

Here the pure protocol meets the bus, the plugins and the clock. Nothing here reads a command line, writes to stdout or
decides an exit code, and no bundled plugin is known by name.
"""
