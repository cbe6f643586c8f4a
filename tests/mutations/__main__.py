"""`python -m tests.mutations [NAME...]`: run all mutations, or those whose names begin with one of these."""

import sys

from tests.mutations.catalogue import mutations
from tests.mutations.runner import run

chosen = [each for each in mutations() if not sys.argv[1:] or each.name.startswith(tuple(sys.argv[1:]))]
sys.exit(bool(run(chosen, report=lambda line: print(line, flush=True))))  # noqa: T201 - the result of this command
