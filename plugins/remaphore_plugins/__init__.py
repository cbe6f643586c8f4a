"""The plugins that come with remaphore.

Each is written as a third party would write it: against the names of `remaphore` alone, registered by an entry point in
pyproject.toml, loaded through the same call. None knows of another.
"""
