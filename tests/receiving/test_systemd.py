"""What systemd receives, on a real socket, in the order of sd_notify(3)."""

import os
import resource
import socket
from contextlib import closing, contextmanager

import pytest

from remaphore.receiving.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """The socket of a service manager, and its address for the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        if request.param == "path":
            channel.bind(str(tmp_path / "notify"))
            address = str(tmp_path / "notify")
        else:
            channel.bind("")  # the kernel picks a name in the abstract namespace
            address = "@" + channel.getsockname()[1:].decode()
        channel.settimeout(10)
        yield channel, {"NOTIFY_SOCKET": address}


def test_each_state_is_one_datagram(manager):
    channel, environ = manager
    with closing(Notifier(environ)) as notifier:
        notifier.ready("waiting")
        notifier.receiving("com.two")
        notifier.status("no broker yet")
        notifier.reloading()
        notifier.alive()
        notifier.stopping()
        notifier.close()
        notifier.alive()  # after the end nothing is sent
    received = [channel.recv(1000).decode().split("\n") for _ in range(6)]
    assert received[0] == ["READY=1", "STATUS=waiting"]
    assert received[1:3] == [["STATUS=receiving as com.two"], ["STATUS=no broker yet"]]
    assert received[3][0] == "RELOADING=1"
    assert received[3][1].removeprefix("MONOTONIC_USEC=").isdecimal()
    assert received[4:] == [["WATCHDOG=1"], ["STOPPING=1"]]


def test_a_process_without_descriptors_still_notifies(manager):
    channel, environ = manager
    with closing(Notifier(environ)) as notifier, no_descriptors():
        notifier.alive()
    assert channel.recv(1000) == b"WATCHDOG=1"


@contextmanager
def no_descriptors():
    """A block in which nothing can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path):
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        with closing(Notifier(environ)) as notifier:
            notifier.ready("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_notified_twice_within_its_time(environ, seconds):
    assert Notifier(environ).watchdog_seconds == seconds
