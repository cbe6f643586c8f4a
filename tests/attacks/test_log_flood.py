"""Filling the disk, or the screen, by what is logged about dropped messages and replies.

Attacker: every outsider, with any number of messages; a permitted peer, with long verbs. What must happen: a flood of
drops is one line for each reason, then one each 15 seconds with their number, and no line is long. On the side that
asks it is one number at the end. Accepted messages have a line each: permitted senders are trusted with that.
"""

import logging

import structlog

from remaphore import logs
from remaphore.protocol.drop import DropReason
from remaphore_plugins.log import Log
from tests.harness.factories import NOW, SKEW, make_encoded, make_encoded_reply, make_message, make_request

FLOOD = 3_000


def one_of_each(number):
    accepted = make_encoded(1, payload=b"first")
    return (
        b"garbage %d" % number,
        make_encoded(9, time_ns=NOW + number),
        make_encoded(1, time_ns=NOW + SKEW + 1 + number),
        make_encoded(1, destination=f"com.x{number}"),
        make_encoded(1, time_ns=NOW + number)[:-1] + b"x,",
        make_encoded_reply(1, make_request(2, time_ns=NOW + number)),
        accepted,
    )


async def test_a_flood_of_rejections_of_every_kind_is_a_line_for_each_kind(target):
    async with target() as daemon:
        for number in range(FLOOD // 7):
            await daemon.hit(*one_of_each(number))
        told = [drop.reason for drop in daemon.dropped]
        assert len(told) == len(set(told))
        assert set(told) >= {
            DropReason.MALFORMED,
            DropReason.UNKNOWN_SENDER,
            DropReason.OUTSIDE_WINDOW,
            DropReason.NOT_ADDRESSED,
        }
        assert sum(daemon.status.dropped.values()) > FLOOD // 2
    # What was held back is reported at the end, in numbers: nothing was lost.
    assert sum(drop.count for drop in daemon.dropped) > FLOOD // 2


def test_no_value_of_a_line_is_longer_than_the_limit(capsys):
    for form in ("console", "json"):
        logs.configure(form, level=logging.DEBUG)
        log = structlog.get_logger()
        log.info("event", verb="v" * 1_000_000, peer="com.a")
        logs.EventLogger(log, "event", "verb", "peer")("v" * 1_000_000, "com.a")
        for line in capsys.readouterr().err.splitlines():
            assert len(line) < logs.MAX_VALUE + 300
            assert "1000000 characters" in line
            assert "com.a" in line


def test_of_a_long_traceback_the_end_is_kept(capsys):
    logs.configure("console")
    try:
        raise ValueError("x" * 1_000_000 + " the end")
    except ValueError:
        logging.getLogger("plugin").exception("it failed")
    shown = capsys.readouterr().err
    assert len(shown) < logs.MAX_TRACEBACK + 500
    assert shown.endswith("the end\n")


def test_the_longest_verb_that_can_arrive_is_shown_whole(capsys):
    logs.configure("console")
    Log().remaphore_admitted(make_message(verb="v" * 256))
    assert "verb=" + "v" * 256 + " " in capsys.readouterr().err
