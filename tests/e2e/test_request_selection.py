"""Requests and messages to several destinations: who gets a message, what is saved, and asking again."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from remaphore.requesting.rollout import OPENING
from tests.harness.processes import Process
from tests.harness.simulated import Crowd, simulated
from tests.harness.terminal import Terminal
from tests.harness.waiting import until

NODES = 3 * OPENING + 12
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "requests.schema.json").read_text())
DOCUMENT = jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/document"}]})


def answer(number, message):
    """The payload says what the first nodes reply, a letter for each; the others succeed."""
    said = message.payload.decode().ljust(number, "o")[number - 1]
    return {"o": (0, "done"), "f": (3, "broken"), "r": (77, "remaphore: refused: busy"), "s": None}[said]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    with simulated(tmp_path_factory.mktemp("crowd"), NODES, answer, Crowd) as fleet:
        yield fleet


@pytest.fixture
def run(crowd):
    """Return a function that runs a command; and it returns exit code, stdout and the lines of stderr."""
    crowd.received.clear()

    def run(*words, stdin=""):
        command = [sys.executable, "-m", "remaphore", words[0], "-c", crowd.config, "--verb", "deploy", *words[1:]]
        done = subprocess.run(
            list(map(str, command)), input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr.splitlines()

    return run


def numbers(crowd):
    """Return the numbers of the nodes that accepted a message, sorted, as often as they did; and forget them."""
    found = sorted(number for number, _, _ in crowd.received)
    crowd.received.clear()
    return found


def await_received(crowd, number):
    asyncio.run(until(lambda: len(crowd.received) >= number))


def test_hundreds_of_destinations_are_asked_at_once_each_with_a_message_of_its_own(crowd, run):
    code, out, err = run("request", "--to", "**", "--except", "com.db.[1-2]", "--jsonl", "--id", "release-42")
    assert (code, err) == (0, [f"remaphore: {NODES - 2} expected, {NODES - 2} ok (id release-42)"])
    assert numbers(crowd) == list(range(3, NODES + 1))
    records = [json.loads(line) for line in out.splitlines()]
    sent = {record["to"]: record["hash"] for record in records if record["kind"] == "request"}
    replied = {record["peer"]: record["request"] for record in records if record["kind"] == "reply"}
    assert sent == replied
    assert len(sent) == len(set(sent.values())) == NODES - 2
    assert {record["id"] for record in records if record["kind"] == "request"} == {"release-42"}
    assert records[-1]["expected"] == [f"com.db.{number}" for number in range(3, NODES + 1)]


def test_what_fold_prints_can_be_asked(crowd, run):
    code, out, err = run("request", "--to", "com.db.[1-11]", "--fold", "--check", "--timeout", "30s", "oofofrof")
    assert (code, err[0].partition(" (id ")[0]) == (5, "remaphore: 11 expected, 7 ok, 3 failed, 1 rejected")
    assert numbers(crowd) == list(range(1, 12))
    heads = [line.partition(" (")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert heads == ["com.db.[1-2,4,7,9-11]", "com.db.[3,5,8]", "com.db.6"]
    assert run("request", "--to", ",".join(heads[1:]))[0] == 0
    assert numbers(crowd) == [3, 5, 6, 8]


def test_a_repeated_option_sets_lists_and_exceptions_address_each_destination_once(crowd, run, tmp_path):
    (tmp_path / "list").write_text("# rack\ncom.db.[10-12]\n")
    words = (
        "--to",
        "com.db.7,com.db.3",
        "--to",
        "com.db.[2-3],com.db.20",
        "--to-file",
        tmp_path / "list",
        "--to-file",
        "-",
    )
    code, out, _ = run("request", *words, "--except", "com.db.11", stdin="com.db.5\n")
    assert (code, numbers(crowd)) == (0, [2, 3, 5, 7, 10, 12, 20])
    assert len(out.splitlines()) == 7
    code, _, err = run("send", *words, stdin="com.db.1\n")
    assert (code, err) == (0, [])
    await_received(crowd, 8)
    assert numbers(crowd) == [1, 2, 3, 7, 10, 11, 12, 20]


def test_send_reaches_hundreds_and_receivers_that_are_not_known(crowd, run):
    code, _, err = run("send", "--to", f"com.db.[1-{NODES}]", "--to", "com.db.**")
    assert (code, err) == (0, [])
    await_received(crowd, 2 * NODES)
    assert numbers(crowd) == sorted([*range(1, NODES + 1)] * 2)


def test_what_was_saved_is_asked_again_in_batches_until_all_have_succeeded(crowd, run, tmp_path):
    saved = tmp_path / "result.json"
    first = ("--to", "com.db.[1-12]", "--batch", "4", "--stop-on-failure", "2", "--save", saved, "--failed", "--fold")
    code, out, err = run("request", *first, "oofoor")
    assert (code, err[0].partition(" (id ")[0]) == (
        5,
        "remaphore: 12 expected, 6 ok, 1 failed, 1 rejected, 4 not asked",
    )
    assert [line.partition(" (")[0] for line in out.splitlines() if not line.startswith(" ")] == [
        "com.db.3", "com.db.6", "com.db.[9-12]"
    ]  # fmt: skip
    document = json.loads(saved.read_text())
    DOCUMENT.validate(document)
    assert len(document["replies"]) == 7, "--failed does not shorten what is saved"
    assert document["summary"]["not_asked"] == ["com.db.9", "com.db.10", "com.db.11", "com.db.12"]
    assert saved.stat().st_mode & 0o777 == 0o600
    numbers(crowd)

    code, out, err = run("request", "--retry", saved, "--save", saved, "--json", "--check", "oooooooofff")
    assert (code, err[0].partition(" (id ")[0]) == (5, "remaphore: 6 expected, 3 ok, 3 failed")
    assert numbers(crowd) == [3, 6, 9, 10, 11, 12]
    assert saved.read_text() == out

    assert run("request", "--retry", saved, "--save", saved, "--except", "com.db.10", "--check")[0] == 0
    assert numbers(crowd) == [9, 11]


def test_an_interrupted_request_is_saved_and_the_missing_are_asked_again(crowd, run, tmp_path):
    saved = tmp_path / "result.json"
    words = ("request", "-c", crowd.config, "--verb", "deploy", "--to", "com.db.[1-3]", "--batch", "2", "--save", saved)
    asking = Process((*words, "--timeout", "0", "--jsonl", "os"), command=(sys.executable, "-u", "-m", "remaphore"))
    try:
        kinds = []
        while kinds.count("request") < 2 or "reply" not in kinds:
            kinds.append(json.loads(asking.popen.stdout.readline())["kind"])
        assert asking.stop(signal.SIGINT)[0] == 130
    finally:
        asking.end()
    summary = json.loads(saved.read_text())["summary"]
    assert (summary["interrupted"], summary["ok"], summary["missing"], summary["not_asked"]) == (
        True, ["com.db.1"], ["com.db.2"], ["com.db.3"]
    )  # fmt: skip
    numbers(crowd)
    assert run("request", "--retry", saved, "--check")[0] == 0
    assert numbers(crowd) == [2, 3]


def test_what_is_not_saved_is_reported_after_the_replies(crowd, run, tmp_path):
    code, out, _ = run("request", "--to", "com.db.1,com.db.2", "--save", tmp_path / "nosuch" / "saved")
    assert (code, out, numbers(crowd)) == (2, "", [])
    folder = tmp_path / "folder"
    folder.mkdir()
    words = ("request", "-c", crowd.config, "--to", "com.db.[1-2]", "--save", folder / "saved", "--timeout", "0", "os")
    asking = Process(words, command=(sys.executable, "-u", "-m", "remaphore"))
    try:
        await_received(crowd, 2)
        assert asking.popen.stdout.readline() == "com.db.1,0,done\n"
        folder.rmdir()
        code, out = asking.stop(signal.SIGINT)
    finally:
        asking.end()
    assert (code, out) == (130, "")
    assert asking.lines[-2].endswith("saved: cannot be written: No such file or directory")
    assert "its replies are not saved" in asking.lines[-1]


def test_the_progress_counts_all_messages(crowd):
    words = ("request", "-c", crowd.config, "--to", "com.db.[1-3],com.db.10", "--timeout", "0", "oos")
    with Terminal(*words, columns=120, NO_COLOR="1") as screen:
        screen.wait_for("3/4 answered, waiting for com.db.3")
        screen.interrupt()
        assert screen.finish() == 130
        assert "interrupted: 4 expected, 3 ok, 1 missing" in screen.text
