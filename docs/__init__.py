"""Makes `docs.generate` importable from the repository, even if another package has a folder `docs`."""
