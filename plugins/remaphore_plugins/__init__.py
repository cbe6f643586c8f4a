"""The plugins that come with remaphore.

Each is written as a third party would write it: with only the public names of `remaphore`, registered by an entry point
in pyproject.toml, loaded through the same call. None depends on another.
"""
