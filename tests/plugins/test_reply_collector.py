"""What a requester sees: the lines of the Go implementation, whole, and no control sequences on a terminal."""

import io
import sys

import pytest

from remaphore import Message, Reply
from remaphore_plugins.reply_collector import ReplyCollector
from remaphore_plugins.reply_collector.terminal import for_terminal

REQUEST = Message(sender="k", destination="**", verb="v", uuid=b"u", time_ns=0)


class Stdout(io.TextIOWrapper):
    def __init__(self, *, terminal):
        super().__init__(io.BytesIO(), encoding="utf-8")
        self._terminal = terminal

    def isatty(self):
        return self._terminal


def printed(monkeypatch, *replies, terminal=False):
    stdout = Stdout(terminal=terminal)
    monkeypatch.setattr(sys, "stdout", stdout)
    collector = ReplyCollector()
    for reply in replies:
        collector.remaphore_reply(REQUEST, reply)
    return stdout.buffer.getvalue()


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (Reply(0, b"fine\n", peer="com.a"), b"com.a,0,fine\n"),
        (Reply(-1, b"", peer="com.a"), b"com.a,-1,\n"),
        (Reply(3, b"  a,b \t\r\n", peer="com.a"), b"com.a,3,  a,b\n"),
        (Reply(None, b"NO_DATA", peer="com.a"), b"com.a,NO_DATA\n"),
        (Reply(None, b" odd ", peer="com.a"), b"com.a,odd\n"),
        (Reply(0, b"\xff\x1b[31mred", peer="com.a"), b"com.a,0,\xff\x1b[31mred\n"),
    ],
)
def test_a_reply_of_one_line_is_one_line(monkeypatch, reply, line):
    assert printed(monkeypatch, reply) == line


def test_a_reply_of_several_lines_is_framed_by_the_same_secret_for_all(monkeypatch):
    shown = printed(monkeypatch, Reply(0, b"one\ntwo\n", peer="com.a"), Reply(1, b"\n\nthree", peer="com.b")).decode()
    nonce = shown[4:36]
    assert set(nonce) <= set("0123456789abcdef")
    assert shown == f"--> {nonce}\ncom.a,0,one\ntwo\n--< {nonce}\n--> {nonce}\ncom.b,1,\n\nthree\n--< {nonce}\n"


def test_each_request_has_its_own_secret(monkeypatch):
    reply = Reply(0, b"a\nb", peer="com.a")
    assert printed(monkeypatch, reply)[:36] != printed(monkeypatch, reply)[:36]


def test_a_terminal_gets_no_control_sequences(monkeypatch):
    evil = b"\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\x08\x7f\rtab\there\nline\xff"
    lines = printed(monkeypatch, Reply(0, evil, peer="com.a"), terminal=True).decode().splitlines()
    assert lines[1:-1] == ["com.a,0,redtab\there", "line\ufffd"]


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (b"\x1b[1;31mx\x1b[m", b"x"),
        (b"\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", b"link"),
        (b"\x1bPq#0\x1b\\after", b"after"),
        (b"\x1bc", b""),
        (b"end\x1b", b"end"),
        ("a\u009b31mb".encode(), b"a31mb"),
        (b"a\x00\x07b\tc\nd", b"ab\tc\nd"),
    ],
)
def test_sequences_of_every_kind_are_removed(output, shown):
    assert for_terminal(output) == shown
