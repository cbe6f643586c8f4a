"""Names in short: `com.db.[1-3]`, as ClusterShell folds them, for those who have it (the extra `operator`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec

MISSING_EXTRA = "--fold needs ClusterShell to fold names; pip install 'remaphore[operator]', or use --jsonl"
MANY = 8  # names; fewer are read as fast one by one

# Other characters are operators and ranges for a NodeSet, and a destination may hold them: such a name stands alone.
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")


def available() -> bool:
    """Tell whether ClusterShell is installed, without importing it."""
    return find_spec("ClusterShell") is not None


def fold(names: Sequence[str]) -> str:
    """Return *names* folded, with commas between what remains. Raises ImportError without ClusterShell."""
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet  # without groups: no file of the system is read

    plain = [name for name in names if _PLAIN.fullmatch(name)]
    folded = NodeSet.fromlist(plain, resolver=RESOLVER_NOGROUP)
    return ",".join([str(folded)] * bool(plain) + sorted(set(names) - set(plain)))


def listed(names: Sequence[str]) -> str:
    """Return all of *names*, folded if they are many and can be."""
    return fold(names) if len(names) > MANY and available() else ", ".join(names)
