"""What reply-collector writes to stdout and stderr: folded, JSON, the summary, and only what did not succeed."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from remaphore import PluginError, Receipt, Reply, Summary
from remaphore.testing import START_NS, PluginHarness, make_message, make_reply
from remaphore.text import width
from remaphore_plugins.reply_collector import ReplyCollector
from remaphore_plugins.reply_collector.formats import Fold, Lines
from remaphore_plugins.reply_collector.request_stats import RequestStats, classify

REQUEST = make_message("deploy", "v42", wants_reply=True)
NAMES = ("com.a", "com.b", "com.c")
REJECTED = "remaphore: refused: "
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "requests.schema.json").read_text())
RECORD = jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/record"}]})


async def shown(capfdbinary, *replies, reason="done", names=NAMES, asked=None, dropped=0, running=(), **options):
    """Return stdout and stderr of a request to *names* that got receipts of *running*, and *replies*."""
    harness = PluginHarness(ReplyCollector, options={"expected": names, "summary": True, **options})
    asked = names if asked is None else asked
    missing = tuple(name for name in asked if name not in {reply.peer for reply in replies})
    summary = Summary(expected=asked, answered=(), failed=(), rejected=(), missing=missing, dropped=dropped)
    summary = replace(summary, running=tuple(name for name in running if name in missing))
    await harness.__aenter__()
    await harness.requested(REQUEST, asked)
    for name in running:
        await harness.receipt(REQUEST, Receipt(name, "key", START_NS))
    for reply in replies:
        await harness.reply(REQUEST, reply)
    await harness.finished(REQUEST, summary)
    await harness._waiting("shutdown", reason=reason)
    return capfdbinary.readouterr()


async def test_equal_replies_are_folded_and_what_needs_attention_comes_last(capfdbinary):
    out, _ = await shown(
        capfdbinary,
        make_reply(1, "disk full", peer="com.db.7"),
        make_reply(0, "done\n", peer="com.db.3"),
        make_reply(0, "done", peer="com.db.1"),
        make_reply(0, "also\ndone", peer="com.db.2"),
        make_reply(77, REJECTED + "busy", peer="com.db.9"),
        make_reply(None, "NO_DATA", peer="com.db.8"),
        names=tuple(f"com.db.{number}" for number in range(1, 13)),
        asked=tuple(f"com.db.{number}" for number in range(1, 11)),
        format="fold",
    )
    assert out.decode().splitlines() == [
        "com.db.[1,3] (2): exit code 0",
        "  done",
        "com.db.2 (1): exit code 0",
        "  also",
        "  done",
        "com.db.8 (1): without exit code",
        "  NO_DATA",
        "com.db.7 (1): failed (exit code 1)",
        "  disk full",
        "com.db.9 (1): rejected (busy)",
        "com.db.[4-6,10] (4): silent",
        "com.db.[11-12] (2): not asked",
    ]


async def test_no_output_can_look_like_the_head_of_a_group(capfdbinary):
    forged = make_reply(0, "fine\ncom.b (1): exit code 0\r\n\x85com.c (1): exit code 0", peer="com.a")
    out, _ = await shown(capfdbinary, forged, names=("com.a",), format="fold")
    heads = [line for line in out.split(b"\n") if line and not line.startswith(b"  ")]
    assert heads == [b"com.a (1): exit code 0"]


class Stdout(io.TextIOWrapper):
    """A terminal of 80 columns, or of $COLUMNS if that is less."""

    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding)

    def isatty(self):
        return True


def test_folded_outputs_are_escaped_on_a_terminal_and_unchanged_in_a_file():
    evil = make_reply(1, b"\x1b[2J\x1b]0;owned\x07red\r\xff\nnext\x08", peer="com.a")
    shown = {}
    for terminal in (True, False):
        form = Fold(terminal=Stdout() if terminal else None, color=False)
        form.reply(REQUEST, evil)
        shown[terminal] = form.end(RequestStats())
    head = b"com.a (1): failed (exit code 1)\n"
    assert shown[True] == head + "  red\ufffd\n  next\n".encode()
    assert shown[False] == head + b"  \x1b[2J\x1b]0;owned\x07red\r\xff\n  next\x08\n"


async def test_no_rejection_can_write_a_second_line(capfdbinary):
    evil = make_reply(77, REJECTED + "busy\n\x1b[2Jcom.b (1): exit code 0\r\u2028x", peer="com.a")
    out, err = await shown(capfdbinary, evil, names=("com.a",), format="fold")
    assert out.decode() == "com.a (1): rejected (busy com.b (1): exit code 0\\u2028x)\n"
    assert err.decode().splitlines()[1:] == ["remaphore: rejected (busy com.b (1): exit code 0\\u2028x): com.a"]


@pytest.mark.parametrize(
    ("output", "framed"),
    [
        (" " * 70 + "com.b,0,ok", True),
        ("x" * (80 - len("com.a,0,")), False),
        ("x" * (81 - len("com.a,0,")), True),
        ("\u6771" * 37, True),  # 37 characters of two columns each
        ("e\u0301" * 72, False),  # marks have no columns
        ("\t" * 10 + "com.b,0,ok", True),
        ("\u200b" * 12, False),  # escaped: 72 columns
        ("\u200b" * 13, True),
    ],
)
def test_a_line_that_is_wider_than_the_window_is_framed_as_several_lines_are(output, framed):
    form = Lines(terminal=Stdout())
    first, *others = form.reply(REQUEST, make_reply(0, output, peer="com.a")).decode().split("\n")
    assert first.startswith("--> " if framed else "com.a,0,")
    assert others[-2].startswith("--< ") if framed else others == [""]
    file = Lines(terminal=None).reply(REQUEST, make_reply(0, output, peer="com.a"))
    assert file == f"com.a,0,{output}\n".encode()


def test_the_width_of_the_window_counts_when_the_reply_comes(monkeypatch):
    form = Lines(terminal=Stdout())
    for columns, framed in (("80", False), ("40", True), ("0", False), ("x", False), ("1", True)):
        monkeypatch.setenv("COLUMNS", columns)
        assert form.reply(REQUEST, make_reply(0, "x" * 50, peer="com.a")).startswith(b"--> ") == framed


def test_folded_no_line_is_wider_than_the_terminal_or_leaves_its_margin():
    form = Fold(terminal=Stdout(), color=True)
    form.reply(
        REQUEST, make_reply(0, " " * 78 + "com.b (1): exit code 0\n" + "\u6771" * 60 + "\t" * 30 + "x", peer="com.a")
    )
    form.reply(REQUEST, make_reply(77, f"{REJECTED}busy: {'x ' * 30}com.b (1): exit code 0", peer="com.c"))
    lines = re.sub(r"\x1b\[[0-9]*m", "", form.end(RequestStats()).decode()).split("\n")
    assert max(map(width, lines)) <= 80
    assert [line for line in lines if not line.startswith("  ")] == [
        "com.a (1): exit code 0",
        f"com.c (1): rejected (busy: {'x ' * 26}x",
        "",
    ]


def test_what_the_encoding_of_a_terminal_does_not_have_is_escaped_and_a_file_gets_the_bytes():
    reply = make_reply(0, "z\u00fcrich \u6771\u009d", peer="com.a")
    shown = Lines(terminal=Stdout("iso-8859-1")).reply(REQUEST, reply)
    assert shown == b"com.a,0,z\xfcrich \\u6771\n"  # its UTF-8 has the byte 0x9d, a control character in ISO-8859-1
    assert Lines(terminal=None).reply(REQUEST, reply) == "com.a,0,z\u00fcrich \u6771\u009d\n".encode()
    form = Fold(terminal=Stdout("ascii"), color=False)
    form.reply(REQUEST, reply)
    assert form.end(RequestStats()) == b"com.a (1): exit code 0\n  z\\xfcrich \\u6771\n"


async def test_the_summary_has_every_name_and_groups_them_by_what_happened(capfdbinary):
    names = tuple(f"com.n{number}" for number in range(1, 31))
    replies = [make_reply(2, "x", peer=name) for name in names[:2]]
    replies += [make_reply(3, "y", peer=names[2]), make_reply(None, "NO_DATA", peer=names[3])]
    replies += [make_reply(77, REJECTED + "outside-window: 41s behind", peer=names[4])]
    replies += [make_reply(0, "", peer=name) for name in names[5:10]]
    _, err = await shown(capfdbinary, *replies, names=names, asked=names[:25])
    assert err.decode().splitlines() == [
        "remaphore: 30 expected, 5 ok, 1 without exit code, 3 failed, 1 rejected, 15 missing, 5 not asked (id example)",
        "remaphore: without exit code: com.n4",
        "remaphore: failed (exit code 2): com.n1, com.n2",
        "remaphore: failed (exit code 3): com.n3",
        "remaphore: rejected (outside-window: 41s behind): com.n5",
        "remaphore: silent: com.n[11-25]",
        "remaphore: not asked: com.n26, com.n27, com.n28, com.n29, com.n30",
    ]


async def test_what_is_still_running_is_told_from_what_is_silent_in_every_format(capfdbinary):
    options = {"running": ("com.a", "com.b"), "reason": "interrupted", "failed": True}
    replies = [make_reply(0, "x", peer="com.a")]  # which is no longer running
    lines = [
        "remaphore: interrupted: 3 expected, 1 ok, 2 missing (id example)",
        "remaphore: still running: com.b",
        "remaphore: silent: com.c",
    ]
    for form in ("lines", "fold", "json", "jsonl"):
        out, err = await shown(capfdbinary, *replies, format=form, **options)
        assert err.decode().splitlines() == lines
        if form == "fold":
            assert out.decode().splitlines() == ["com.b (1): still running", "com.c (1): silent"]
        elif form != "lines":
            records = [json.loads(line) for line in out.splitlines()] if form == "jsonl" else []
            document = {} if records else json.loads(out)
            receipts = document.get("receipts") or [each for each in records if each["kind"] == "receipt"]
            missing = document.get("missing") or [each for each in records if each["kind"] == "missing"]
            summary = document.get("summary") or records[-1]
            assert [each["peer"] for each in receipts] == ["com.a", "com.b"]
            assert [(each["peer"], each["running"]) for each in missing] == [("com.b", True), ("com.c", False)]
            assert (summary["missing"], summary["running"], summary["silent"]) == (
                ["com.b", "com.c"],
                ["com.b"],
                ["com.c"],
            )
            for record in records:
                RECORD.validate(record)
            for each in receipts:
                RECORD.validate(each)


async def test_a_receipt_that_arrived_but_was_not_shown_before_the_end_counts_in_the_summary(capfdbinary):
    async with PluginHarness(ReplyCollector, options={"expected": NAMES, "summary": True}) as harness:
        await harness.requested(REQUEST, NAMES)
        summary = Summary(expected=NAMES, answered=(), failed=(), rejected=(), missing=NAMES, dropped=0)
        await harness.finished(REQUEST, replace(summary, running=("com.c",)))
    assert b"remaphore: still running: com.c\nremaphore: silent: com.a, com.b\n" in capfdbinary.readouterr().err


async def test_nothing_is_written_if_no_request_was_sent(capfdbinary):
    async with PluginHarness(ReplyCollector, options={"format": "json", "summary": True, "expected": NAMES}):
        pass
    assert capfdbinary.readouterr() == (b"", b"")


async def test_by_default_it_prints_the_lines_of_the_go_implementation_and_nothing_on_stderr(capfdbinary):
    replies = [make_reply(0, "fine", peer="com.a"), make_reply(1, "bad", peer="com.b")]
    out, err = await shown(capfdbinary, *replies, summary=False)
    assert (out, err) == (b"com.a,0,fine\ncom.b,1,bad\n", b"")


@pytest.mark.parametrize("form", ["lines", "fold", "json", "jsonl"])
async def test_successful_replies_can_be_left_out_and_are_counted(capfdbinary, form):
    replies = [
        make_reply(0, "fine", peer="com.a"),
        make_reply(1, "bad", peer="com.b"),
        make_reply(None, "?", peer="com.c"),
    ]
    out, err = await shown(capfdbinary, *replies, format=form, failed=True)
    assert b"fine" not in out
    assert b"bad" in out
    assert b"?" in out
    assert err.splitlines()[0] == b"remaphore: 3 expected, 1 ok, 1 without exit code, 1 failed (id example)"


async def test_the_json_of_an_interrupted_request_has_a_flag_for_it(capfdbinary):
    out, err = await shown(
        capfdbinary, make_reply(0, "x", peer="com.a"), format="json", reason="interrupted", dropped=2
    )
    summary = json.loads(out)["summary"]
    assert (summary["interrupted"], summary["dropped"], summary["missing"]) == (True, 2, ["com.b", "com.c"])
    assert err.startswith(b"remaphore: interrupted: 3 expected, 1 ok, 2 missing (id example)\n")


async def test_settings_in_the_file_are_an_error():
    with pytest.raises(PluginError, match=r"\.format: unknown key"):
        await PluginHarness(ReplyCollector, settings={"format": "json"}).__aenter__()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(0, b"x"), "ok"),
        (Reply(0, b"remaphore: refused: not really"), "ok"),
        (Reply(1, b"x"), "failed"),
        (Reply(-1, b""), "failed"),
        (Reply(77, b"remaphore: refused: busy"), "rejected"),
        (Reply(77, b"my own 77"), "failed"),
        (Reply(None, b"NO_DATA"), "without_code"),
        (Reply(None, b"remaphore: refused: busy"), "without_code"),
    ],
)
def test_only_exit_code_0_is_a_success(reply, kind):
    assert classify(reply).kind == kind


def test_a_thousand_names_of_many_shapes_are_folded_once_for_each_group():
    stats = RequestStats(f"com.dc{number % 7}.rack{number % 40}.n{number}" for number in range(1000))
    stats.requested(stats.expected)
    (line,) = Fold(terminal=None, color=False).end(stats).decode().splitlines()
    assert line.endswith(" (1000): silent")


def test_a_request_in_lines_imports_no_json():
    heavy = "{'json', 'remaphore_plugins.reply_collector.json_formats', 'unicodedata'}"
    # Without the modules imported before: coverage imports json into each process.
    code = "import sys; before = set(sys.modules); import remaphore_plugins.reply_collector;"
    code += f"print({heavy} & (set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
