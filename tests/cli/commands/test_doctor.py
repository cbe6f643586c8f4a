"""The options of `doctor`."""

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.doctor import Doctor


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("doctor", Doctor(timeout=5.0)),
        ("doctor -c f --to com.** --timeout 1m --json", Doctor(config="f", to=("com.**",), timeout=60.0, json=True)),
        ("doctor --to com.web.[1-3] --to com.db", Doctor(to=("com.web.[1-3]", "com.db"))),
    ],
)
def test_the_options_are_read(typed, options):
    assert arguments.read(typed.split()) == options
