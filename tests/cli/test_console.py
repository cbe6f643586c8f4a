"""What commands share before and beside their work."""

import gc

from remaphore.cli import console


def test_a_command_that_stays_collects_what_comes_and_leaves_alone_what_was_loaded():
    gc.disable()
    try:
        console.settle_in()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        gc.enable()
