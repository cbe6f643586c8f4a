"""Progress and summary: one status line of the terminal's width, separate from other output; wrapped lines; color."""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios

import pytest

from remaphore.testing import PluginHarness, make_message, make_reply
from remaphore_plugins.reply_collector import ReplyCollector
from remaphore_plugins.reply_collector.report import progress, summary
from remaphore_plugins.reply_collector.request_stats import RequestStats
from remaphore_plugins.reply_collector.terminal import StatusLine, StatusLineStream, clip, supports_ansi, supports_color

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


def test_the_line_has_the_numbers_of_answers_and_failures_and_the_destinations_still_waited_for():
    stats = RequestStats(["com.a", "com.b", "com.c"])
    stats.requested(["com.a", "com.b"])
    assert progress(stats, 80) == "0/3 answered, waiting for com.a com.b"
    stats.receipt("com.b")
    assert progress(stats, 80) == "0/3 answered, still running: com.b, silent: com.a"
    stats.reply(make_reply(1, peer="com.a"))
    assert progress(stats, 80) == "1/3 answered, 1 failed, still running: com.b"
    stats.reply(make_reply(0, peer="com.b"))
    assert progress(stats, 80) == "2/3 answered, 1 failed, 1 not asked yet"


def test_the_line_and_the_summary_have_how_many_are_required():
    stats = RequestStats(["com.a", "com.b", "com.c"], required=2)
    stats.requested(["com.a", "com.b"])
    stats.reply(make_reply(1, peer="com.a"))
    stats.reply(make_reply(0, peer="com.b"))
    assert progress(stats, 80) == "2/3 answered, 1/2 required ok, 1 failed, 1 not asked yet"
    assert summary(stats, color=False).startswith("remaphore: 3 expected, 2 required, 1 ok, 1 failed, 1 not asked\n")


def test_the_line_tells_running_and_silent_destinations_apart_in_their_order_and_at_any_width():
    names = [f"com.web.{number}" for number in range(1, 13)]
    stats = RequestStats(names)
    stats.requested(names)
    for number in (10, 2, 11, 1):
        stats.receipt(f"com.web.{number}")
    silent = " ".join(names[2:9] + names[11:])
    shown = f"0/12 answered, still running: com.web.1 com.web.2 com.web.10 com.web.11, silent: {silent}"
    assert progress(stats, len(shown)) == shown
    short = f"0/12 answered, 4 still running, 8 silent: {silent}"
    assert progress(stats, len(shown) - 1) == short
    assert clip(short, 39) == "0/12 answered, 4 still running, 8 sile\u2026"
    for peer in ("com.web.10", "com.web.3", "com.web.99"):
        stats.reply(make_reply(0, peer=peer))
    assert stats.names("running") == ("com.web.1", "com.web.2", "com.web.11")
    assert stats.names("missing") == tuple(name for name in names if name not in ("com.web.10", "com.web.3"))


def test_other_output_is_written_above_the_line():
    stream = io.StringIO()
    line = StatusLine(stream)
    above = StatusLineStream(stream, line)
    above.write("before\n")
    line.show("1/3")
    print("the broker is", "away", file=above)
    line.erase()
    assert stream.getvalue() == f"before\n{ERASE}1/3{ERASE}the broker is away\n{ERASE}1/3{ERASE}"


def test_without_a_line_nothing_is_erased():
    stream = io.StringIO()
    StatusLine(stream).erase()
    assert stream.getvalue() == ""


@pytest.fixture
def terminal(monkeypatch):
    own, end = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(end, "w", encoding="utf-8") as stream:
        yield own, stream
    os.close(own)


def test_the_width_is_read_for_each_line(terminal):
    own, stream = terminal
    line = StatusLine(stream)
    for columns in (0, 20, 8):
        fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        line.show("x" * 100)
        shown = os.read(own, 65536).decode().removeprefix(ERASE)
        assert len(shown) == (columns or 80) - 1  # one that does not say has the usual 80


def test_no_escape_makes_the_line_wider_than_the_terminal(terminal):
    own, stream = terminal
    stream.reconfigure(encoding="iso-8859-1", errors="backslashreplace")
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    StatusLine(stream).show("1/3 \u6771\u4eac\u6771\u4eac")
    assert os.read(own, 65536).decode("iso-8859-1") == f"{ERASE}1/3 \\u6771\\u4eac\\u~"


def test_color_and_progress_are_for_terminals_that_support_them(terminal, monkeypatch):
    _, stream = terminal
    assert (supports_ansi(stream), supports_color(stream)) == (True, True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert (supports_ansi(stream), supports_color(stream)) == (True, False)
    monkeypatch.setenv("NO_COLOR", "")
    assert supports_color(stream)
    for term in ("dumb", None):
        monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM")
        assert (supports_ansi(stream), supports_color(stream)) == (False, False)
    assert not supports_ansi(io.StringIO())


async def test_stderr_is_restored_once_the_progress_has_ended(terminal, monkeypatch):
    _, stream = terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    async with PluginHarness(ReplyCollector, options={"progress": True}) as harness:
        assert sys.stderr is not stream
        await harness.requested(make_message("deploy"), ("com.a",))
    assert sys.stderr is stream


class Gone(io.StringIO):
    def isatty(self):
        return True

    def write(self, _text):
        raise OSError(5, "Input/output error")


async def test_a_closed_terminal_is_ignored(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Gone())
    async with PluginHarness(ReplyCollector, options={"progress": True, "summary": True}) as harness:
        await harness.requested(make_message("deploy"), ("com.a",))


def many_missing():
    stats = RequestStats(f"com.example.{name}" for name in "abcdefg")
    stats.requested(stats.expected)
    return stats


def test_the_summary_on_a_terminal_wraps_between_names_and_indents_what_follows():
    assert summary(many_missing(), color=False, columns=40).splitlines() == [
        "remaphore: 7 expected, 0 ok, 7 missing",
        "remaphore: silent: com.example.a,",
        "    com.example.b, com.example.c,",
        "    com.example.d, com.example.e,",
        "    com.example.f, com.example.g",
    ]


def test_a_name_is_never_broken_even_if_no_line_has_room_for_it():
    *_, last = summary(many_missing(), color=False, columns=10).splitlines()
    assert last == "    com.example.g"


def test_color_changes_no_line_break():
    plain, colored = (summary(many_missing(), color=color, columns=40) for color in (False, True))
    assert "\x1b[33msilent\x1b[0m: com.example.a,\n" in colored
    assert re.sub(r"\x1b\[[0-9]*m", "", colored) == plain


async def test_the_summary_has_the_width_of_the_terminal(terminal, monkeypatch):
    own, stream = terminal
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    monkeypatch.setattr(sys, "stderr", stream)
    names = many_missing().expected
    async with PluginHarness(ReplyCollector, options={"summary": True, "expected": names}) as harness:
        await harness.requested(make_message("deploy"), names)
    lines = re.sub(r"\x1b\[[0-9]*m", "", os.read(own, 65536).decode()).splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[3] == "    com.example.b, com.example.c,"
