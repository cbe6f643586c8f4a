"""What the tests that type commands share; the fixtures are in conftest.py."""

from remaphore.config import peer_line
from tests.harness.factories import make_key

RIGHT = peer_line.write(destination="com.right", key=make_key(2).public)


def rejected(done, *parts, code=2):
    assert (done[0], done[1]) == (code, "")
    assert [line.split(": ")[1] for line in done[2].splitlines()] in (["error"], ["error", "hint"])
    for part in parts:
        assert part in done[2]
