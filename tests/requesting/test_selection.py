"""The known destinations that several patterns address."""

import pytest

from remaphore.errors import NoReceiversError
from remaphore.requesting.selection import remaining, select
from tests.harness.factories import make_peer
from tests.harness.nodes import make_config

NAMES = ("com.web.10", "com.web.2", "com.web.1", "com.db.1", "com.odd[1]")
CONFIG = make_config(
    1,
    peers=(
        *(make_peer(number, name) for number, name in enumerate(NAMES, 2)),
        make_peer(30, "com.web.1"),  # a second key of it
        make_peer(2, "com.again"),  # the key of com.web.10
    ),
)


@pytest.mark.parametrize(
    ("patterns", "excluded", "expected"),
    [
        (["com.web.*"], [], "com.web.1 com.web.2 com.web.10"),
        (["com.web.10", "com.web.1", "com.web.1"], [], "com.web.1 com.web.10"),
        (["com.web.*", "com.**"], ["com.odd[1]"], "com.db.1 com.web.1 com.web.2 com.web.10"),
        (["**"], ["com.web.*", "com.odd[1]"], "com.db.1"),
        (["com.db.1"], ["com.web.1"], "com.db.1"),
        (["com.odd[1]"], [], "com.odd[1]"),
    ],
)
def test_each_destination_is_selected_once_in_natural_order(patterns, excluded, expected):
    assert select(CONFIG, patterns, excluded) == tuple(expected.split())


@pytest.mark.parametrize(
    ("patterns", "excluded", "message"),
    [
        (["com.web.1", "com.web.3"], [], "no peer in node1.toml matches 'com.web.3'; hint: did you mean 'com.web.2'"),
        (["com.web.3", "com.web.4"], [], "matches 'com.web.3' or 'com.web.4'"),
        ([f"x{number}" for number in range(9)], [], "matches 'x0', 'x1', 'x2', 'x3', 'x4' or 4 more"),
        (["**"], ["com.wbe.1"], "matches 'com.wbe.1'; hint: did you mean 'com.web.1'"),
        (["com.web.*"], ["com.web.**"], "all 3 destinations are excluded"),
        (["com.again"], [], "its key is listed earlier as com.web.10"),
        (["com.**.1", "**"], [], "matches 'com.**.1'; hint: 'com.*.1' matches com.db.1; * stands for text within one"),
    ],
)
def test_a_pattern_without_a_peer_is_an_error_that_names_it(patterns, excluded, message):
    with pytest.raises(NoReceiversError, match="no known receivers: ") as caught:
        select(CONFIG, patterns, excluded)
    assert message in f"{caught.value}; hint: {caught.value.hint}"


def test_of_a_document_the_destinations_that_are_known_remain():
    assert remaining(CONFIG, ["com.web.10", "com.db.1", "com.web.2"], ["com.db.*"], source="f") == (
        "com.web.2", "com.web.10"
    )  # fmt: skip
    assert remaining(CONFIG, ["com.gone", "com.db.1"], ["com.gone"], source="f") == ("com.db.1",)
    assert remaining(CONFIG, [], source="f") == ()
    with pytest.raises(NoReceiversError, match=r"has the destination 'com\.gone' of f") as caught:
        remaining(CONFIG, ["com.gone", "com.db.1"], source="f")
    assert "--except com.gone" in caught.value.hint
    with pytest.raises(NoReceiversError, match=r"matches 'com\.other'"):
        remaining(CONFIG, ["com.db.1"], ["com.other"], source="f")
