"""Receipts of real daemons: a request tells the node that is still running from the one that is silent."""

import asyncio
import json
import re
import signal
import sys
import time
from asyncio.subprocess import DEVNULL
from contextlib import contextmanager

import pytest

import remaphore
from remaphore.protocol import wire
from remaphore.protocol.message import reply_uuid
from tests.harness.fake_server import fake_server
from tests.harness.fleet import bus_of, running_fleet
from tests.harness.terminal import Terminal
from tests.harness.waiting import until

# The daemons take seconds to start: the tests share them, in one process.
pytestmark = pytest.mark.xdist_group("receipts")

NAMES = ("one", "two", "three")
QUICK, SLOW, STOPPED = "com.example.one", "com.example.two", "org.example.three"


def write_handler(folder, verb, text=""):
    (folder / verb).mkdir(parents=True)
    (folder / verb / "run").write_text(f"#!/bin/sh\n{text}\n")
    (folder / verb / "run").chmod(0o700)


@contextmanager
def running_site(folder, broker):
    """Three daemons: the first replies at once, the second when it is released, the third is stopped by SIGSTOP."""
    with running_fleet(folder, like=broker) as fleet:
        write_handler(folder / "one", "work")
        write_handler(folder / "two", "work", f"while [ ! -e {folder}/released ]; do sleep 0.05; done")
        (folder / "three").mkdir()
        for name in NAMES:
            config = fleet.config(name, peers=NAMES, extra="[verbs.work]\nconcurrency = 10\n")
            config.write_text(f'state_dir = "{folder}/state-{name}"\n' + config.read_text())
        daemons = [
            fleet.start("run", "-c", folder / f"{name}.toml", "--hooks", folder / name, ready=None) for name in NAMES
        ]
        for daemon in daemons:
            daemon.wait_for("ready")
        daemons[2].popen.send_signal(signal.SIGSTOP)
        try:
            yield fleet
        finally:
            (folder / "released").touch()
            daemons[2].popen.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def site(tmp_path_factory, broker_of_all):
    with running_site(tmp_path_factory.mktemp("site"), broker_of_all) as fleet:
        yield fleet


def request(site, *words):
    return ("request", "-c", site.folder / "one.toml", "--verb", "work", "--timeout", "0", "--id", "x", *words)


LINES = [
    "remaphore: interrupted: 3 expected, 1 ok, 2 missing (id x)",
    f"remaphore: still running: {SLOW}",
    f"remaphore: silent: {STOPPED}",
]


def test_whatever_ends_a_request_its_summary_tells_what_runs_from_what_is_silent(site):
    lines = site.start(*request(site, "--jsonl"), ready=None)
    saved = site.start(*request(site, "--verbose", "--fold", "--save", site.folder / "saved.json"), ready=None)
    with Terminal(*request(site), columns=200, NO_COLOR="1") as screen:
        screen.wait_for(f"1/3 answered, still running: {SLOW}, silent: {STOPPED}")
        records = []
        while {record["kind"] for record in records} != {"request", "reply", "receipt"}:
            records.append(json.loads(lines.popen.stdout.readline()))
        assert [each["peer"] for each in records if each["kind"] == "receipt"] == [SLOW]
        assert f"peer={SLOW}" in saved.wait_for("receipt_received")
        saved.popen.send_signal(signal.SIGHUP)
        code, rest = lines.stop(signal.SIGTERM)
        screen.process.send_signal(signal.SIGINT)
        assert (screen.finish(), code) == (130, 143)
    assert screen.text.splitlines() == [f"{QUICK},0,", *LINES]
    assert lines.lines == LINES
    *missing, summary = map(json.loads, rest.splitlines())
    assert [(each["peer"], each["running"]) for each in missing] == [(SLOW, True), (STOPPED, False)]
    kinds = {kind: summary[kind] for kind in ("ok", "missing", "running", "silent")}
    assert kinds == {"ok": [QUICK], "missing": [SLOW, STOPPED], "running": [SLOW], "silent": [STOPPED]}
    code, folded = saved.finish()
    assert (code, [line for line in saved.lines if line.startswith("remaphore: ")]) == (129, LINES)
    assert folded.splitlines() == [
        f"{QUICK} (1): exit code 0",
        f"{SLOW} (1): still running",
        f"{STOPPED} (1): silent",
    ]
    again = site.run(*request(site, "--retry", site.folder / "saved.json", "--dry-run"))
    assert again.stdout.splitlines()[:2] == [f"ask   {SLOW}", f"ask   {STOPPED}"]


async def test_only_a_request_with_a_summary_subscribes_to_receipts_and_to_the_replies_first(fleet):
    async def subscribed(*words):
        async with fake_server() as server:
            config = fleet.config("one", server=server.url)
            command = (sys.executable, "-m", "remaphore", *words, "-c", config)
            process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
            await until(lambda: any(line.startswith("PUB ") for line in server.lines))
            process.terminate()
            await process.wait()
        return [re.sub(r"[0-9a-f]{64}", "HASH", line.split()[1]) for line in server.lines if line.startswith("SUB ")]

    both = ["remaphore.HASH", "remaphore.HASH.receipt"]
    assert await subscribed("request", "--timeout", "0") == both
    assert await subscribed("-r", "-t", "0") == both[:1]


@pytest.mark.parametrize("number", [30, pytest.param(1_000, marks=pytest.mark.long)])
async def test_quick_requests_cause_no_receipt(site, number):
    seen, quick, seconds = [], set(), []
    async with bus_of(site) as observer, remaphore.connect(site.folder / "one.toml") as node:
        await observer.subscribe("remaphore.*.receipt", seen.append)
        together = asyncio.Semaphore(20)

        async def ask():
            async with together, node.request("work", to=QUICK, timeout=60) as asked:
                started = time.monotonic()
                quick.add(reply_uuid(asked.message.digest))
                assert [reply.exit_code async for reply in asked] == [0]
                seconds.append(time.monotonic() - started)

        await asyncio.gather(*(ask() for _ in range(number)))
        async with node.request("work", to=SLOW, timeout=60) as asked:
            # Its receipt arrives after all that the earlier requests could have caused.
            async for event in asked.events():
                assert isinstance(event, remaphore.Receipt)
                assert asked.running == (SLOW,)
                break
        last = reply_uuid(asked.message.digest)
        await until(lambda: any(wire.decode(raw).uuid == last for raw in seen))  # the observer has its own connection
    # On a machine that is so busy that a request takes more than a second, that one may have its receipt.
    found = [wire.decode(raw).uuid for raw in seen]
    assert len(quick.intersection(found)) <= sum(each > 1 for each in seconds)
