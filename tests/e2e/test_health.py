"""`check`, `doctor` and `ping`, as an administrator types them: fixed step by step until no problem is left."""

import json
import signal

import pytest

from remaphore.diagnostics.findings import Code
from tests.harness.factories import make_key
from tests.harness.fleet import DESTINATIONS, SECONDS
from tests.harness.machine import type_in

ONE, TWO, THREE = DESTINATIONS.values()
NASTY = "\\033]0;title\\007\\033[31mhello\\r from two"


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def codes(done, *levels):
    return [row["code"] for row in rows(done) if row["level"] in levels]


def until_lines(fleet, number, *words):
    """Run a command that waits after its last line; interrupt it after so many, and return exit code and lines."""
    process = fleet.start(*words, ready=None)
    lines = [process.popen.stdout.readline() for _ in range(number)]
    code, rest = process.stop(signal.SIGINT)
    return code, [*lines, *rest.splitlines(keepends=True)], process.lines


@pytest.fixture
def node(fleet):
    """Writes the configuration of a node that has all that a daemon needs: a state directory and a handler."""
    for folder in (fleet.folder, fleet.folder.parent):
        folder.chmod(0o755)

    def write(name, *, handler="echo hello", plugins=("permissions",), **changes):
        config = fleet.config(name, **changes)
        config.chmod(0o644)
        hooks = fleet.folder / f"{name}.hooks"
        (hooks / "ping").mkdir(parents=True, exist_ok=True)
        (hooks / "ping" / "10-hello").write_text(f"#!/bin/sh\n{handler}\n")
        (hooks / "ping" / "10-hello").chmod(0o755)
        head = f'state_dir = "{fleet.folder}/{name}.state"\nhooks = ["{hooks}"]\n'
        tail = f"[plugins]\nenable = {json.dumps(plugins)}\n"
        config.write_text(head + config.read_text() + tail)
        return config

    return write


def test_check_reports_what_is_wrong_and_succeeds_once_its_hints_are_followed(fleet, node):
    config = node("one")
    key = fleet.key_file("one")
    key.chmod(0o644)
    (fleet.folder / "one.hooks").chmod(0o777)
    done = fleet.run("check", "-c", config, "--json")
    wrong = [row for row in rows(done) if row["level"] in ("warning", "error")]
    assert (done.returncode, [row["code"] for row in wrong]) == (1, ["key-unusable", "handler-unsafe"])
    for row in wrong:
        type_in(row["hint"])
    done = fleet.run("check", "-c", config)
    assert done.returncode == 0
    levels = {line.split()[0] for line in done.stdout.splitlines()}
    assert levels <= {"ok", "note"}
    assert done.stderr.startswith("remaphore: ")


def test_check_says_that_a_daemon_runs_and_looks_at_its_ledger_meanwhile(fleet, node):
    config = node("two")
    daemon = fleet.start("run", "-c", config)
    (running,) = [row for row in rows(fleet.run("check", "-c", config, "--json")) if row["code"] == Code.DAEMON_RUNNING]
    assert f"(pid {daemon.popen.pid})" in running["what"]
    assert daemon.stop()[0] == 0
    after = rows(fleet.run("check", "-c", config, "--json"))
    assert Code.DAEMON_RUNNING not in {row["code"] for row in after}
    assert "ledger is valid" in {row["what"] for row in after}


def test_a_configuration_that_cannot_be_used_is_a_finding(fleet, node):
    config = node("one")
    config.write_text("destnation = 'x'\n" + config.read_text())
    done = fleet.run("check", "-c", config, "--json")
    assert done.returncode == 1
    (row,) = rows(done)
    assert (row["code"], row["where"]) == (Code.CONFIGURATION_UNUSABLE, str(config))
    assert "destnation: unknown key" in row["what"]
    config.write_text(config.read_text().replace("destnation = 'x'\n", ""))
    assert fleet.run("check", "-c", config).returncode == 0


def test_doctor_finds_both_directions_and_is_green_in_the_end(fleet, node):
    one = node("one", peers=["two"])
    two = node("two", peers=["three"])
    daemon = fleet.start("run", "-c", two)
    first = fleet.run("doctor", "-c", one, "--json", "--timeout", "1s")
    assert (first.returncode, codes(first, "error")) == (1, ["no-replies"])
    (silent,) = [row for row in rows(first) if row["code"] == Code.PEER_SILENT]
    key = make_key(1).public
    question = f"remaphore explain --from {key} --verb permissions --to={TWO}"
    assert question in silent["hint"]
    asked = fleet.run(*question.split()[1:], "-c", two)
    assert (asked.returncode, "sender        failed" in asked.stdout) == (1, True)
    # It does not know us: let it, but for another verb first.
    two.write_text(
        two.read_text().replace(
            "[plugins]", f'[[peers]]\ndestination = "{ONE}"\nkey = "{key}"\nverbs = ["ping"]\n[plugins]'
        )
    )
    daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for("reloaded")
    code, lines, _ = until_lines(fleet, 4, "doctor", "-c", one, "--json", "--timeout", "30s")
    assert (code, [json.loads(line)["code"] for line in lines[3:]]) == (0, ["permissions-rejected"])
    two.write_text(two.read_text().replace('["ping"]', '["ping", "permissions"]'))
    daemon.lines.clear()
    daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for("reloaded")
    code, lines, notices = until_lines(fleet, 3, "doctor", "-c", one, "--timeout", "30s")
    assert (code, notices) == (0, ["remaphore: no problems found"])
    assert [line.split()[:2] for line in lines] == [
        ["ok", f"{fleet.server}:"],
        ["ok", f"{fleet.server}:"],
        ["ok", f"{TWO}:"],
    ]
    assert "; we permit it *; it permits us permissions, ping; remaphore " in lines[2]
    assert ", login accepted, " in lines[0]


def test_doctor_names_a_missing_peer_and_exits_4_and_equal_findings_are_one_line(fleet, node):
    one = node("one")
    text = one.read_text()
    for number in range(4, 7):
        key = make_key(number).public
        text += f'[[peers]]\ndestination = "com.example.web{number}"\nkey = "{key}"\nverbs = ["*"]\n'
    one.write_text(text)
    fleet.start("run", "-c", node("two"))
    done = fleet.run("doctor", "-c", one, "--timeout", "3s")
    silent = f"warning  com.example.web[4-6],{THREE} (4): no reply within 3 s; we permit it *."
    assert done.returncode == 4
    assert [line.startswith(silent) for line in done.stdout.splitlines()[2:]] == [False, True]
    assert done.stderr == "remaphore: 4 warnings\n"


def test_ping_names_a_machine_that_was_cloned_and_exits_1(fleet, node):
    one, two = node("one", peers=["two"]), node("two")
    (fleet.folder / "two.hooks" / "ping" / "10-hello").unlink()
    clone = fleet.folder / "clone.toml"
    clone.write_text(two.read_text().replace("two.state", "clone.state"))
    clone.chmod(0o644)
    fleet.start("run", "-c", two)
    fleet.start("run", "-c", clone)
    code, lines, notices = until_lines(fleet, 2, "ping", "-c", one, "--count", 1, "--timeout", "30s")
    assert code == 1
    assert [line.startswith(f"{TWO}: seq=1 (DUP) time=") for line in lines] == [False, True]
    assert all(" exit=0 remaphore " in line and ", instance main\n" in line for line in lines)
    assert notices[0] == "remaphore: 1 ping, 1 of 1 answers"
    assert notices[2].startswith(f"remaphore: error: {TWO}: 2 machines reply as this peer, with the same key, and ")
    assert notices[3].startswith("remaphore: hint: if one machine is a copy of another, ")


def test_ping_shows_live_lines_and_nothing_of_a_reply_raw(fleet, node):
    one = node("one", peers=["two"])
    fleet.start("run", "-c", node("two", handler=f"printf '{NASTY}'; echo; echo; remaphore 9.9"))
    words = ("ping", "-c", one, "--count", 2, "--interval", "1ms", "--timeout", "30s", TWO)
    code, lines, notices = until_lines(fleet, 2, *words)
    assert code == 0
    assert sorted(line.split()[:2] for line in lines) == [[f"{TWO}:", "seq=1"], [f"{TWO}:", "seq=2"]]
    assert all(
        " ms skew=" in line and " exit=127 \\x1b]0;title\\x07\\x1b[31mhello\\x0d from two" in line for line in lines
    )
    assert notices[0] == "remaphore: 2 pings, 2 of 2 answers"
    assert notices[1].startswith("remaphore: round trip min/avg/max ")


def test_ping_names_missing_peers_and_exits_4_or_1_if_no_peer_replies(fleet, node):
    one = node("one")
    two = fleet.start("run", "-c", node("two", handler="echo hello from two, remaphore 1.2.3"))
    ping = fleet.start("ping", "-c", one, "--interval", "1h", "--json", ready=None)
    reply = json.loads(ping.popen.stdout.readline())
    code, rest = ping.stop(signal.SIGINT)
    summary = json.loads(rest)
    assert code == 4
    assert (reply["kind"], reply["peer"], reply["exit_code"], reply["version"]) == ("reply", TWO, 0, "1.2.3")
    assert (summary["kind"], summary["missing"]) == ("summary", [THREE])
    assert summary["peers"] == {TWO: {"asked": 1, "answered": 1}, THREE: {"asked": 1, "answered": 0}}
    two.stop()
    unanswered = fleet.run("ping", "-c", one, "--count", 1, "--timeout", "100ms")
    assert (unanswered.returncode, unanswered.stdout) == (1, "")
    assert unanswered.stderr.splitlines() == [
        "remaphore: 1 ping, 0 of 2 answers",
        f"remaphore: missing: {TWO},{THREE}, 1 of 1",
    ]


def test_an_interrupt_ends_a_ping_with_its_summary(fleet, node):
    one = node("one", peers=["two"])
    fleet.start("run", "-c", node("two"))
    ping = fleet.start("ping", "-c", one, "--interval", "1h", ready=None)
    assert ping.popen.stdout.readline().startswith(f"{TWO}: seq=1 ")
    ping.popen.send_signal(signal.SIGINT)
    code, rest = ping.finish()
    assert (code, rest, ping.lines[0]) == (0, "", "remaphore: 1 ping, 1 of 1 answers")


def test_a_legacy_receiver_answers_a_ping_and_reports_nothing_to_doctor(fleet):
    one, two = fleet.config("one", peers=["two"]), fleet.config("two", form="conf")
    one.write_text(one.read_text() + 'compatibility = "legacy"\n')
    fleet.start("-c", two)
    code, lines, _ = until_lines(fleet, 1, "ping", "-c", one, "--count", 1, "--timeout", "30s")
    assert (code, lines[0].rstrip().endswith(" ms NO_DATA")) == (0, True)
    code, lines, _ = until_lines(fleet, 4, "doctor", "-c", one, "--json", "--timeout", "30s")
    assert (code, json.loads(lines[3])["code"]) == (0, "permissions-unavailable")


def test_a_reader_that_has_gone_ends_a_ping_as_it_ends_other_tools(fleet, node):
    one = node("one", peers=["two"])
    fleet.start("run", "-c", node("two"))
    ping = fleet.start("ping", "-c", one, "--interval", "1ms", ready=None)
    assert ping.popen.stdout.readline()
    ping.popen.stdout.close()
    ping.popen.wait(SECONDS)
    ping._reader.join(SECONDS)
    assert "Traceback" not in "\n".join(ping.lines)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("ping", "--count", "0"), "'0' is not a positive integer"),
        (("ping", "--interval", "0"), "'0' is not a positive duration"),
        (("doctor", "--timeout", "5"), "missing unit"),
        (("doctor", "com.two"), "unrecognized arguments: com.two"),
        (("check", "--fix"), "unrecognized arguments: --fix"),
        (("doctor", "-c", "nosuch.toml"), "nosuch.toml: configuration: no such file"),
    ],
)
def test_mistakes_exit_2_with_one_line(words, part, capsys):
    from remaphore.cli.main import main

    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert part in shown.err
    assert shown.err.count("error: ") == 1
