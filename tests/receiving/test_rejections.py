"""Every message that plugins were told of gets its rejection; a flood of others becomes one line with a count."""

import asyncio
from dataclasses import replace

from remaphore.receiving.rejections import BURST, Rejections
from remaphore.testing import make_message

MESSAGE = make_message("deploy", b"payload", sender_name="com.a")
OTHER = make_message("deploy", sender_name="com.b")


async def add(rejections, *messages, reason="busy", admitted):
    for message in messages:
        rejections.add(message, reason, "why", admitted=admitted)
    await asyncio.sleep(0)


def recorder():
    shown = []
    return shown, Rejections(lambda rejected, count: shown.append((rejected, count)))


async def test_each_message_that_was_queued_is_reported_and_without_its_payload():
    shown, rejections = recorder()
    await add(rejections, *[MESSAGE] * 5 * BURST, admitted=True)
    assert shown == [((replace(MESSAGE, payload=b""), "busy", "why"), 1)] * 5 * BURST
    rejections.close()
    assert len(shown) == 5 * BURST


async def test_a_flood_of_one_peer_is_counted_and_hides_neither_another_peer_nor_another_reason():
    shown, rejections = recorder()
    await add(rejections, *[MESSAGE] * 1000, admitted=False)
    assert [count for _, count in shown] == [1] * BURST
    await add(rejections, OTHER, admitted=False)
    await add(rejections, MESSAGE, reason="stopping", admitted=False)
    assert [(rejected.message.sender_name, rejected.reason) for rejected, _ in shown[BURST:]] == [
        ("com.b", "busy"),
        ("com.a", "stopping"),
    ]
    rejections.close()
    assert sum(count for _, count in shown) == 1002
    assert len(shown) == BURST + 3


async def test_nothing_is_reported_while_a_message_is_between_two_places():
    shown, rejections = recorder()
    rejections.add(MESSAGE, "expired", "why", admitted=True)
    assert shown == []
    await asyncio.sleep(0)
    assert len(shown) == 1
    rejections.close()
