"""The metrics of the agent, fetched as Prometheus does."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from remaphore.agent import metrics
from remaphore.agent.metrics import MAX_SCRAPES, OperationCounts, served
from tests.harness.agent import ROOT_RULE, Client, as_root, call, call_as, listening, start_agent
from tests.harness.fleet import DESTINATIONS
from tests.harness.metrics import fetch, scrape

GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


@as_root
def test_a_scrape_has_what_clients_did_and_what_they_hold_and_no_name(fleet):
    rules = f'[agent]\nmetrics = "127.0.0.1:0"\n{ROOT_RULE}\n[[agent.allow]]\nuser = "no-such-user"\n'
    config = fleet.config("one", extra=f'{rules}do = ["send"]\nverbs = ["a"]\nto = ["**"]\n')
    with listening() as (path, listener):
        agent = start_agent(fleet, config, listener)
        url = json.loads(agent.wait_for("metrics_served"))["url"]
        assert scrape(url)["remaphore_agent_operations_total", "send", "ok"] == 0
        for _ in range(3):
            assert (
                call(path, b"secret-of-a-test", op="send", verb="verb-of-a-test", to=DESTINATIONS["two"])["exit"] == 0
            )
        assert call(path, op="receive", timeout=0.01)["exit"] == 1
        assert call_as(path, 12345, b"", op="send", verb="a")["kind"] == "refused"
        with Client(path) as client:
            client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.end()["kind"] == "protocol"
        with Client(path, op="receive") as open_one:
            open_one.next()
            series = scrape(url)
        expected = {("send", "ok"): 3, ("receive", "nothing"): 1, ("send", "refused"): 1, ("unknown", "protocol"): 1}
        for labels, number in expected.items():
            assert series["remaphore_agent_operations_total", *labels] == number
        gauges = ("agent_connections", "agent_rules", "agent_rules_ignored", "connected", "reconnects_total")
        assert [series[f"remaphore_{name}",] for name in gauges] == [1, 1, 1, 1, 0]
        assert "of-a-test" not in fetch(url)
        fleet.config("one", extra=ROOT_RULE)
        agent.popen.send_signal(1)
        assert json.loads(agent.wait_for("restart_needed"))["setting"] == "agent.metrics"


async def exchange(port, raw):
    """Return what the server answers to *raw* until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@asynccontextmanager
async def serving():
    """Serve a metric, and yield the port."""
    with capture_logs() as lines:
        async with served("127.0.0.1:0", lambda: b"a 1\n"):
            yield urlsplit(lines[-1]["url"]).port


@pytest.mark.parametrize(
    ("raw", "first"),
    [
        (GET, b"HTTP/1.0 200 OK"),
        (b"HEAD / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK"),
        (b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.0 405 Method Not Allowed"),
        (b"x" * 40_000, b""),
        (b"GET / HTTP", b""),
    ],
    ids=["get", "head", "post", "long", "half"],
)
async def test_each_connection_ends_soon_and_a_number_of_silent_ones_costs_no_more(raw, first, monkeypatch):
    monkeypatch.setattr(metrics, "SCRAPE_SECONDS", 0.05)
    async with serving() as port:
        answer = await exchange(port, raw)
    assert answer.partition(b"\r\n")[0] == first
    assert answer.endswith(b"a 1\n") == (raw == GET)


async def test_more_connections_than_fit_are_closed_at_once():
    async with serving() as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_SCRAPES)]
        assert await exchange(port, GET) == b""
        for _, writer in silent:
            writer.close()
        await wait_until_served(port)


async def wait_until_served(port):
    async with asyncio.timeout(10):
        while not await exchange(port, GET):
            await asyncio.sleep(0.01)


async def test_an_address_in_use_is_logged_and_the_agent_works():
    with socket.create_server(("127.0.0.1", 0)) as other, capture_logs() as lines:
        async with served(f"127.0.0.1:{other.getsockname()[1]}", lambda: b""):
            (line,) = lines
    assert (line["event"], line["log_level"]) == ("metrics_failed", "error")
    assert "another address in [agent] metrics" in line["hint"]


def test_an_operation_is_counted_by_its_exit_code_or_the_kind_of_its_error():
    counts = OperationCounts()
    for exit_code, kind in ((0, ""), (1, ""), (2, "usage"), (3, "overflow")):
        counts.add("request", exit_code, kind)
    samples = counts.samples()
    assert [
        samples[f'{{operation="request",result="{result}"}}'] for result in ("ok", "nothing", "usage", "overflow")
    ] == [1] * 4
    assert counts.total == 4
