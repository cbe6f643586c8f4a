"""What a requester says about replies that it did not take: one number, or, with --verbose, every reason."""

import asyncio
import time

import pytest

from remaphore.protocol import subject, wire
from tests.harness.factories import make_encoded
from tests.harness.fleet import bus_of


async def asked(fleet, nodes, *words, replies, printed=""):
    """Run a request to node two, which is not there, and send it *replies*; return its exit code and stderr."""
    async with bus_of(fleet) as bus:
        seen = asyncio.Queue()
        await bus.subscribe("remaphore.all", seen.put_nowait)
        asking = fleet.start(*words, "-c", nodes["one"], ready=None)
        where = subject.for_replies("remaphore", wire.digest(await seen.get()))
        for reply in replies:
            await bus.publish(where, reply)
        code, out = await asyncio.to_thread(asking.finish)
    assert out == printed
    return code, asking.lines


@pytest.mark.parametrize(
    ("replies", "number"),
    [
        ([], None),
        ([b"one"], "1 reply was"),
        ([b"one", b"two"], "2 replies were"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [("request", "--to", "com.example.two", "--timeout", "1s"), ("-r", "-D", "com.example.two", "-t", "1s")],
)
async def test_without_verbose_dropped_replies_are_one_number(fleet, nodes, words, replies, number):
    code, lines = await asked(fleet, nodes, *words, "-u" if words[0] == "-r" else "--id", "x", replies=replies)
    summary = ["remaphore: 1 expected, 0 ok, 1 missing (id x)", "remaphore: silent: com.example.two"]
    if words[0] == "request" and number:  # which asks for receipts, too
        number = number.replace("reply", "reply or receipt").replace("replies", "replies or receipts")
    line = [f"remaphore: {number} dropped; --verbose shows why"] if number else []
    assert (code, lines) == (1, (summary if words[0] == "request" else []) + line)


async def test_with_verbose_each_dropped_reply_is_a_line_with_its_reason(fleet, nodes):
    words = ("request", "--verbose", "--to", "com.example.two", "--timeout", "1s")
    code, lines = await asked(fleet, nodes, *words, replies=[b"one", b"two"])
    assert code == 1
    assert len([line for line in lines if "message_dropped reason=malformed" in line]) == 2
    assert not [line for line in lines if "--verbose shows why" in line]


async def test_with_verbose_an_accepted_reply_that_names_no_request_is_marked(fleet):
    config = fleet.config("one", peers=["two"], extra='compatibility = "legacy"\n')
    unbound = make_encoded(2, destination="", verb="reply", uuid=b"random", payload=b"0,ok", time_ns=time.time_ns())
    words = ("request", "--verbose", "--to", "com.example.two", "--timeout", "20s")
    code, lines = await asked(fleet, {"one": config}, *words, replies=[unbound], printed="com.example.two,0,ok\n")
    assert code == 0
    assert [
        line for line in lines if "reply_received" in line and "peer=com.example.two" in line and "bound=False" in line
    ]


async def test_a_peer_that_replies_again_is_a_hint_to_look_for_a_second_machine(fleet):
    config = fleet.config("one", peers=["three", "two"], extra='compatibility = "legacy"\n')
    twice = [
        make_encoded(2, destination="", verb="reply", uuid=b"random", payload=b"0,ok", time_ns=time.time_ns() + number)
        for number in range(2)
    ]
    words = ("request", "--to", "**", "--timeout", "1s", "--id", "x")
    code, lines = await asked(fleet, {"one": config}, *words, replies=twice, printed="com.example.two,0,ok\n")
    assert code == 4
    assert lines[-2:] == [
        "remaphore: 1 reply or receipt was dropped; --verbose shows why",
        "remaphore: hint: a peer replied again; remaphore doctor reports whether several machines have its key",
    ]
