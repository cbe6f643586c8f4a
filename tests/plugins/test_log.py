"""One line for each event, and never a payload or an output."""

import asyncio
import io
import json
import logging
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from unittest import mock

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog import processors

from remaphore import Drop, DropReason, Message, Outcome, Reply, logs
from remaphore.text import _IN_JSON, escape
from remaphore_plugins.log import Log

MESSAGE = Message(
    sender="k",
    destination="**",
    verb="deploy",
    uuid=b"id",
    time_ns=0,
    payload=b"hidden payload",
    sender_name="com.a",
    digest=b"d" * 32,
)


def to_json(capsys, *events):
    """Log *events* (calls without arguments) as JSON; return the lines."""
    logs.configure("json", level=logging.DEBUG)
    for event in events:
        event()
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class UnshowableError(Exception):
    def __repr__(self):
        raise RuntimeError


def test_an_error_of_another_plugin_that_cannot_be_shown_costs_no_line(capsys):
    outcomes = (Outcome("h", "bad", 0.1, error=UnshowableError()), Outcome("h", "good", 0.1, Reply(0, b"")))
    lines = to_json(capsys, lambda: Log().remaphore_handled(MESSAGE, outcomes, Reply(0, b"")))
    assert [(line["event"], line["plugin"], line.get("error")) for line in lines] == [
        ("plugin_failed", "bad", "UnshowableError"),
        ("message_handled", "good", None),
    ]


def test_an_error_about_a_file_names_the_file(capsys):
    outcome = Outcome("h", "bad", 0.1, error=PermissionError(13, "Permission denied", "/srv/a"))
    (line,) = to_json(capsys, lambda: Log().remaphore_handled(MESSAGE, (outcome,), Reply(-1)))
    assert line["error"] == "PermissionError: [Errno 13] Permission denied: '/srv/a'"


def test_each_event_is_one_line_with_its_names(capsys):
    log = Log()
    bad = Outcome("h", "bad", 0.1, error=ValueError("why"))
    received, handled, failed, another, unhandled, unasked, rejected = to_json(
        capsys,
        lambda: log.remaphore_admitted(MESSAGE),
        lambda: log.remaphore_handled(MESSAGE, (Outcome("h", "hooks-d", 1.23456, Reply(3, b"hidden output")),), None),
        lambda: log.remaphore_handled(MESSAGE, (bad, bad), Reply(-1)),
        lambda: log.remaphore_handled(MESSAGE, (Outcome("h", "silent", 0.1),), Reply(127, b"no handler\n")),
        lambda: log.remaphore_handled(MESSAGE, (), None),
        lambda: log.remaphore_rejected(MESSAGE, "busy", "full", 3),
    )
    assert (received["event"], received["verb"], received["peer"], received["level"]) == (
        "message_received",
        "deploy",
        "com.a",
        "info",
    )
    assert (handled["event"], handled["exit_code"], handled["seconds"]) == ("message_handled", 3, 1.235)
    assert (failed["event"], failed["level"], failed["error"]) == ("message_failed", "error", "ValueError('why')")
    assert (another["event"], another["level"]) == ("plugin_failed", "error")
    assert (unhandled["event"], unhandled["exit_code"], unhandled["detail"]) == (
        "message_handled",
        127,
        "no plugin replied",
    )
    assert (unasked["event"], unasked["exit_code"]) == ("message_handled", None)
    assert (rejected["event"], rejected["reason"], rejected["detail"], rejected["count"]) == (
        "message_rejected",
        "busy",
        "full",
        3,
    )
    names = {"verb": "deploy", "peer": "com.a", "id": "id", "digest": (b"d" * 8).hex()}
    for line in (received, handled, failed, another, unhandled, unasked, rejected):
        assert names.items() <= line.items()


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        *((reason, "info") for reason in ("stopping", "not-permitted")),
        *((reason, "warning") for reason in ("busy", "evicted", "expired", "ledger", "error", "abandoned")),
    ],
)
def test_a_rejection_that_an_administrator_did_not_cause_is_a_warning(capsys, reason, level):
    (line,) = to_json(capsys, lambda: Log().remaphore_rejected(MESSAGE, reason, "detail", 1))
    assert line["level"] == level


def test_payload_and_output_are_not_logged(capsys):
    log = Log()
    lines = to_json(
        capsys,
        lambda: log.remaphore_admitted(MESSAGE),
        lambda: log.remaphore_handled(MESSAGE, (Outcome("h", "p", 0.1, Reply(0, b"hidden output")),), None),
        lambda: log.remaphore_reply(MESSAGE, Reply(0, b"hidden output", peer="com.a")),
    )
    assert len(lines) == 3
    assert "hidden" not in str(lines)


# The levels of all reasons are in tests/protocol/test_drop.py.
@pytest.mark.parametrize(
    ("reason", "exact", "level"),
    [
        (DropReason.UNKNOWN_SENDER, True, "warning"),
        (DropReason.UNKNOWN_SENDER, False, "debug"),
        (DropReason.BAD_SIGNATURE, False, "warning"),
    ],
)
def test_a_drop_is_logged_with_its_reason_and_whether_it_was_for_this_node_alone(capsys, reason, exact, level):
    drop = Drop(reason, "detail", 7, "remaphore.all", 12, exact)
    (line,) = to_json(capsys, lambda: Log().remaphore_dropped(drop))
    assert (line["level"], line["reason"], line["count"], line["exact"]) == (level, reason, 12, exact)


def test_a_console_line_is_short_and_has_no_control_characters(capsys):
    logs.configure("console")
    Log().remaphore_dropped(Drop(DropReason.MALFORMED, "a\x1b[31m\nb", 7, "remaphore.all"))
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "\x1b" not in shown
    assert "warning message_dropped reason=malformed detail=a\\x1b[31m\\x0ab count=1" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("release 42", "id=release 42"),
        ("a=b", "id=a=b"),
        ("1 peer=x", 'id="1 peer=x"'),
        ('1" peer=x', 'id="1\\" peer=x"'),
        ("1\\ peer=x", 'id="1\\\\ peer=x"'),
    ],
)
def test_an_id_cannot_look_like_another_field_of_a_console_line(capsys, text, shown):
    logs.configure("console")
    names = {"sender": "", "destination": "**", "verb": "deploy", "sender_name": "com.one"}
    Log().remaphore_admitted(Message(**names, uuid=text.encode(), time_ns=0))
    assert f" peer=com.one {shown} digest=" in capsys.readouterr().err


def test_the_loggers_of_the_standard_library_write_to_the_same_stream(capsys):
    (line,) = to_json(capsys, lambda: logging.getLogger("nats").error("what %s", "happened"))
    assert (line["event"], line["logger"], line["level"]) == ("what happened", "nats", "error")


def test_a_traceback_on_the_console_is_escaped_line_by_line(capsys):
    logs.configure("console")
    try:
        raise ValueError("evil\x1b[2J\n2026-01-01T00:00:00Z info    forged\u2028line")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    event, *trace = capsys.readouterr().err.split("\n")[:-1]
    assert event.endswith("it failed logger=x")
    assert trace[-2:] == ["  ValueError: evil\\x1b[2J", "  2026-01-01T00:00:00Z info    forged\\u2028line"]
    assert all(line.startswith("  ") for line in trace)  # so that none looks like an event


class Gone(io.TextIOBase):
    """A stream whose other end is closed, as when the journal restarts."""

    def __init__(self):
        self.tried = 0

    def write(self, text):
        self.tried += 1
        raise BrokenPipeError


def test_a_closed_stderr_loses_the_line_and_nothing_else(monkeypatch):
    gone = Gone()
    monkeypatch.setattr(sys, "stderr", gone)
    logs.configure("json")
    Log().remaphore_admitted(MESSAGE)
    assert gone.tried


class Counted(io.StringIO):
    writes = 0

    def write(self, text):
        self.writes += 1
        return super().write(text)


async def test_the_lines_of_one_turn_of_the_loop_are_one_write_in_their_order(monkeypatch):
    stderr = Counted()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure("json")
    for number in range(50):
        Log().remaphore_dropped(Drop(DropReason.MALFORMED, str(number), 7, "remaphore.all"))
    assert stderr.writes == 0
    await asyncio.sleep(0)
    assert stderr.writes == 1
    assert [json.loads(line)["detail"] for line in stderr.getvalue().splitlines()] == [str(n) for n in range(50)]


def test_lines_outlast_the_loop_in_which_they_were_logged(monkeypatch):
    stderr = Counted()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure("json")

    async def last_words():
        Log().remaphore_admitted(MESSAGE)

    asyncio.run(last_words())
    asyncio.run(last_words())
    assert len(stderr.getvalue().splitlines()) == 2


def steps(log_format, time_ns):
    """Return structlog's own processors that make the lines of this log, one after the other, at *time_ns*."""

    def stamp(_logger, _method, event):
        event["timestamp"] = datetime.fromtimestamp(time_ns // 1000 / 1_000_000, UTC).isoformat().replace("+00:00", "Z")
        return event

    def shorten(_logger, _method, event):
        for key, value in event.items():
            if isinstance(value, str) and len(value) > logs.MAX_VALUE and key != "exception":
                event[key] = f"{value[: logs.MAX_VALUE]}... ({len(value)} characters)"
        if "exception" in event:
            event["exception"] = event["exception"][-logs.MAX_TRACEBACK :]
        return event

    def quoted(value):
        if not isinstance(value, str) or not re.search(r"\s\w+=", value):
            return value
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def for_people(_logger, _method, event):
        time, level, what = event.pop("timestamp"), event.pop("level"), event.pop("event")
        trace = event.pop("exception", "")
        details = "".join(f" {key}={quoted(value)}" for key, value in event.items() if value is not None)
        line = escape(f"{time[:19]}Z {level:<7} {what}{details}")
        return "\n".join([line, *(f"  {escape(each)}" for each in trace.split("\n") if each)])

    def strict_json(value, default):
        return json.dumps(value, ensure_ascii=False, default=default).translate(_IN_JSON)

    last = processors.JSONRenderer(strict_json) if log_format == "json" else for_people
    return [processors.add_log_level, stamp, processors.format_exc_info, shorten, last]


class Odd:
    """A value whose text looks like fields."""

    def __repr__(self):
        return "<odd a=1 \x1b\ud800>"


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
TEXTS = ANY_TEXT | st.sampled_from(
    ["", "a=b", "1 peer=x", '1" \\ peer=x', "\ud83d\ude00", "\U0001f600", "\\ud800", "\x7f", "\u2028", "a\nb"]
)
VALUES = st.one_of(
    *(TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=5), st.builds(Odd)),
    *(st.lists(TEXTS, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=2), st.builds(ValueError, TEXTS)),
    st.builds("{}{}".format, TEXTS, st.integers(1020, 1030).map("v".__mul__)),
)
KEYS = st.sampled_from(["verb", "peer", "id", "level", "timestamp", "exception_of", "ä=", "size"])
METHODS = st.sampled_from(["debug", "info", "warning", "warn", "error", "exception", "critical"])
ERRORS = st.none() | st.builds(ValueError, TEXTS | st.just("x" * 20_000))
TIMES = st.integers(0, 4 * 10**18) | st.just(1_700_000_000_000_000_999)


@given(st.sampled_from(["console", "json"]), METHODS, TEXTS, st.dictionaries(KEYS, VALUES), ERRORS, TIMES)
@example("console", "info", "e" * 2000, {}, None, 0)
def test_a_line_is_the_one_that_single_steps_would_make(log_format, method, what, fields, error, time_ns):
    event = {**fields, "event": what} | ({"exc_info": error} if error else {})
    expected = dict(event)
    for step in steps(log_format, time_ns):
        expected = step(None, method, expected)
    with mock.patch.object(logs.time, "time_ns", return_value=time_ns):
        line = logs._Renderer(log_format, None)(None, method, event)
    assert line == expected


NAMES = st.sampled_from(["verb", "peer", "id", "ä=", "50%s", "size"])
FIXED = st.dictionaries(st.sampled_from(["exit_code", "detail", "%d"]), st.none() | TEXTS)


@settings(max_examples=max(200, settings.default.max_examples))
@given(st.sampled_from(["console", "json"]), TEXTS, st.dictionaries(NAMES, VALUES), FIXED, TIMES)
@example("console", "e", {"id": "1 peer=x"}, {"detail": "no=1"}, 0)
@example("console", "e", {"id": "v" * 1025}, {}, 0)
@example("json", "%s", {"id": True, "size": 1}, {"detail": None}, 1)
@example("json", "e", {"id": "\ud83d\ude00"}, {}, 0)
@example("json", "e", {"id": "v" * 1025}, {}, 0)
def test_a_line_from_a_template_is_the_one_of_the_logger(log_format, what, fields, fixed, time_ns):
    with mock.patch.object(sys, "stderr", io.StringIO()) as stderr, mock.patch.object(logs.time, "time_ns") as clock:
        clock.return_value = time_ns
        logs.configure(log_format)
        log = structlog.get_logger().bind()
        log.info(what, **fields, **fixed)
        expected, end = stderr.getvalue(), stderr.tell()
        logs.EventLogger(log, what, *fields, **fixed)(*fields.values())
        assert stderr.getvalue()[end:] == expected


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.parametrize("name", [b"id", b"\xff" * 12, "ä b".encode()])
def test_both_lines_of_a_message_are_made_from_templates(capsys, monkeypatch, log_format, name):
    logs.configure(log_format)
    log = Log()
    with monkeypatch.context() as patched:
        patched.setattr(logs._Renderer, "__call__", lambda *_: pytest.fail("the logger has made a line"))
        log.remaphore_admitted(replace(MESSAGE, uuid=name))
        log.remaphore_handled(replace(MESSAGE, uuid=name), (), None)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_line_of_a_reply_is_made_from_a_template(capsys, monkeypatch):
    logs.configure("console")
    log = Log()
    with monkeypatch.context() as patched:
        patched.setattr(logs._Renderer, "__call__", lambda *_: pytest.fail("the logger has made a line"))
        log.remaphore_handled(MESSAGE, (Outcome("remaphore_message", "a", 0.0123, Reply(3)),), Reply(3))
    assert capsys.readouterr().err.rstrip().endswith("plugin=a seconds=0.012 exit_code=3")


def test_whoever_takes_the_lines_from_the_logger_gets_those_from_templates_too(capsys):
    logs.configure("console")
    log = Log()
    log.remaphore_admitted(MESSAGE)
    with structlog.testing.capture_logs() as logged:
        log.remaphore_admitted(MESSAGE)
        log.remaphore_handled(MESSAGE, (), None)
    log.remaphore_admitted(MESSAGE)
    assert [(line["event"], line["log_level"], line["id"]) for line in logged] == [
        ("message_received", "info", "id"),
        ("message_handled", "info", "id"),
    ]
    assert len(capsys.readouterr().err.splitlines()) == 2
    logs.configure("console", level=logging.WARNING)
    Log().remaphore_admitted(MESSAGE)
    assert capsys.readouterr().err == ""


class Broken(io.StringIO):
    """A stream that fails while it is *full*."""

    full = True

    def write(self, text):
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize("starved", ["line", "write"])
def test_lines_of_other_loggers_for_which_there_is_no_memory_are_lost_and_no_error(capsys, monkeypatch, starved):
    logs.configure("console")

    def starve(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        if starved == "line":
            patch.setattr(logs.time, "strftime", starve)
            patch.setattr(logs.time, "time_ns", lambda: 0)
        else:
            patch.setattr(sys.stderr, "write", starve)
        logging.getLogger("asyncio").error("lost")
    logging.getLogger("asyncio").error("written")
    assert "lost" not in (err := capsys.readouterr().err)
    assert "written" in err


async def test_lines_that_cannot_be_written_are_lost_and_the_next_ones_are_not(monkeypatch):
    stream = Broken()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("console")
    log = structlog.get_logger()
    log.info("lost")
    await asyncio.sleep(0)
    stream.full = False
    log.info("kept")
    await asyncio.to_thread(log.info, "of_a_thread")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["kept", "of_a_thread"]
    stream.close()
    log.info("lost")
    await asyncio.sleep(0)


def test_in_a_program_that_has_no_structlog_nothing_of_a_library_is_on_stdout(capfd, caplog):
    for level in ("debug", "warning"):
        getattr(logs.LibraryLogger(), level)("something_lost", error="a\x1b[31m b=c", exit_status=None)
    assert capfd.readouterr().out == ""
    expected = ("remaphore", logging.WARNING, r'something_lost error="a\x1b[31m b=c"')
    assert caplog.record_tuples[-1] == expected
    logs.configure("json")
    logs.LibraryLogger().debug("something_lost")
    logs.LibraryLogger().warning("something_lost", error="a")
    assert [json.loads(line)["error"] for line in capfd.readouterr().err.splitlines()] == ["a"]
