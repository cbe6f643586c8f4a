"""Peers: permitted verbs, and which of two entries takes precedence."""

from __future__ import annotations

import pytest

from remaphore.protocol.peers import Peer, addressed, by_key, permits
from tests.harness.factories import make_key, make_peer


@pytest.mark.parametrize(
    ("verbs", "verb", "may"),
    [
        (("ping",), "ping", True),
        (("ping",), "deploy", False),
        (("ping",), "Ping", False),
        (("ping",), "", False),
        (("ping",), "*", False),
        (("pin*",), "ping", False),
        (("*",), "ping", True),
        (("*",), "", True),
        (("ping", "*"), "deploy", True),
        (("*",), "lock:deploy", True),
        (("lock:deploy",), "lock:deploy", True),
        (("lock:deploy",), "lock:other", False),
        (("lock:deploy",), "evict:deploy", False),
        (("lock:*",), "lock:deploy", True),
        (("lock:*",), "evict:deploy", False),
        (("lock:*",), "lock", False),
        (("lock:*",), "locks:deploy", False),
        (("evict:*",), "evict:deploy", True),
        (("lock:d*",), "lock:deploy", False),
        (("db:*",), "db:dump", False),
        ((":*",), ":x", False),
    ],
)
def test_a_verb_is_permitted_by_its_own_name_or_by_the_star(verbs: tuple[str, ...], verb: str, may: bool) -> None:
    assert permits(frozenset(verbs), verb) is may
    assert make_peer(1, "com.left", *verbs).may_send(verb) is may


def test_a_peer_without_verbs_may_send_nothing() -> None:
    mute = Peer(destination="com.left", key=make_key().public, verbs=frozenset())
    assert not mute.may_send("ping")
    assert not mute.may_send("")


def test_of_a_key_that_is_listed_twice_the_first_line_counts() -> None:
    first, second = make_peer(1, "com.left", "ping"), make_peer(1, "com.right", "*")
    assert by_key((first, second)) == {first.key: first}


def test_the_index_cannot_be_changed() -> None:
    index = by_key((make_peer(),))
    with pytest.raises(TypeError, match="does not support item assignment"):
        index["x"] = make_peer(2)  # type: ignore[index]


def test_the_addressed_are_those_whom_the_pattern_reaches_in_natural_order() -> None:
    one, two, ten = make_peer(1, "com.us.web1"), make_peer(2, "com.us.web2"), make_peer(3, "com.us.web10")
    assert addressed((ten, make_peer(4, "org.left"), two, one), "com.us.*") == (one, two, ten)


def test_both_keys_of_a_destination_are_addressed() -> None:
    old, new = make_peer(1, "com.left"), make_peer(2, "com.left")
    assert addressed((old, new), "**") == (old, new)
