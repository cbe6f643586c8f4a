"""So that `docs.generate` is this one, also where another package has a folder `docs`."""
