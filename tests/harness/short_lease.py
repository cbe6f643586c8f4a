"""`remaphore`, whose leases may be shorter than users may choose: `python -m tests.harness.short_lease WORD...`."""

from remaphore.cli import holding, main

holding.MIN_TTL = 1.0
holding.ANNOUNCE_AFTER = 0.0

if __name__ == "__main__":
    main.command()
