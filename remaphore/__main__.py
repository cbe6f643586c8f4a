"""`python -m remaphore` is the command `remaphore`."""

from remaphore.cli.main import command

command()
