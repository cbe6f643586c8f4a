"""`remaphore explain`, as an administrator types it. It needs no broker, and starts nothing."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.cli import main as cli
from remaphore.cli.commands.hooks import format_steps
from remaphore.protocol.gate import CHECKS
from remaphore.receiving.default_reply import BUILT_IN
from tests.harness.factories import NOW, make_encoded, make_key
from tests.harness.fleet import SECONDS, Fleet

VERDICTS = json.loads((Path(__file__).parents[1] / "vectors" / "original.json").read_text())["verdicts"]
AT = ("--at", NOW)
NAMES = [check.name for check in CHECKS]


@pytest.fixture
def offline(tmp_path):
    """A fleet without a broker: its configurations name one that is not there, and no file of theirs is needed."""
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    return Fleet(tmp_path, server="nats://127.0.0.1:1", credentials=str(tmp_path / "nosuch.creds"))


@pytest.fixture
def config(offline):
    """The configuration of node two, which lets one and three send it `ping` and `deploy`."""
    return offline.config("two", peer_verbs="ping,deploy")


@pytest.fixture
def message(tmp_path):
    """Writes messages: message(number, **fields) returns the path of a message from `make_key(number)`."""

    def write(number=1, name="message", **fields):
        path = tmp_path / name
        path.write_bytes(make_encoded(number, **fields))
        return path

    return write


def in_a_process(*words):
    command = [sys.executable, "-m", "remaphore", "explain", *map(str, words)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)


def explain(*words, stdin=b""):
    """Do the same in this process, in a tenth of the time."""
    streams = [io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8") for raw in (stdin, b"", b"")]
    with pytest.MonkeyPatch.context() as patch:
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        code = cli.main(["explain", *map(str, words)])
    for stream in streams[1:]:
        stream.flush()
    return subprocess.CompletedProcess(words, code, *(stream.buffer.getvalue() for stream in streams[1:]))


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def checks(done):
    """The lines of the checks: name, state, the rest."""
    lines = done.stdout.decode().splitlines()[1 : len(NAMES) + 1]
    return [(line[2:16].strip(), line[16:30].strip(), line[30:]) for line in lines]


def test_an_accepted_message_passes_every_check_and_exits_0(config, message):
    done = in_a_process("-c", config, *AT, message())
    assert (done.returncode, done.stderr) == (0, b"")
    assert [check[:2] for check in checks(done)] == [(name, "passed") for name in NAMES]
    assert done.stdout.decode().splitlines()[0].endswith("bytes: accepted")


def test_a_rejected_message_exits_1_and_names_the_line_that_decided(config, message):
    done = explain("-c", config, *AT, message(verb="reboot"))
    assert (done.returncode, done.stderr) == (1, b"")
    assert [state for _, state, _ in checks(done)] == ["passed"] * 5 + ["failed"] + ["not reached"] * (len(NAMES) - 6)
    assert checks(done)[5][2] == f"{config}: peers[0].verbs  not among the peer's verbs"
    text = done.stdout.decode()
    assert "bytes: dropped, verb-not-permitted\n" in text
    assert "claimed by the sender and not verified" in text
    assert "would run" not in text


def test_a_legacy_configuration_is_named_by_its_line(offline, message):
    config = offline.config("two", form="conf", peer_verbs="ping")
    number = config.read_text().splitlines().index(f"org.example.three {make_key(3).public} [ping]") + 1
    done = explain("-c", config, *AT, message(3, verb="reboot"))
    assert done.returncode == 1
    assert checks(done)[NAMES.index("verb")][2].split("  ")[0] == f"{config}:{number}"


def test_what_would_run_is_listed_and_not_run(offline, config, message):
    folder = offline.folder / "hooks.d" / "deploy"
    folder.mkdir(parents=True, mode=0o755)
    for name, mode in {"10-go": 0o755, "20-off": 0o644}.items():
        (folder / name).write_text(f"#!/bin/sh\ntouch {offline.folder}/ran\n")
        (folder / name).chmod(mode)
    words = ("-c", config, "--hooks", offline.folder / "hooks.d", *AT, message(verb="deploy", payload=b"v 42"))
    done = explain(*words)
    run, skip = done.stdout.decode().partition("would run:\n")[2].splitlines()
    assert run == f"  run    {folder}/10-go deploy 'v 42'"
    assert skip.startswith("  skip   20-off: ")
    (row,) = rows(explain("--json", *words))
    assert [(step["action"], step["name"]) for step in row["steps"]] == [("run", "10-go"), ("skip", "20-off")]
    assert row["steps"][0]["argv"] == [f"{folder}/10-go", "deploy", "v 42"]
    assert not (offline.folder / "ran").exists()


def test_json_is_one_object_a_message_with_verdict_and_reason(config, message):
    files = [message(name="good"), message(9, name="stranger"), message(name="garbage")]
    files[2].write_bytes(b"\xff\n")
    done = explain("-c", config, "--json", *AT, *files)
    assert done.returncode == 1
    assert [(row["source"], row["verdict"], row["reason"], row["contents"]) for row in rows(done)] == [
        (str(files[0]), "accepted", None, "verified"),
        (str(files[1]), "dropped", "unknown-sender", "claimed"),
        (str(files[2]), "dropped", "malformed", "claimed"),
    ]
    assert [[check["check"] for check in row["checks"]] for row in rows(done)] == [NAMES] * 3
    assert rows(done)[0]["fields"] == {
        "sender": make_key(1).public,
        "peer": "com.example.one",
        "destination": "**",
        "verb": "ping",
        "time_ns": NOW,
        "id": "uuid",
        "id_hex": b"uuid".hex(),
        "wants_reply": False,
        "payload_bytes": 0,
    }
    assert [row["exact"] for row in rows(done)] == [False] * 3
    assert rows(done)[2]["fields"] is None


def test_stdin_is_one_message_whatever_is_in_its_payload(config):
    raw = make_encoded(payload=b"a\nb\r\n\0,\n")
    for words in ((), ("-",)):
        (row,) = rows(explain("-c", config, "--json", *AT, *words, stdin=raw))
        assert (row["source"], row["size"], row["verdict"]) == ("stdin", len(raw), "accepted")


def test_base64_is_one_message_a_line_and_the_second_copy_is_a_duplicate(config):
    lines = [base64.b64encode(make_encoded(payload=text)) for text in (b"a\n", b"b", b"a\n")]
    done = explain("-c", config, "--base64", "--json", *AT, stdin=b"\n".join(lines) + b"\n")
    assert done.returncode == 1
    assert [(row["source"], row["reason"]) for row in rows(done)] == [
        ("stdin:1", None),
        ("stdin:2", None),
        ("stdin:3", "duplicate"),
    ]


def test_all_vectors_in_one_call_get_the_expected_verdicts(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(
        'destination = "com.node"\nservers = ["nats://127.0.0.1:1"]\nauth = "none"\nallow_skew = "1h"\n'
        f'[[identities]]\nkey = "{make_key(8).public}"\nprivate_key_file = "nosuch"\nverbs = ["*"]\n'
        f'[[peers]]\ndestination = "com.peer"\nkey = "{VERDICTS["peer_public_key"]}"\n'
        f"verbs = {json.dumps(VERDICTS['peer_verbs'])}\n"
    )
    path.chmod(0o600)
    lines = "".join(case["encoded_b64"] + "\n" for case in VERDICTS["cases"])
    done = explain(
        "-c", path, "-d", "--base64", "--json", "--at", VERDICTS["now_ns"], "--hooks", tmp_path, stdin=lines.encode()
    )
    assert [row["verdict"] for row in rows(done)] == [
        {"accepted": "accepted", "rejected": "dropped"}[case["expected"]] for case in VERDICTS["cases"]
    ]
    assert all(bool(row["reason"]) is (row["verdict"] == "dropped") for row in rows(done))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), None),
        (("-D", "**"), None),
        (("-D", "com.**"), "not-addressed"),
        (("-d",), None),
        (("-u", "uuid"), None),
        (("-u", "other"), "filtered"),
        (("-v", "status, ping"), None),
        (("-v", "status"), "filtered"),
        (("-p", make_key(1).public), None),
        (("-p", make_key(3).public), "filtered"),
    ],
)
def test_the_receivers_filters_are_taken_into_account(config, message, words, reason):
    (row,) = rows(explain("-c", config, "--json", *AT, *words, message()))
    assert row["reason"] == reason


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("1700000030", None),
        ("1700000030.000000001", "outside-window"),
        ("1699999969.9", "outside-window"),
        ("1700000030000000000", None),
        ("1700000030000000001", "outside-window"),
    ],
)
def test_the_time_of_arrival_is_given_in_seconds_or_nanoseconds(config, message, at, reason):
    (row,) = rows(explain("-c", config, "--json", "--at", at, message()))
    assert row["reason"] == reason


def test_without_a_time_it_is_now(config, message):
    (row,) = rows(explain("-c", config, "--json", message()))
    assert row["reason"] == "outside-window"


def test_nothing_of_a_message_reaches_the_terminal_raw(offline, config, message):
    hooks = offline.folder / "hooks.d"
    (hooks / "deploy").mkdir(parents=True, mode=0o755)
    (hooks / "deploy" / "10-go").write_text("#!/bin/sh\n")
    (hooks / "deploy" / "10-go").chmod(0o755)
    evil = "\x1b]0;title\x07\x9b31m\u202e\r"
    files = [
        message(name="claimed\x1b[2J", verb=f"v{evil}", destination=f"com.{evil}"),
        message(name="payload", verb="deploy", payload=evil.encode() + b"\xff\xc2\x9b"),
    ]
    garbage = offline.folder / "garbage"
    garbage.write_bytes(make_encoded(1, verb=evil).replace(make_key(1).public.encode(), b"\x1b[31m" * 100, 1))
    done = explain("-c", config, "--hooks", hooks, *AT, *files, garbage)
    text = done.stdout.decode()
    assert {"accepted", "dropped"} <= {word.strip(",") for word in text.split()}
    assert "\\x1b]0;title" in text
    assert text.isascii()
    assert all(character.isprintable() for line in text.split("\n") for character in line)


def test_a_long_claim_is_cut(config, tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"k" * 100_000 + make_encoded(1)[44:])
    done = explain("-c", config, *AT, path)
    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) < 400


# Questions without a message.


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--from", "com.example.one"), None),
        (("--from", make_key(1).public, "--verb", "deploy", "--to", "com.example.*"), None),
        (("--from", "com.example.one", "--verb", "reboot"), "verb-not-permitted"),
        (("--from", "com.example.one", "--to", "org.**"), "not-addressed"),
        (("--from", make_key(9).public), "unknown-sender"),
        (("--from", "com.example.two"), "own-message"),
        (("--from", "com.example.one", "-u", "backup"), None),
        (("--from", "com.example.one", "-v", "deploy"), "filtered"),
    ],
)
def test_a_question_is_answered_without_a_message(config, words, reason):
    done = explain("-c", config, "--json", *words)
    (row,) = rows(done)
    assert (row["reason"], row["contents"]) == (reason, "hypothetical")
    assert done.returncode == (1 if reason else 0)


def test_a_question_says_what_it_supposes(config):
    text = explain("-c", config, "--from", "com.example.one").stdout.decode()
    assert text.startswith("ping from com.example.one to **: accepted\n")
    assert "assumed: there is no message whose signature could be verified" in text
    assert "fields, hypothetical" in text
    assert "would run:\n  nothing: the daemon itself answers a request, with its version and uptime\n" in text


def test_only_what_has_a_built_in_reply_is_answered_by_the_daemon_itself():
    for verb in BUILT_IN:
        assert "the daemon itself answers" in format_steps([], verb)
    assert format_steps([], "pings") == "  nothing: a request is answered with exit code 127\n"


def test_each_of_several_destinations_is_asked_about(config):
    done = explain("-c", config, "--json", "--from", "com.example.one", "--to", "org.x", "--to", "com.example.[1-2],**")
    found = [(row["source"].partition(" to ")[2], row["reason"]) for row in rows(done)]
    assert found == [
        ("org.x", "not-addressed"), ("com.example.1", "not-addressed"), ("com.example.2", "not-addressed"), ("**", None)
    ]  # fmt: skip
    assert done.returncode == 1


def test_every_key_of_a_destination_is_asked_about(offline, config):
    extra = f'[[peers]]\ndestination = "com.example.one"\nkey = "{make_key(7).public}"\nverbs = ["status"]\n'
    config.write_text(config.read_text() + extra)
    done = explain("-c", config, "--json", "--from", "com.example.one", "--verb", "status")
    assert [row["reason"] for row in rows(done)] == ["verb-not-permitted", None]
    assert done.returncode == 1


def test_a_question_is_answered_as_the_daemon_acts(fleet):
    asker, config = fleet.config("one"), fleet.config("two", peer_verbs="ping,deploy")
    config.write_text(f'state_dir = "{fleet.folder}/state"\n' + config.read_text())
    hooks = fleet.folder / "hooks.d"
    for folder in (fleet.folder, fleet.folder.parent):
        folder.chmod(0o755)
    for verb in ("deploy", "reboot"):
        (hooks / verb).mkdir(parents=True)
        (hooks / verb / "10-say").write_text("#!/bin/sh\necho done\n")
        (hooks / verb / "10-say").chmod(0o755)
    fleet.start("run", "-c", config, "--hooks", hooks)
    for verb in ("deploy", "reboot"):
        answer = explain("-c", config, "--from", "com.example.one", "--verb", verb, "--to", "com.example.two")
        asked = fleet.run("request", "-c", asker, "--to", "com.example.two", "--verb", verb, "--timeout", "20s")
        assert ("com.example.two,0,done" in asked.stdout) is (answer.returncode == 0)
        assert answer.returncode == (0 if verb == "deploy" else 1)


# Mistakes.


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--from", "com.absent"), "'com.absent' is neither the destination of a peer nor a public key"),
        (("--from", "com.example.one", "--verb", "a,b"), "cannot contain a comma"),
        (("--from", "com.example.one", "message"), "--from cannot be combined with a message"),
        (("--from", "com.example.one", "--base64"), "--from cannot be combined with a message"),
        (("--verb", "ping"), "--verb and --to need --from"),
        (("--to", "**"), "--verb and --to need --from"),
        (("-d", "-D", "x"), "not allowed with"),
        (("-p", "nokey"), "the given public key does not parse"),
        (("--at", "yesterday"), "'yesterday' is not a Unix time"),
        (("--at", "-5"), "--at"),
        (("--at", "1.0000000001"), "is not a Unix time"),
        (("nosuch",), "nosuch: message: no such file"),
        (("--base64", "-"), "stdin: empty"),
    ],
)
def test_mistakes_exit_2_with_one_line(config, tmp_path, monkeypatch, words, part):
    monkeypatch.chdir(tmp_path)
    done = explain("-c", config, *words)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (2, b"")
    assert [line.split(": ")[1] for line in lines] == ["error", "hint"]
    assert part in lines[0]


def test_a_line_that_is_not_base64_is_named(config):
    good = base64.b64encode(make_encoded())
    done = explain("-c", config, "--base64", *AT, stdin=good + b"\n!!!\n")
    assert done.returncode == 2
    assert b"stdin:2: not base64" in done.stderr
