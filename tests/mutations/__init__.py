"""Mutations of the code, at least one a promise, and the named test that must turn red for each.

docs/reliability.md and docs/security.md name a test for each promise. Here each promise is broken on purpose: a check
is deleted, a comparison flipped, a limit dropped. If the test stays green, it does not guard the promise.

`python -m tests.mutations` runs all of them, `python -m tests.mutations NAME...` those whose names begin so.
"""
