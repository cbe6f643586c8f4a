"""Who connected, as the kernel says: also across user and pid namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from remaphore.agent.credentials import describe_caller, read_caller
from tests.harness.agent import as_root
from tests.harness.processes import SECONDS

CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
# The server in a new namespace: the other end of its socket is a process outside.
_INSIDE = """\
import ctypes, os, socket, sys
from remaphore.agent.credentials import read_caller
kind, number = int(sys.argv[1]), int(sys.argv[2])
if ctypes.CDLL(None, use_errno=True).unshare(kind):
    sys.exit(77)
child = os.fork()
if child == 0:
    caller, refusal = read_caller(socket.socket(fileno=number))
    print(caller.pid, caller.uid, refusal)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""


def inside(kind):
    """Return what a process in a new namespace reads about a client outside of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        words = [sys.executable, "-c", _INSIDE, str(kind), str(theirs.fileno())]
        done = subprocess.run(
            words, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    if done.returncode == 77:
        pytest.skip("this machine permits no new namespace")
    assert done.returncode == 0, done.stderr
    return done.stdout.split(maxsplit=2)


def test_the_caller_is_who_made_the_socket():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        caller, refusal = read_caller(ours)
        assert (caller.pid, caller.uid, caller.gid) == (os.getpid(), os.geteuid(), os.getegid())
        assert caller.groups == frozenset(os.getgroups())
        about = describe_caller(ours, caller)
    assert (about["pid"], about["uid"]) == (os.getpid(), os.geteuid())
    assert about["comm"]
    assert refusal is None


@as_root
def test_a_caller_without_a_mapping_in_our_user_namespace_is_refused():
    _, uid, refusal = inside(CLONE_NEWUSER)
    assert (uid, "65534 stands for every user" in refusal) == ("65534", True)


@as_root
def test_a_caller_in_another_pid_namespace_is_refused():
    pid, _, refusal = inside(CLONE_NEWPID)
    assert (pid, "another pid namespace" in refusal) == ("0", True)


_OTHER_PROC = """
import socket
from remaphore.agent.credentials import describe_caller, read_caller
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
about = describe_caller(ours, read_caller(ours)[0])
print(about["pid"], about["comm"], about["loginuid"])
"""


def test_nothing_is_logged_of_the_proc_of_another_pid_namespace():
    words = ["unshare", "--pid", "--fork", sys.executable, "-c", _OTHER_PROC]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        pytest.skip("this machine permits no new namespace")
    assert done.stdout == "1 None None\n"


def test_nothing_is_logged_about_a_process_that_has_ended():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        caller, _ = read_caller(ours)
        gone = subprocess.Popen([sys.executable, "-IS", "-c", ""])
        gone.wait()
        about = describe_caller(ours, type(caller)(pid=gone.pid, uid=caller.uid, gid=caller.gid))
    assert (about["comm"], about["loginuid"]) == (None, None)
