"""What a receiver accepts, what it runs, and with which arguments."""

import json
import os
import pwd

import pytest

from remaphore.cli.commands.receive import Receive, describe_wait
from remaphore.config.search import load
from tests.harness.factories import make_key
from tests.harness.fleet import DESTINATIONS
from tests.harness.terminal import Terminal


def receive_one(fleet, receiver, *sending):
    """Send messages, of which some should be dropped; return the verbs and payloads for which the script ran."""
    for words in sending:
        assert fleet.run(*words).returncode == 0
    receiver.wait_for("message_handled")
    receiver.stop()
    return (fleet.folder / "ran").read_text().splitlines()


@pytest.fixture
def note(fleet):
    """A script that notes its arguments."""
    return fleet.script(f'echo "$*" >> {fleet.folder}/ran')


def test_only_wanted_verbs_are_accepted(fleet, nodes, note):
    receiver = fleet.start("-c", nodes["two"], "-v", "deploy, status", note)
    send = ("-c", nodes["one"], "-s", "-v")
    assert receive_one(fleet, receiver, (*send, "ping", "no"), (*send, "deploy,x", "yes")) == ["deploy yes"]


def test_only_the_wanted_sender_is_accepted(fleet, nodes, note):
    receiver = fleet.start("-c", nodes["two"], "-p", make_key(3).public, note)
    ran = receive_one(fleet, receiver, ("-c", nodes["one"], "-s", "no"), ("-c", nodes["three"], "-s", "yes"))
    assert ran == ["ping yes"]


def test_only_messages_to_our_destination_are_accepted(fleet, nodes, note):
    receiver = fleet.start("-c", nodes["two"], note)
    send = ("-c", nodes["one"], "-s", "-D")
    ran = receive_one(fleet, receiver, (*send, "org.**", "no"), (*send, "com.example.*", "yes"))
    assert ran == ["ping yes"]


def test_with_d_the_destination_is_not_looked_at(fleet, nodes, note):
    receiver = fleet.start("-c", nodes["two"], "-d", note)
    assert receive_one(fleet, receiver, ("-c", nodes["one"], "-s", "-D", "org.x", "yes")) == ["ping yes"]


def test_with_a_pattern_only_exactly_that_pattern_is_accepted(fleet, nodes, note):
    receiver = fleet.start("-c", nodes["two"], "-D", "org.*", note)
    send = ("-c", nodes["one"], "-s", "-D")
    ran = receive_one(fleet, receiver, (*send, "**", "no"), (*send, "com.example.two", "no"), (*send, "org.*", "yes"))
    assert ran == ["ping yes"]


def test_another_subject_is_another_world(fleet, nodes, note):
    receiver = fleet.start("-c", nodes["two"], "-S", "blue", note)
    send = ("-c", nodes["one"], "-s")
    assert receive_one(fleet, receiver, (*send, "no"), (*send, "-S", "blue", "yes")) == ["ping yes"]


def test_once_ends_after_the_first(fleet, nodes, note):
    receiver = fleet.start("-c", nodes["two"], "-o", note)
    fleet.run("-c", nodes["one"], "-s", "first")
    assert receiver.finish() == (0, "")
    assert (fleet.folder / "ran").read_text() == "ping first\n"


def test_a_verb_that_the_peer_may_not_send_is_not_run_and_named(fleet, nodes, note):
    careful = fleet.config("two", peer_verbs="ping")
    receiver = fleet.start("-c", careful, note)
    wipe = ("-c", nodes["one"], "-s", "-v", "wipe", "-D", "com.example.two")
    assert receive_one(fleet, receiver, wipe, ("-c", nodes["one"], "-s", "yes")) == ["ping yes"]
    assert "reason=verb-not-permitted" in receiver.wait_for("message_dropped")


def test_messages_of_the_node_itself_are_no_alarm(fleet, nodes, note):
    own = fleet.config("two", form="conf")
    receiver = fleet.start("-c", own, note)
    send = ("-c", own, "-s")
    assert receive_one(fleet, receiver, send, (*send, "-D", "com.example.two"), ("-c", nodes["one"], "-s", "yes")) == [
        "ping yes"
    ]
    assert not [line for line in receiver.lines if "message_dropped" in line]


def test_a_node_that_is_its_own_peer_asks_itself(fleet, nodes, note):
    own = fleet.config("two", form="conf", peers=["one", "two"], peer_verbs="ping")
    receiver = fleet.start("-c", own, fleet.script("echo itself"))
    done = fleet.run("-c", own, "-r", "-D", "com.example.two")
    assert (done.returncode, done.stdout) == (0, "com.example.two,0,itself\n")
    fleet.run("-c", own, "-s", "-v", "wipe", "-D", "com.example.two")
    assert "reason=verb-not-permitted" in receiver.wait_for("message_dropped")


def test_the_script_gets_its_arguments_and_exactly_this_environment(fleet, nodes):
    script = fleet.script(f'env -0 > {fleet.folder}/env; printf "%s\\n" "$@" "$PWD" > {fleet.folder}/args; cat')
    receiver = fleet.start("-c", nodes["two"], "-o", script, "a b", "-x", cwd=fleet.folder)
    fleet.run("-c", nodes["one"], "-s", "-u", "upload", "-v", "Deploy", "pay", "load")
    assert receiver.finish() == (0, "")
    assert (fleet.folder / "args").read_text().splitlines() == ["a b", "-x", "Deploy", "pay load", str(fleet.folder)]
    seen = dict(entry.partition("=")[::2] for entry in (fleet.folder / "env").read_text().split("\0") if entry)
    assert seen.pop("REMAPHORE_TIME").isdecimal()
    assert seen.pop("PATH")
    user = pwd.getpwuid(os.geteuid())
    assert (seen.pop("HOME"), seen.pop("USER"), seen.pop("LOGNAME")) == (user.pw_dir, user.pw_name, user.pw_name)
    assert {name: value for name, value in seen.items() if name not in ("PWD", "SHLVL", "_", "OLDPWD")} == {
        "REMAPHORE_SENDER": make_key(1).public,
        "REMAPHORE_VERB": "Deploy",
        "REMAPHORE_UUID": b"upload".hex(),
        "REMAPHORE_MSG": "pay load",
        "REMAPHORE_DESTMATCH": DESTINATIONS["two"],
        "REMOPHORE_DESTMATCH": DESTINATIONS["two"],
    }


def test_with_d_the_script_gets_no_destination(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"], "-d", "-o", fleet.script(f"env > {fleet.folder}/env"))
    fleet.run("-c", nodes["one"], "-s", "-D", "**")
    assert receiver.finish() == (0, "")
    assert "DESTMATCH" not in (fleet.folder / "env").read_text()


@pytest.mark.parametrize("command", ["exit 7", "kill -9 $$"])
def test_a_failing_script_does_not_change_the_exit_code(fleet, nodes, command):
    receiver = fleet.start("-c", nodes["two"], "-o", fleet.script(command))
    fleet.run("-c", nodes["one"], "-s")
    assert receiver.finish() == (0, "")


def test_what_a_script_writes_is_not_on_stdout(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"], "-o", fleet.script("echo out; echo err >&2"))
    fleet.run("-c", nodes["one"], "-s")
    assert receiver.finish() == (0, "")


def test_a_script_that_runs_past_the_time_is_killed_and_answered_and_the_exit_code_is_0(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"], "-t", "4s", fleet.script("echo begun; sleep 600"))
    asked = fleet.run("-c", nodes["one"], "-r", "-D", "com.example.two", "-t", "20s")
    assert asked.stdout == "com.example.two,-1,begun\n"
    assert receiver.finish() == (0, "")


def test_logs_can_be_json_lines(fleet, nodes):
    receiver = fleet.start("receive", "-c", nodes["two"], "--once", "--log-format", "json")
    fleet.run("-c", nodes["one"], "-s")
    assert receiver.finish() == (0, "")
    assert [json.loads(line)["event"] for line in receiver.lines] == ["Ready", "message_received", "message_handled"]


def test_a_script_called_like_a_word_is_run_after_two_dashes(fleet, nodes):
    fleet.script(f"echo ran > {fleet.folder}/ran", name="send")
    receiver = fleet.start("-c", nodes["two"], "-o", "--", "./send", cwd=fleet.folder)
    fleet.run("-c", nodes["one"], "-s")
    assert receiver.finish() == (0, "")
    assert (fleet.folder / "ran").read_text() == "ran\n"


@pytest.mark.parametrize("words", [[], ["receive", "--once", "--verb", "deploy"]])
def test_on_a_terminal_it_says_for_what_it_waits_and_how_to_end_it(fleet, nodes, words):
    with Terminal(*words, REMAPHORE_CONFIG=str(nodes["two"]), columns=200) as screen:
        screen.wait_for("Ready")
        first = screen.shown[0]
        screen.interrupt()
        assert screen.finish() == 130
    what, them = ("the first message with the verb deploy", "it") if words else ("messages", "them")
    assert first == (
        f"remaphore: waiting for {what} to com.example.two on the subject remaphore.all to log {them}, without a"
        " script; Ctrl-C ends it, remaphore --help lists the commands"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"id": "x", "once": True},
            "the first message with the id 'x' to com.example.two on the subject remaphore.all",
        ),
        ({"verbs": ("a", "b"), "pattern": "com.**"}, "messages with the verb a or b to com.** on the subject "),
        (
            {"any_destination": True, "key": "K", "subject": "blue"},
            "signed by K to any destination on the subject rema",
        ),
        ({"script": ("./deploy.sh", "now")}, "on the subject remaphore.all to run ./deploy.sh; Ctrl-C ends it"),
    ],
)
def test_what_it_waits_for_is_what_its_options_say(nodes, options, text):
    assert text in describe_wait(Receive(**options), load(str(nodes["two"]), {}))


def test_a_script_that_is_missing_is_named_at_once_by_the_command_and_not_by_the_flags(fleet, nodes):
    for words, script in (("receive", "nosuch"), ("receive", "./nosuch"), ("-o", "nosuch")):
        receiver = fleet.start(words, "-c", nodes["two"], script)
        receiver.wait_for("Ready")
        receiver.stop()
        warned = [line for line in receiver.lines if "warning: there is no program" in line]
        assert len(warned) == (words == "receive"), receiver.lines
        assert all(repr(script) in line and "until there is one" in line for line in warned)
