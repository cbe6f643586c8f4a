"""`python -m remaphore` is the command `remaphore`."""

import sys

from remaphore.cli.main import main

sys.exit(main())
