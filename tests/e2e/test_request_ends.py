"""How a request ends: exit codes, signals in every format, a reader that has gone, a full disk."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.simulated import simulated
from tests.harness.terminal import Terminal
from tests.harness.waiting import until

SECONDS = 60


def answer(number, message):
    """The payload says what each node replies: a letter for each number."""
    what = message.payload.decode()[number - 1]
    return {
        "o": (0, "done"),
        "f": (3, "broken"),
        "n": (None, "NO_DATA"),
        "r": (77, "remaphore: refused: busy"),
        "s": None,
        "@": (0, ""),
    }[what]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with simulated(tmp_path_factory.mktemp("three"), 3, answer) as fleet:
        yield fleet


def run(three, *words, word="request", timeout="1s", **options):
    options = {"stdout": subprocess.PIPE} | options
    command = [sys.executable, "-m", "remaphore", word, "-c", three.config, "--timeout", timeout, *words]
    return subprocess.run(
        list(map(str, command)),
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=SECONDS, check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "form", "code", "lenient"),
    [
        ("ooo", "--json", 0, 0),
        ("osf", "--jsonl", 4, 0),
        ("ofr", "--failed", 5, 0),
        ("noo", "--fold", 5, 0),  # NO_DATA, which a receiver without a script replies, is no success
        ("rrr", "--batch=2", 6, 1),
    ],
)
def test_the_exit_code_shows_what_failed_and_with_no_check_it_is_that_of_the_go_program(
    three, said, form, code, lenient
):
    # If every peer replies, there is time for all: the limit only ends a request that a peer does not answer.
    limit = "6s" if "s" in said else "30s"
    with ThreadPoolExecutor() as pool:
        codes = pool.map(
            lambda words: run(three, *words, said, timeout=limit).returncode,
            ((form,), ("--no-check", form)),
        )
    assert list(codes) == [code, lenient]


def test_in_a_shell_the_next_command_runs_only_after_success(three):
    lines = f'remaphore() {{ {sys.executable} -m remaphore "$@"; }}\n'
    for name, words in {
        "failed": "request -c {0} ofo",
        "failed in batches": "request -c {0} --batch 1 --stop-on-failure 1 ofo",
        "passed": "request -c {0} ooo",
        "flag": "-r -c {0} -t 30s ofo",
    }.items():
        lines += f"remaphore {words.format(three.config)} >/dev/null && echo {name}\n"
    done = subprocess.run(["sh", "-c", lines], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout.splitlines() == ["passed", "flag"]


@pytest.mark.parametrize(
    ("form", "number"),
    [
        ("lines", signal.SIGINT),
        ("--fold", signal.SIGHUP),
        ("--json", signal.SIGTERM),
        ("--jsonl", signal.SIGINT),
        *(
            pytest.param(form, number, marks=pytest.mark.long)
            for form in ("lines", "--fold", "--json", "--jsonl")
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        ),
    ],
)
def test_a_signal_leaves_complete_output_of_replies_and_names_the_missing_peers(three, form, number, tmp_path):
    words = () if form == "lines" else (form,)
    with (tmp_path / "out").open("wb") as out:
        command = (
            "request",
            "-c",
            three.config,
            "--timeout",
            "0",
            "--id",
            "release-42",
            *words,
            "--verb",
            "ping",
            "ofs",
        )
        with Terminal(*command, stdout=out, NO_COLOR="1", columns=200) as screen:
            screen.wait_for("2/3 answered, 1 failed, waiting for com.db.3")
            screen.process.send_signal(number)
            assert screen.finish() == 128 + number
    assert screen.text.split("\n") == [
        "remaphore: interrupted: 3 expected, 1 ok, 1 failed, 1 missing (id release-42)",
        "remaphore: failed (exit code 3): com.db.2",
        "remaphore: silent: com.db.3",
    ]
    text = (tmp_path / "out").read_text()
    assert text.endswith("\n")
    if form == "lines":
        assert sorted(text.splitlines()) == ["com.db.1,0,done", "com.db.2,3,broken"]
    elif form == "--fold":
        assert text.splitlines()[-1] == "com.db.3 (1): silent"
    else:
        records = [json.loads(line) for line in text.splitlines()] if form == "--jsonl" else []
        missing = json.loads(text)["missing"] if form == "--json" else records[-2:-1]
        assert [(record["kind"], record["peer"]) for record in missing] == [("missing", "com.db.3")]
        summary = json.loads(text)["summary"] if form == "--json" else records[-1]
        assert summary["interrupted"]
        assert (summary["ok"], summary["failed"], summary["missing"]) == (["com.db.1"], ["com.db.2"], ["com.db.3"])


def test_ctrl_c_between_batches_names_the_peers_that_were_not_asked(three):
    words = ("--batch", "1", "--pause", "1h", "--jsonl", "--verb", "ping", "ooo")
    with Terminal("request", "-c", three.config, *words, stdout=subprocess.DEVNULL, NO_COLOR="1") as screen:
        screen.wait_for("1/3 answered, 2 not asked yet")
        screen.interrupt()
        assert screen.finish() == 130
    assert screen.text.split("\n")[-1] == "remaphore: not asked: com.db.2, com.db.3"


@pytest.mark.parametrize(
    "words",
    [
        ("request", "--timeout", "0", "oso"),  # one peer is waited for without a limit: the first write must end it
        ("request", "--timeout", "0", "--jsonl", "oso"),
        ("request", "--fold", "ofo"),
        ("request", "--json", "ofo"),
        ("-r", "oso"),
    ],
)
def test_a_reader_that_has_gone_ends_it_at_once_without_a_word(three, words):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "remaphore", words[0], "-c", str(three.config), *words[1:]],
        stdout=writing, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, ["request", "--json", "--timeout", "0"]), (signal.SIGTERM, ["-r"])]
)
def test_a_signal_ends_it_without_a_word_while_its_reader_does_not_read(three, number, words):
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)))  # full
    before = len(three.received)
    asking = subprocess.Popen(
        [sys.executable, "-m", "remaphore", *words, "-c", str(three.config), "oso"],
        stdout=writing, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    os.close(writing)
    with asking, os.fdopen(reading, "rb"):
        asyncio.run(until(lambda: len(three.received) == before + 3))
        for _ in range(SECONDS):  # the first ends the request, the next what it is stuck in: the document
            asking.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                asking.wait(0.5)
                break
        asking.kill()
        assert (asking.returncode, asking.stderr.read()) == (128 + number, "")


def test_a_full_disk_is_an_error_and_no_success(three):
    with Path("/dev/full").open("wb") as full:
        done = run(three, "ooo", stdout=full, timeout="30s")
    assert done.returncode == 3
    assert done.stderr == (
        "remaphore: error: cannot write output: No space left on device\n"
        "remaphore: hint: free some space and run the command again\n"
    )


def test_like_the_go_program_a_request_writes_nothing_to_stderr_and_reads_its_payload_literally(three):
    done = subprocess.run(
        [sys.executable, "-m", "remaphore", "-r", "-c", three.config, "-D", "com.db.1", "-t", "30s", "-v", "x", "@oo"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert three.received[-1] == (1, "x", b"@oo")
    assert (done.returncode, done.stdout, done.stderr) == (0, "com.db.1,0,\n", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_output_that_was_closed_before_the_start_is_lost_and_no_error(three, closed):
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {closed}', "bash", sys.executable, "-m", "remaphore", "request", "-c", three.config,
         "--timeout", "30s", "--check", "--id", "x", "ooo"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
    )  # fmt: skip
    lines = [f"com.db.{number},0,done" for number in (1, 2, 3)]
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ([] if closed.startswith(">") else lines)
    assert done.stderr == ("" if "2" in closed else "remaphore: 3 expected, 3 ok (id x)\n")


def test_the_summary_is_for_the_word_alone(three):
    done = run(three, "--id", "x", "oro", timeout="30s")
    assert done.stderr.splitlines() == [
        "remaphore: 3 expected, 2 ok, 1 rejected (id x)",
        "remaphore: rejected (busy): com.db.2",
    ]


def test_a_rollout_waits_for_a_silent_node_as_long_as_the_limit_says_and_counts_it(three):
    done = run(three, "--batch", "1", "--stop-on-failure", "2", "--jsonl", "sfo", timeout="5s")
    assert done.returncode == 4
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["missing"], summary["failed"], summary["not_asked"]) == (["com.db.1"], ["com.db.2"], ["com.db.3"])
