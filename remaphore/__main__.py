"""Run the command `remaphore` as `python -m remaphore`."""

from remaphore.cli.main import command

command()
