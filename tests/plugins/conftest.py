"""A third party's plugin is tried as a user would: with the fleet of the end-to-end tests."""

from tests.e2e.conftest import fleet

__all__ = ["fleet"]
