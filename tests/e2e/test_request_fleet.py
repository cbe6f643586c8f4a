"""What a user sees of a request to 200 nodes: on terminals of several widths, in pipes, and for machines."""

import asyncio
import base64
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from remaphore_plugins.reply_collector.terminal import clip
from tests.harness.simulated import simulated
from tests.harness.terminal import Terminal
from tests.harness.waiting import until

# The receivers take seconds to start: the tests share them, in one process.
pytestmark = pytest.mark.xdist_group("many receivers")

NODES = 200
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "requests.schema.json").read_text())
RECORD = jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/record"}]})
DOCUMENT = jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/document"}]})
REJECTION = "remaphore: refused: verb-not-permitted: not among the verbs"
KINDS = {"request": 1, "reply": 180, "rejection": 17, "missing": 3, "summary": 1}
PROGRESS = "197/200 answered, 77 failed, waiting for com.db.198 com.db.199 com.db.200"
GROUPS = [
    "com.db.[1-120] (120): exit code 0",
    "  done",
    "com.db.[121-180] (60): failed (exit code 1)",
    "  no space left on device",
    "  see the log",
    "com.db.[181-197] (17): rejected (verb-not-permitted: not among the verbs)",
    "com.db.[198-200] (3): silent",
]
INTERRUPTED = [
    "remaphore: interrupted: 200 expected, 120 ok, 60 failed, 17 rejected, 3 missing (id x)",
    "remaphore: failed (exit code 1): com.db.[121-180]",
    "remaphore: rejected (verb-not-permitted: not among the verbs): com.db.[181-197]",
    "remaphore: silent: com.db.198, com.db.199, com.db.200",
]


def answer(number, message):
    if message.verb == "bytes":
        return 0, b"\xff\x00\x1b[31m\xc3\xa4\x7f"
    if message.verb == "large":
        return 0, b"x" * 20_000
    if message.verb == "fine":
        return 0, f"node {number} is fine"
    if number <= 120:
        return 0, "done\n"
    if number <= 180:
        return 1, "no space left on device\nsee the log"
    return (77, REJECTION) if number <= 197 else None


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    with simulated(tmp_path_factory.mktemp("many"), NODES, answer) as fleet:
        yield fleet


def ask(many, *words):
    """Return stdout, the lines of stderr and the exit code of a request to nodes that all answer."""
    command = [sys.executable, "-m", "remaphore", "request", "-c", str(many.config), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout, done.stderr.splitlines(), done.returncode


def unwrapped(screen):
    """The text without the ends of lines, which a terminal adds, and the spaces before them, which it does not show."""
    return screen.text.replace("\n", "").replace(" ", "")


def test_on_terminals_of_any_width_progress_is_one_line_and_then_three_groups_and_the_missing_are_on_one_screen(many):
    words = ("request", "-c", many.config, "--timeout", "0", "--id", "x", "--fold")
    screens = {columns: Terminal(*words, columns=columns, NO_COLOR="1") for columns in (20, 80, 200)}
    with screens[20], screens[80], screens[200]:
        for columns, screen in screens.items():
            screen.wait_for("197/200 answered")
            expected = [clip(PROGRESS, columns - 1)]
            screen.wait_for(lambda screen, lines=expected: [line for line in screen.shown if line] == lines)
        for columns, screen in screens.items():
            screen.interrupt()
            assert screen.finish() == 130
            assert unwrapped(screen) == "".join([*GROUPS, *INTERRUPTED]).replace(" ", "")
            assert columns < 80 or screen.shown[0] == GROUPS[0]  # nothing has scrolled away
        assert screens[200].text.split("\n") == [*GROUPS, *INTERRUPTED]


def ask_into_a_file(many, path, *words):
    """Return stdout and the lines of stderr of a request that is interrupted after the last reply that comes."""
    words = ("request", "-c", many.config, "--timeout", "0", "--id", "x", *words)
    with path.open("wb") as file, Terminal(*words, columns=200, stdout=file, NO_COLOR="1") as screen:
        screen.wait_for("197/200 answered")
        screen.interrupt()
        assert screen.finish() == 130
    return path.read_text(), screen.text.split("\n")


def test_in_files_all_formats_tell_the_same_without_escapes(many, tmp_path):
    wishes = {form: (form,) for form in ("--fold", "--json", "--jsonl")} | {
        "lines": ("--failed",),
        "failed": ("--failed", "--jsonl"),
    }
    asked = {name: ask_into_a_file(many, tmp_path / name, *words) for name, words in wishes.items()}
    for out, err in asked.values():
        assert err == INTERRUPTED
        assert "\x1b" not in out
    assert asked["--fold"][0].splitlines() == GROUPS
    assert_json_lines(asked["--jsonl"][0])
    assert_document(asked["--json"][0])
    lines = asked["lines"][0].splitlines()
    assert len([line for line in lines if re.match(r"com\.db\.\d+,1,", line)]) == 60
    assert len([line for line in lines if re.match(r"com\.db\.\d+,77,", line)]) == 17
    assert not [line for line in lines if ",0," in line]
    failed = [json.loads(line) for line in asked["failed"][0].splitlines()]
    assert Counter(record["kind"] for record in failed) == {**KINDS, "reply": 60}
    assert len(failed[-1]["ok"]) == 120


@pytest.mark.parametrize(
    ("words", "codes", "line"),
    [
        (("--require", "60%"), {0}, "200 expected, 120 required, 120 ok"),
        (("--require", "all", "--fail-fast"), {5, 6}, "200 expected, 200 required, "),  # by what comes first
        (("--require", "1", "--batch", "10"), {0}, "200 expected, 1 required, "),
        (("--require", "181", "--fail-fast", "--batch", "120"), {5}, "200 expected, 181 required, 120 ok"),
    ],
)
def test_a_requirement_ends_the_request_and_the_document_agrees(many, tmp_path, words, codes, line):
    command = ["--timeout", "0", "--json", "--save", str(tmp_path / "saved"), *words]
    out, err, found = ask(many, *command)
    assert found in codes
    assert err[0].startswith(f"remaphore: {line}")
    DOCUMENT.validate(json.loads(out))
    assert json.loads(out)["summary"] == json.loads((tmp_path / "saved").read_text())["summary"]
    summary = json.loads(out)["summary"]
    assert summary["met"] is (found == 0) is (len(summary["ok"]) >= summary["required"])
    kinds = ("ok", "without_code", "failed", "rejected", "missing", "not_asked")
    assert sorted(name for kind in kinds for name in summary[kind]) == sorted(summary["expected"])
    assert sorted(summary["missing"]) == sorted(each["peer"] for each in json.loads(out)["missing"])


def assert_json_lines(text):
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        RECORD.validate(record)
    kinds = [record["kind"] for record in records]
    assert Counter(kinds) == KINDS
    assert (kinds[0], kinds[-1], set(kinds[-4:-1])) == ("request", "summary", {"missing"})
    request, summary = records[0], records[-1]
    assert {record["request"] for record in records if "request" in record} == {request["hash"]}
    assert [name for kind in ("ok", "failed", "rejected", "missing") for name in summary[kind]] == request["expected"]
    rejected = next(record for record in records if record["kind"] == "rejection")
    assert (rejected["reason"], rejected["detail"]) == ("verb-not-permitted", "not among the verbs")
    assert rejected["output"] == REJECTION


def assert_document(text):
    document = json.loads(text)
    DOCUMENT.validate(document)
    assert {key: len(value) for key, value in document.items() if key != "summary"} == {
        "requests": 1, "receipts": 0, "replies": 180, "rejections": 17, "missing": 3
    }  # fmt: skip
    assert len(document["summary"]["ok"]) == 120


def test_the_progress_line_is_erased_before_each_reply(many):
    with Terminal("request", "-c", many.config, "--timeout", "20s", "--verb", "fine", NO_COLOR="1") as screen:
        assert screen.finish() == 0
    *replies, summary = screen.text.split("\n")
    assert sorted(replies) == sorted(f"com.db.{number},0,node {number} is fine" for number in range(1, NODES + 1))
    assert re.fullmatch(r"remaphore: 200 expected, 200 ok \(id [a-z2-7]{12}\)", summary)
    assert b"199/200 answered" in screen.raw


def test_the_progress_line_follows_the_width_of_the_window(many):
    words = ("--to", "com.db.12*", "--batch", "10", "--pause", "5s", "--timeout", "30s")
    with Terminal("request", "-c", many.config, *words, stdout=subprocess.DEVNULL) as screen:
        screen.wait_for("10/11 answered, 8 failed, 1 not asked yet")
        screen.resize(20)
        screen.finish()
    assert b"\r\x1b[K10/11 answered, 8 \xe2\x80\xa6\r" in screen.raw


@pytest.mark.parametrize(
    ("shell", "drawn"),
    [
        ('"$@" | cat', False),  # as jq and less, it writes to the same terminal
        ('exec 3<>"$(tty)"; set -m; "$@" & wait', False),  # the terminal controls the shell, and this is a job of it
        ('exec 3<>"$(tty)"; set -m; "$@"', True),
    ],
)
def test_progress_is_not_drawn_where_another_program_writes_to_the_same_terminal(many, shell, drawn):
    words = ("--to", "com.db.12*", "--verb", "fine", "--timeout", "30s")
    with Terminal("request", "-c", many.config, *words, shell=shell, columns=200, NO_COLOR="1") as screen:
        screen.finish()
    assert (b"answered" in screen.raw, b"\x1b[K" in screen.raw) == (drawn, drawn)
    assert len([line for line in screen.shown if line.endswith(" is fine")]) == 11
    assert "remaphore: 11 expected, 11 ok" in screen.text


def test_colour_is_for_terminals_that_support_it_and_users_who_want_it(many):
    def seen(**environment):
        words = ("request", "-c", many.config, "--to", "com.db.12*", "--timeout", "20s", "--fold")
        with Terminal(*words, **environment) as screen:
            screen.finish()
        return screen.raw

    red = b"\x1b[31mfailed (exit code 1)\x1b[0m"
    assert red in seen(TERM="xterm")
    assert red in seen(NO_COLOR="")
    assert b"\x1b[3" not in seen(NO_COLOR="1")
    assert b"\x1b" not in seen(TERM="dumb")


@pytest.mark.parametrize("option", ["--json", "--jsonl"])
def test_bytes_that_are_no_utf8_survive_json(many, option):
    out, _, _ = ask(many, option, "--verb", "bytes", "--to", "com.db.7")
    text = out if option == "--json" else out.splitlines()[1]
    parsed = json.loads(text)
    reply = parsed["replies"][0] if option == "--json" else parsed
    assert base64.b64decode(reply["output_base64"]) == b"\xff\x00\x1b[31m\xc3\xa4\x7f"
    assert reply["output"] == "\ufffd\x00\x1b[31m\u00e4\x7f"
    assert not re.search(r"[^\n\x20-\x7e]", out)


def test_a_rollout_stops_at_the_first_batch_with_a_failure_and_names_the_peers_that_were_not_asked(many):
    del many.received[:]
    out, err, code = ask(many, "--verb", "deploy", "--batch", "10%", "--stop-on-failure", "1", "--jsonl")
    assert code == 5
    records = [json.loads(line) for line in out.splitlines()]
    for record in records:
        RECORD.validate(record)
    summary = records[-1]
    assert summary["ok"] == [f"com.db.{number}" for number in range(1, 121)]
    assert summary["failed"] == [f"com.db.{number}" for number in range(121, 141)]
    assert summary["not_asked"] == [f"com.db.{number}" for number in range(141, 201)]
    assert err[-1] == "remaphore: not asked: com.db.[141-200]"
    numbers = [number for number, _, _ in many.received]
    assert sorted(numbers) == list(range(1, 141))
    for start in range(0, 140, 20):  # each batch was over before the next began
        assert sorted(numbers[start : start + 20]) == list(range(start + 1, start + 21))
    requests = [record for record in records if record["kind"] == "request"]
    assert all([request["to"]] == request["expected"] for request in requests)
    assert len({request["hash"] for request in requests}) == len(requests) == 140
    (id_,) = {request["id"] for request in requests}  # to find all batches in the logs of the nodes
    assert f"(id {id_})" in err[0]


# The product's limits are 64 and 8 MiB; here the replies have 4 MB.
SMALL_ROOM = """
from remaphore.cli import collecting, main
from remaphore.requesting import requester
collecting.MAX_BEHIND, requester.MAX_WAITING_BYTES = 65536, 1048576
main.command()
"""


def _used(pid):
    return tuple(path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


@pytest.mark.parametrize("words", [["-r", "-v", "large"], ["request", "--verb", "large", "--jsonl", "--save", "FILE"]])
def test_replies_for_a_reader_that_does_not_read_are_bounded_and_those_before_are_shown(many, tmp_path, words):
    saved = tmp_path / "saved"
    given = [str(saved) if word == "FILE" else word for word in words]
    command = [sys.executable, "-c", SMALL_ROOM, *given[:1], "-c", str(many.config), *given[1:]]
    seen = []  # it has received what it can once it has used no processor for some time, with all replies on their way
    answered = len(many.received) + NODES
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        asyncio.run(until(lambda: len(many.received) >= answered))
        asyncio.run(until(lambda: seen.append(_used(process.pid)) or (len(seen) > 30 and len({*seen[-30:]}) == 1)))
        shown, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    lost = re.search(r"^remaphore: error: replies lost: (\d+), because replies of 1 MiB wait", errors, re.MULTILINE)
    replies = shown.count("xxx\n") if words[0] == "-r" else shown.count('"reply"')
    assert 40 < replies < 150
    assert 0 < int(lost[1]) <= 200 - replies
    if words[0] != "-r":
        document = json.loads(saved.read_text())
        assert len(document["replies"]) == replies


@pytest.mark.parametrize("words", [["--json"], ["--jsonl", "--batch", "40"], ["--json", "--save", "FILE"]])
def test_replies_that_are_read_are_all_shown_however_large_they_are_together(many, tmp_path, words):
    given = [str(tmp_path / "saved") if word == "FILE" else word for word in words]
    command = [sys.executable, "-c", SMALL_ROOM, "request", "-c", str(many.config), "--verb", "large", *given]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.count("x" * 20_000)) == (0, 200)
