"""A pattern whose prefix or suffix is longer than a segment, `longprefix*.x`.

Attacker: a permitted peer, with one message; it crashes every receiver of the Go program. What must happen: no match,
no crash, and the next message is accepted.
"""

import pytest

from remaphore.protocol.drop import DropReason
from remaphore.protocol.match import matches
from tests.harness.factories import OWN, make_encoded, make_gate

PATTERNS = [
    "longprefix*.x",
    "longprefix*",
    "*longsuffix",
    "com*com",
    "com.*longsuffix",
    "com.crypto.us.leftleft*",
    "com.crypto.us.*leftleft",
    "com.crypto.us.le*ft*",
    "com.crypto.us.left.longprefix*.**",
    "*" * 1000,
    "." * 100,
    "**.**",
    "com.**.left",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_longer_than_the_name_is_no_match_and_no_crash(pattern):
    assert not matches(OWN, pattern)
    assert not matches("com", pattern)
    dropped = make_gate().admit(make_encoded(destination=pattern), 1_700_000_000 * 10**9)
    assert dropped.reason is DropReason.NOT_ADDRESSED


async def test_the_daemon_accepts_the_next_message_after_all_of_them(target):
    async with target() as daemon:
        await daemon.hit(*(make_encoded(destination=pattern, payload=b"evil") for pattern in PATTERNS))
        assert daemon.status.dropped == {DropReason.NOT_ADDRESSED: len(PATTERNS)}
        await daemon.hit(make_encoded(destination="com.two", payload=b"good"))
        assert daemon.ran == [("ping", b"good")]
