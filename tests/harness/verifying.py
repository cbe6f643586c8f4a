"""Callbacks for a `Verifier`."""

from __future__ import annotations

from collections.abc import Callable

from remaphore.receiving.batches import Arrival
from remaphore.receiving.verifier import Verified


def for_each(function: Callable[[Arrival, bool], object]) -> Callable[[Verified], None]:
    """Return a callback that calls *function* with each arrival, and whether its signature is valid."""

    def call(verified: Verified) -> None:
        for arrival, valid in verified:
            function(arrival, valid)

    return call
