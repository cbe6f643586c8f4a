"""The description of the flags, for the manual and completion, is that of the flags that are read."""

from remaphore.cli.legacy import description, flags


def test_every_flag_is_described_and_no_other():
    assert set(description.TEXTS) == set(flags.FLAGS)
