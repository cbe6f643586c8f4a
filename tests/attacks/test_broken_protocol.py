"""Protocol lines that a NATS client library stumbles over, and sizes that fill its memory.

Attacker: anyone who may publish on the broker, without a key, by a header block shorter than `NATS/1.0` or one invalid
byte in a reply subject; the broker itself, by any line and any size. What must happen: each costs at most its own
message; the connection ends only where the next line cannot be found; memory stays bounded; the log has one line for
all of a kind, and never a traceback. The parser alone: tests/transport/test_parser.py.
"""

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from itertools import count

import pytest

from remaphore import connect
from remaphore.protocol import subject, wire
from remaphore.transport.parser import MAX_SKIPPED
from tests.harness.fake_server import INFO, FakeServer, fake_server
from tests.harness.fleet import bus_of
from tests.harness.processes import MIB, peak_mib
from tests.harness.waiting import until

MOST_MIB = 75  # 38 of them before anything comes
LONG = [pytest.mark.long, pytest.mark.timeout(600)]
REPLY_BYTES = (b"\xff", b"\x0b", b"\x0c", b"\x1b[2J", b"\xc3(", b"\x00")
HEADERS = (
    b"\r\n",
    b"N",
    b"NATS/1.0",
    b"NATS/1.0\r\n",
    b"\xff" * 40,
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0\r\n:\r\n\r\n",
)


def malformed(where):
    """What a publisher can write that nats-server passes on, and that ended the connection of every receiver."""
    place = where.encode()
    pairs = [b"PUB %b %b 1\r\nx\r\n" % (place, reply) for reply in REPLY_BYTES]
    pairs += [b"HPUB %b %d %d\r\n%b\r\n" % (place, len(block), len(block), block) for block in HEADERS]
    pairs += [b"HPUB %b \xff %d %d\r\n%bx\r\n" % (place, len(block), len(block) + 1, block) for block in HEADERS]
    return pairs


async def write(bus, raw):
    """Write *raw* to the broker as it is."""
    client = bus._connection._client
    await client._send_command(raw)
    await client._flush_pending()


@asynccontextmanager
async def pestering(fleet, where, *, pause):
    """Publish one malformed message after the other for the length of a block, *pause* seconds apart."""
    async with bus_of(fleet) as bus:
        lines = malformed(where)

        async def pester():
            number = 0
            while True:
                await write(bus, lines[number % len(lines)])
                number += 1
                await asyncio.sleep(pause)

        task = asyncio.get_running_loop().create_task(pester())
        try:
            yield
        finally:
            assert not task.done(), task.exception()
            task.cancel()
        assert bus.reconnects == 0, "the broker did not pass them on"


@pytest.fixture
def daemon(fleet):
    path = fleet.config("two")
    path.write_text(f'state_dir = "{fleet.folder / "state"}"\n' + path.read_text())
    return fleet.start("run", "-c", path)


@pytest.mark.parametrize("requests", [30, pytest.param(300, marks=LONG)])
async def test_malformed_messages_cost_a_daemon_no_connection_and_its_requesters_no_reply(fleet, daemon, requests):
    answered = 0
    async with connect(str(fleet.config("one"))) as node, pestering(fleet, "remaphore.all", pause=0.05):
        for _ in range(requests):
            async with node.request("ping", to="com.example.two", timeout=10) as asked:
                answered += len([reply async for reply in asked])
            await asyncio.sleep(0.1)
        reconnects = node.bus.reconnects
    assert (answered, reconnects) == (requests, 0)
    daemon.stop()
    assert not [line for line in daemon.lines if "broker" in line or "Traceback" in line]
    # One kind of drop is one line at first, one each 15 seconds, and one at the end.
    told = [line for line in daemon.lines if "reason=malformed" in line]
    assert 1 <= len(told) <= 2 + requests * 0.15 / 15
    assert len([line for line in daemon.lines if "WARN" in line.upper()]) == len(told)


async def test_malformed_messages_do_not_block_receivers_of_one_message(fleet, nodes):
    waiters = [fleet.start("receive", "-c", nodes["two"], "--id", "go") for _ in range(6)]
    async with pestering(fleet, "remaphore.all", pause=0.05):
        await asyncio.sleep(0.5)
        done = await asyncio.to_thread(fleet.run, "send", "-c", nodes["one"], "--to", "com.example.two", "--id", "go")
        assert done.returncode == 0
        codes = [await asyncio.to_thread(waiter.popen.wait, 30) for waiter in waiters]
    assert codes == [0] * 6


async def test_malformed_messages_on_the_subject_of_a_reply_do_not_block_the_reply(fleet, nodes):
    async with bus_of(fleet) as bus:
        seen = asyncio.Queue()
        await bus.subscribe("remaphore.all", seen.put_nowait)
        asking = fleet.start("request", "-c", nodes["one"], "--to", "com.example.two", "--timeout", "30s", ready=None)
        request = await seen.get()
        for line in malformed(subject.for_replies("remaphore", wire.digest(request))) * 3:
            await write(bus, line)
        await bus.publish("remaphore.other", b"")  # confirmed: all before it have been passed on
        fleet.start("receive", "-c", nodes["two"], "--once")
        await bus.publish("remaphore.all", request)
    code, out = await asyncio.to_thread(asking.finish)
    assert (code, out) == (5, "com.example.two,NO_DATA\n")
    assert not [line for line in asking.lines if "Traceback" in line or "connect" in line]


class Hostile(FakeServer):
    """A broker that answers a subscription with *once* and then `attack(0)`, `attack(1)` ... up to *enough* bytes."""

    def __init__(self, attack, *, once, info, enough):
        super().__init__(greeting=b"INFO %b\r\n" % json.dumps(info).encode())
        self.attack = attack
        self.once = once
        self.enough = enough
        self.written = 0

    async def _talk(self, reader, writer):
        writer.write(self.greeting)
        while line := (await reader.readline()).decode().strip():
            if line == "PING":
                writer.write(b"PONG\r\n")
            elif line.startswith("SUB"):
                writer.write(self.once)
                for number in count():
                    if self.written >= self.enough:
                        break
                    data = self.attack(number)
                    writer.write(data)
                    self.written += len(data)
                    await writer.drain()


class Unconfirming(FakeServer):
    """A broker that lets in every client, and sends nothing more."""

    async def _talk(self, reader, writer):
        writer.write(self.greeting)
        while line := (await reader.readline()).decode().strip():
            if line == "PING" and "SUB" not in " ".join(self.lines):
                writer.write(b"PONG\r\n")
            self.lines.append(line)


async def test_a_greeting_without_end_is_given_up_and_not_kept(fleet):
    greeting = b"INFO " + bytes(96 * MIB)
    async with fake_server(FakeServer(greeting=greeting)) as server:
        receiver = fleet.start("receive", "-c", fleet.config("one", server=server.url), ready="no broker yet")
        await until(lambda: server.connections > 1)
        assert peak_mib(receiver.popen.pid) < MOST_MIB
        assert not [line for line in receiver.lines if "Traceback" in line]
        receiver.popen.kill()  # before the first connection its end is another matter


@pytest.mark.parametrize(("command", "code"), [("receive", 128 + signal.SIGTERM), ("run", 0)])
async def test_a_broker_that_never_confirms_does_not_keep_a_receiver_from_ending(fleet, command, code):
    async with fake_server(Unconfirming()) as server:
        path = fleet.config("one", server=server.url)
        path.write_text(f'state_dir = "{fleet.folder / "state"}"\n' + path.read_text())
        receiver = fleet.start(command, "-c", path, ready=None)
        await until(lambda: any(line.startswith("SUB") for line in server.lines))
        assert await asyncio.to_thread(receiver.stop) == (code, "")


async def test_a_broker_that_never_confirms_does_not_hold_a_receiver_beyond_its_time(fleet):
    async with fake_server(Unconfirming()) as server:
        receiver = fleet.start("receive", "-c", fleet.config("one", server=server.url), "--timeout", "1s", ready=None)
        assert await asyncio.to_thread(receiver.finish) == (1, "")


def filling(_number):
    return b"x" * MIB


def denials(number):
    lines = range(10_000 * number, 10_000 * number + 10_000)
    return b"".join(b"-ERR 'Permissions Violation for Publish to \"%d\"'\r\n" % line for line in lines)


def other_servers(number):
    hosts = [b"10.%d.%d.%d:4222" % (number % 250, host // 250, host % 250) for host in range(5_000)]
    return b"".join(b'INFO {"connect_urls":["%b"]}\r\n' % host for host in hosts)


def always(line):
    many = line * max(1, MIB // len(line))
    return lambda _number: many


SIZE = b"MSG remaphore.all 1 %d\r\n"
ANNOUNCED = INFO | {"max_payload": 20_000_000_000}
# What is written again and again, what once before it, INFO, and what is logged: one line for all of it.
FILLING = {
    "20 GB": (filling, SIZE % 20_000_000_000, INFO, "connection ended after a message of 20000000000 bytes"),
    "20 GB, announced": (filling, SIZE % 20_000_000_000, ANNOUNCED, "connection ended after a message of 20000000000"),
    "64 MiB": (filling, SIZE % MAX_SKIPPED, INFO, "connection ended after a message whose size is not"),
    "64 MiB of headers": (
        *(filling, b"HMSG remaphore.all 1 %d %d\r\n" % (MAX_SKIPPED - 1, MAX_SKIPPED), INFO),
        "connection ended after a message whose size is not",
    ),
    "no size": (filling, b"MSG remaphore.all 1 many\r\n", INFO, "connection ended after a message without a size"),
    "a line without end": (filling, b"MSG ", INFO, "connection ended after a line of more than"),
    "INFO without end": (filling, b"INFO {", INFO, "connection ended after a line of more than"),
    "an error without end": (filling, b"-ERR '", INFO, "connection ended after a line of more than"),
    "denials": (denials, b"", INFO, ""),
    "other servers": (other_servers, b"", INFO, ""),
    "many servers": (always(b'INFO {"connect_urls":[%b"a:1"]}\r\n' % (b'"a:1",' * 100_000)), b"", INFO, ""),
    "large INFO": (always(b'INFO {"x":[%b{}]}\r\n' % (b'{"":0},' * 140_000)), b"", INFO, "ignored an INFO line"),
    "INFO of many things": (always(b'INFO {"x":[%b{}]}\r\n' % (b'{"":0},' * 18_000)), b"", INFO, ""),
    "nested INFO": (always(b"INFO " + b"[" * 500_000 + b"\r\n"), b"", INFO, "ignored an INFO line"),
    "PING": (always(b"PING\r\n"), b"", INFO, ""),
    "PONG": (always(b"PONG\r\n"), b"", INFO, ""),
    "no such subscription": (always(b"MSG remaphore.all 77 1\r\nx\r\n"), b"", INFO, ""),
    "no subscription": (
        *(always(b"MSG remaphore.all x 1\r\nx\r\n"), b"", INFO),
        "skipped a message for no subscription",
    ),
}


@pytest.mark.parametrize("attack", FILLING)
async def test_nothing_that_a_broker_writes_fills_the_memory_or_the_log(fleet, attack):
    again, once, info, told = FILLING[attack]
    # Enough to be seen if it were kept; of what is the same again and again each costs time, and keeps nothing.
    enough = {filling: 64 * MIB, denials: 16 * MIB, other_servers: 16 * MIB}.get(again, 4 * MIB)
    server = Hostile(again, once=once, info=info, enough=enough)
    async with fake_server(server):
        receiver = fleet.start("receive", "-c", fleet.config("one", server=server.url), ready=None)
        await until(lambda: server.written >= server.enough or (server.connections > 1 and server.written), limit=120)
        if told:
            await asyncio.to_thread(receiver.wait_for, told)
        peak = peak_mib(receiver.popen.pid)
        assert receiver.popen.poll() is None
        await asyncio.to_thread(receiver.stop)
    assert peak < MOST_MIB, f"{peak} MiB after {server.written / MIB} MiB"
    assert len([line for line in receiver.lines if "protocol" in line]) <= 3, receiver.lines
    assert len(receiver.lines) < 10, receiver.lines
    assert max(map(len, receiver.lines), default=0) < 1_000
    assert not [line for line in receiver.lines if "Traceback" in line]
