"""The plugins that come with remaphore.

Each is written as a third party would write it: with the public names of `remaphore` (docs/architecture.md has three
exceptions), registered by an entry point in pyproject.toml, loaded through the same call. None depends on another.
"""
