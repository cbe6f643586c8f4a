"""An agent that is killed or stopped, and a broker that is away: what a client is told is true."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from remaphore.agent import frames
from tests.harness.agent import ROOT_RULE, Client, as_root, call, listening, start_agent
from tests.harness.fleet import DESTINATIONS, running_fleet
from tests.harness.processes import SECONDS

pytestmark = [as_root, pytest.mark.xdist_group("agent restarts")]
TWO = DESTINATIONS["two"]
THREADS = 4


@pytest.fixture
def agent(fleet):
    with listening() as (path, listener):
        config = fleet.config("one", extra=ROOT_RULE)

        def start(**options):
            process = start_agent(fleet, config, listener, **options)
            process.path = path
            return process

        yield start


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_of_the_sends_that_exited_0_none_is_missing_at_the_broker(agent, fleet, kills):
    """A receiver logs the id of each message. Those that clients were told are sent are among them."""
    sent, stop, numbers = [], threading.Event(), iter(range(10**9))
    two = fleet.config("two")
    sniffer = fleet.start("receive", "-c", two, "--any-destination", "--verb", "count", "--verbose")
    process = agent()

    def send():
        while not stop.is_set():
            number = next(numbers)
            try:
                end = call(process.path, b"%d" % number, op="send", verb="count", to=TWO, id=str(number))
            except (AssertionError, OSError):  # no end: it may or may not have been sent
                continue
            if end["exit"] == 0:
                sent.append(number)

    threads = [threading.Thread(target=send) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(kills):
            goal = len(sent) + 5 + turn % 7
            deadline = time.monotonic() + SECONDS
            while len(sent) < goal:
                assert time.monotonic() < deadline, process.lines[-3:]
                time.sleep(0.001)
            process.popen.send_signal(signal.SIGKILL)
            process.popen.wait()
            process = agent(ready=None)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    last = call(process.path, b"last", op="send", verb="count", to=TWO, id="last")
    assert last["exit"] == 0
    sniffer.wait_for("id=last")
    seen = {word.removeprefix("id=") for line in sniffer.lines for word in line.split() if word.startswith("id=")}
    assert len(sent) >= 5 * kills
    assert {str(number) for number in sent} - seen == set()


def test_without_a_broker_a_send_fails_in_its_time_and_clients_are_told_when_it_is_back(tmp_path):
    with running_fleet(tmp_path / "own") as fleet, listening() as (path, listener):
        broker = fleet.processes[0]
        start_agent(fleet, fleet.config("one", extra=ROOT_RULE), listener)
        with Client(path, op="receive") as receiver:
            receiver.until(frames.READY)
            broker.stop()
            assert receiver.until(frames.NOTICE)
            end = call(path, op="send", verb="a", to=TWO, timeout=0.2)
            assert (end["exit"], end["kind"]) == (3, "BrokerUnavailableError")
            assert "message not sent" in end["error"]
            assert call(path, op="whoami")["connected"] is False


def test_it_ends_its_operations_with_a_sentence_and_leaves_the_socket_to_systemd(agent):
    process = agent()
    with Client(process.path, op="receive") as receiver:
        receiver.until(frames.READY)
        assert process.popen.poll() is None
        process.popen.send_signal(signal.SIGTERM)
        end = receiver.end()
        assert (end["exit"], end["kind"]) == (3, "stopping")
    assert process.finish()[0] == 0
    assert Path(process.path).exists()
    with Client(process.path, op="whoami") as waiting:  # accepted by the next agent
        agent()
        assert waiting.end()["exit"] == 0
