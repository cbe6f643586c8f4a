"""Run the command `remaphore` as `python -m remaphore`."""

from remaphore.cli.fast import command

command()
