"""The progress line: one line, of the terminal's width, never mixed with what others write."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pytest

from remaphore.testing import PluginHarness, make_message, make_reply
from remaphore_plugins.reply_collector import ReplyCollector
from remaphore_plugins.reply_collector.report import progress
from remaphore_plugins.reply_collector.tally import Tally
from remaphore_plugins.reply_collector.terminal import Above, Progress, clip, obeys, takes_colour

ERASE = "\r\x1b[K"


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("12/200 answered", 15, "12/200 answered"),
        ("12/200 answered", 14, "12/200 answer\u2026"),
        ("abc", 1, "\u2026"),
        ("abc", 0, ""),
        ("\u6771\u4eac", 4, "\u6771\u4eac"),
        ("\u6771\u4eac", 3, "\u6771\u2026"),
        ("\u6771\u4eac", 2, "\u2026"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
    ],
)
def test_a_text_is_clipped_to_what_the_columns_show(text, columns, shown):
    assert clip(text, columns) == shown


def test_the_line_tells_how_many_answered_how_many_failed_and_who_is_waited_for():
    tally = Tally(["com.a", "com.b", "com.c"])
    tally.requested(["com.a", "com.b"])
    assert progress(tally) == "0/3 answered, waiting for com.a com.b"
    tally.reply(make_reply(1, peer="com.a"))
    assert progress(tally) == "1/3 answered, 1 failed, waiting for com.b"
    tally.reply(make_reply(0, peer="com.b"))
    assert progress(tally) == "2/3 answered, 1 failed, 1 not asked yet"


def test_what_others_write_stands_above_the_line():
    stream = io.StringIO()
    line = Progress(stream)
    above = Above(stream, line)
    above.write("before\n")
    line.show("1/3")
    print("the broker is", "away", file=above)
    line.erase()
    assert stream.getvalue() == f"before\n{ERASE}1/3{ERASE}the broker is away\n{ERASE}1/3{ERASE}"


def test_a_line_that_is_not_there_is_not_erased():
    stream = io.StringIO()
    Progress(stream).erase()
    assert stream.getvalue() == ""


@pytest.fixture
def terminal(monkeypatch):
    own, end = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(end, "w") as stream:
        yield own, stream
    os.close(own)


def test_the_width_is_asked_for_each_line(terminal):
    own, stream = terminal
    line = Progress(stream)
    for columns in (0, 20, 8):
        fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        line.show("x" * 100)
        shown = os.read(own, 65536).decode().removeprefix(ERASE)
        assert len(shown) == (columns or 80) - 1  # one that does not say has the usual 80


def test_colour_and_progress_are_for_terminals_that_know_them(terminal, monkeypatch):
    _, stream = terminal
    assert (obeys(stream), takes_colour(stream)) == (True, True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert (obeys(stream), takes_colour(stream)) == (True, False)
    monkeypatch.setenv("NO_COLOR", "")
    assert takes_colour(stream)
    for term in ("dumb", None):
        monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM")
        assert (obeys(stream), takes_colour(stream)) == (False, False)
    assert not obeys(io.StringIO())


async def test_stderr_is_what_it_was_once_the_progress_has_ended(terminal, monkeypatch):
    _, stream = terminal
    monkeypatch.setattr(sys, "stderr", stream)
    async with PluginHarness(ReplyCollector, options={"progress": True}) as harness:
        assert sys.stderr is not stream
        await harness.requested(make_message("deploy"), ("com.a",))
    assert sys.stderr is stream


class Gone(io.StringIO):
    def isatty(self):
        return True

    def write(self, _text):
        raise OSError(5, "Input/output error")


async def test_a_terminal_that_was_closed_ends_nothing(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Gone())
    async with PluginHarness(ReplyCollector, options={"progress": True, "summary": True}) as harness:
        await harness.requested(make_message("deploy"), ("com.a",))
