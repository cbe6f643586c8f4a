"""Where output is wrapped and coloured: on a terminal, and nowhere else."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import redirect_stdout

import pytest

from remaphore.cli import output
from remaphore.cli.findings import FindingPrinter
from remaphore.diagnostics.findings import Code, Finding, Level

LONG = (
    "error    /etc/remaphore/remaphore.toml: unknown key 'foo'; hint: known keys are destination, servers and subject"
)
ROWS = [("com.example.left", "k" * 44, "deploy,ping", "/etc/remaphore/remaphore.toml: peers[0]")]
HEADER = ("DESTINATION", "KEY", "VERBS", "FROM")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a terminal of 80 columns with colours, to redirect stdout to."""
    for name, value in (("COLUMNS", "80"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def wrapped(terminal, *line, **options):
    with redirect_stdout(terminal):
        return output.wrap(*line, **options)


def test_on_a_terminal_a_line_is_wrapped_at_words_with_a_hanging_indent(terminal):
    first, *others = wrapped(terminal, LONG, indent=9).splitlines()
    assert max(map(len, (first, *others))) <= 80
    assert others
    assert all(line.startswith(" " * 9) and line[9] != " " for line in others)
    assert [*first.split(), *" ".join(others).split()] == LONG.split()


def test_the_width_is_that_of_the_terminal_and_80_if_it_is_unknown(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, wrapped(terminal, LONG, indent=9).splitlines())) <= 50
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(sys, "__stdout__", None)
    assert 60 < max(map(len, wrapped(terminal, LONG, indent=9).splitlines())) <= 80


def test_a_word_that_is_longer_than_the_terminal_stays_in_one_piece(terminal):
    assert "x" * 200 in wrapped(terminal, f"error    {'x' * 200} y-{'z' * 90}", indent=9).split()
    assert f"y-{'z' * 90}" in wrapped(terminal, f"error    {'x' * 200} y-{'z' * 90}", indent=9).split()


def test_in_a_pipe_there_is_one_line_without_colour(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert output.wrap(LONG, indent=9, label="error") == LONG + "\n"
    output.write_table(HEADER, ROWS)
    assert len(sys.stdout.getvalue().splitlines()) == 2


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_a_table_fits_the_terminal_and_keeps_every_cell(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with redirect_stdout(terminal):
        output.write_table(HEADER, ROWS)
    shown = terminal.getvalue()
    assert max(map(len, shown.splitlines())) <= columns
    assert shown.split() == [*HEADER, *" ".join(ROWS[0]).split()]
    if columns == 110:  # there is room for the last column: it is wrapped within itself
        lines = shown.splitlines()
        assert lines[2].index("peers[0]") == lines[0].index("FROM")


@pytest.mark.parametrize(("level", "colour"), [("error", 31), ("warning", 33), ("ok", 32)])
def test_levels_are_coloured_on_a_terminal(terminal, level, colour):
    assert (
        wrapped(terminal, f"{level:<7}  where: what", label=level)
        == f"\x1b[{colour}m{level}\x1b[0m{' ' * (9 - len(level))}where: what\n"
    )


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", None)])
def test_there_is_no_colour_if_the_environment_forbids_it(terminal, monkeypatch, name, value):
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert wrapped(terminal, "error    where: what", label="error") == "error    where: what\n"


def test_a_finding_is_wrapped_below_its_text_and_coloured(terminal):
    finding = Finding(Level.ERROR, Code.CONFIGURATION_UNUSABLE, "a.toml", "w " * 60, "fix it")
    with redirect_stdout(terminal):
        FindingPrinter(to_json=False).show(finding)
    first, *others = terminal.getvalue().splitlines()
    assert first.startswith("\x1b[31merror\x1b[0m    a.toml: w w ")
    assert others
    assert all(line.startswith(" " * 9) for line in others)
    assert others[-1].endswith("hint: fix it")


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_log_lines_have_coloured_levels_on_a_terminal_only(monkeypatch, stream):
    import structlog

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", stream())
    output.configure_logs()
    structlog.get_logger().warning("something_failed", detail="warning")
    line = sys.stderr.getvalue()
    assert line.endswith(" something_failed detail=warning\n")
    assert ("\x1b[33mwarning\x1b[0m" in line) == (stream is Terminal)
    assert line.count("\x1b") == (2 if stream is Terminal else 0)


def test_text_that_is_printed_holds_no_control_characters_and_can_be_encoded():
    assert output.printable("a\x1b[2J\n\udcff\u202e") == "a\\x1b[2J\\x0a\\udcff\\u202e"


@pytest.mark.parametrize("columns", [60, 100])
def test_a_command_wraps_its_table_at_the_width_of_its_terminal(columns):
    own, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "REMAPHORE_CONFIG")}
    with os.fdopen(own, "rb", buffering=0) as terminal:
        command = [sys.executable, "-m", "remaphore", "plugins"]
        subprocess.run(command, stdout=end, stderr=subprocess.DEVNULL, env=environ, check=False)
        os.close(end)
        lines = read_all(terminal).decode().splitlines()
    assert len(lines) >= 6
    assert max(map(len, lines)) <= columns


def read_all(terminal):
    data = b""
    while True:
        try:
            data += terminal.read(4096)
        except OSError:  # EIO: the other end is closed and everything is read
            return data
