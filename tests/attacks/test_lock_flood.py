"""Junk on the subjects of a lock, as fast as the broker takes it.

Attacker: a login that may publish what a node with the lock may, but has no key. What must happen: the command of the
holder continues as long as its lease can be renewed, and ends with it; no command runs beside that of another node;
and after the flood the lock is to be had again.
"""

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from remaphore.coordination import streams
from tests.harness.lock_processes import Site
from tests.harness.nats_server import NatsServer
from tests.harness.waiting import until

ROOT = "remaphore"
DIGESTED = 120.0  # seconds after which the broker has stored the junk, on a busy machine


@pytest.fixture
def site(tmp_path):
    (tmp_path / "server").mkdir()
    junk = json.dumps(streams.permissions(ROOT, frozenset({"lock:deploy"})))
    users = f"{{ user: node, password: x }}, {{ user: junk, password: x, permissions: {junk} }}"
    accounts = f"accounts: {{ A: {{ jetstream: enabled, users: [ {users} ] }} }}\nno_auth_user: node\n"
    # Without fsync(2) for each message: the disk is not what is attacked.
    server = NatsServer(tmp_path / "server", f'jetstream {{ store_dir: "{tmp_path}/data" }}\n{accounts}')
    asyncio.run(server.start())
    found = Site(tmp_path, server, ROOT)
    yield found
    found.end()
    server.kill()


@contextmanager
def flooding(site, subject, *, rate):
    """Publish junk on *subject* in a block, *rate* messages a second; 0: as many as the broker takes."""
    host, port = site.server.url.removeprefix("nats://").rsplit(":", 1)
    end = threading.Event()
    junk = b"PUB %s 900\r\n%s\r\n" % (subject.encode(), b"x" * 900)

    def flood():
        while not end.is_set():
            with socket.create_connection((host, int(port))) as connection:
                connection.settimeout(1)
                try:
                    connection.sendall(b'CONNECT {"user":"junk","pass":"x","verbose":false}\r\n')
                    while not end.wait(0.01 if rate else 0):
                        connection.sendall(junk * (rate // 100 or 100))
                except OSError:  # it does not take more now, or has closed the connection: once more
                    continue

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [
        (950, 1.0),
        pytest.param(950, 60.0, marks=pytest.mark.long),
        pytest.param(0, 60.0, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_no_flood_of_junk_lets_a_second_command_run(site, rate, seconds):
    ttl = 30.0 if seconds * rate > 5000 else 1.0
    holder = site.hold("left", ttl=ttl, how=("ignores TERM", "leaves a child"))
    waiter = site.wait_in_line("right", ttl=ttl)
    with flooding(site, f"{ROOT}.coord.lock.deploy.0", rate=rate):
        time.sleep(seconds)  # that the flood lasts
        assert waiter.popen.poll() is None
        if seconds * rate > 5000:
            assert holder.popen.poll() is None

    # What an administrator does then, once more as long as the broker answers nothing but the flood.
    def ended():
        if holder.popen.poll() is None:
            site.run("third", "lock", "release", "deploy")
        return holder.popen.poll() is not None

    def is_to_be_had():
        shown = site.run("third", "lock", "show", "deploy")
        if "it is no record" in shown.stdout:
            return site.run("third", "coordination", "init", "--recreate").returncode == 0
        return shown.returncode < 2

    for done in (ended, is_to_be_had):
        asyncio.run(until(done, limit=DIGESTED))
    assert holder.finish()[0] == 125
    assert waiter.finish()[0] in (0, 125)  # 125: the streams were made again in the moment in which it began
    assert site.overlaps() == 0
    assert site.tokens() == sorted(site.tokens())
    assert len(site.tokens()) == 2
