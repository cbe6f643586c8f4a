"""A third-party plugin is tested as a user would use it: with the fleet of the end-to-end tests."""

from tests.e2e.conftest import fleet

__all__ = ["fleet"]
