"""Bad input, as a user sees it: one line with what happened and its cause, and a hint how to fix it."""

import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from remaphore.protocol.keys import PrivateKey
from tests.harness.factories import make_key
from tests.harness.fleet import running_fleet


def rejected(done, code, *parts):
    """Check that a command ended with *code* and one line of error that holds all *parts*."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith(("remaphore: error: ", "remaphore: hint: "))]
    assert [line.split(": ")[1] for line in lines] in (["error"], ["error", "hint"]), done.stderr
    for part in parts:
        assert any(part in line for line in lines)
    assert "Traceback" not in done.stderr


@contextmanager
def silent_server():
    """A port that accepts connections and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_missing_configuration_names_the_places_and_a_hint(fleet):
    done = fleet.run("-s", "-c", fleet.folder / "nosuch.toml")
    rejected(done, 2, "nosuch.toml", "no such file", "remaphore -C")


def test_an_unreadable_configuration_is_named(fleet):
    rejected(fleet.run("-s", "-c", fleet.folder), 2, str(fleet.folder), "irectory")


def test_a_bad_key_is_named_by_its_path(fleet):
    path = fleet.config("one")
    path.write_text(path.read_text().replace(make_key(2).public, "0OIl"))
    rejected(fleet.run("-s", "-c", path), 2, "one.toml: peers[0].key", "base58")


def test_a_private_key_that_others_can_read_is_refused_with_the_chmod_line(fleet, nodes):
    secret = fleet.key_file("one")
    secret.chmod(0o644)
    rejected(fleet.run("-s", "-c", nodes["one"]), 2, str(secret), f"chmod 0600 {secret}")


def test_a_private_key_of_another_identity_is_refused_and_not_shown(fleet, nodes):
    other = PrivateKey.generate().reveal()
    fleet.key_file("one").write_text(other)
    done = fleet.run("-s", "-c", nodes["one"])
    rejected(done, 2, "one.key", "not to this identity")
    assert other not in done.stderr


def test_an_identity_without_the_verb_is_refused_with_the_verbs_that_it_has(fleet):
    path = fleet.config("one", verbs="ping,status")
    rejected(
        fleet.run("-s", "-c", path, "-v", "wipe"), 3, "no private key with sender permission", "ping, status", "'wipe'"
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["-D", "a,b"], "a destination cannot contain a comma: 'a,b'"),
        (["send-verb"], "a verb cannot contain a comma: 'a,b'"),
    ],
)
def test_a_comma_in_verb_or_destination_is_refused(fleet, nodes, words, what):
    line = (
        ["send", "-c", nodes["one"], "--verb", "a,b"] if words == ["send-verb"] else ["-s", "-c", nodes["one"], *words]
    )
    rejected(fleet.run(*line), 3, what)


def test_a_payload_over_the_limit_is_refused_with_both_numbers(fleet, nodes):
    done = fleet.run("-s", "-c", nodes["one"], *["x" * 100_000] * 11)
    rejected(done, 3, "message too large: 1100", "1048576")


@pytest.mark.parametrize(("mode", "name"), [("-s", "a.*"), ("-r", "a.>"), ("", "a b"), ("-s", "a..b"), ("-r", ".a")])
def test_a_subject_that_is_none_is_refused(fleet, nodes, name, mode):
    rejected(fleet.run(*mode.split(), "-c", nodes["one"], "-S", name), 2, repr(name))


@pytest.mark.parametrize("mode", ["-s", "-r"])
def test_a_broker_that_is_away_is_said_after_a_second_and_given_up_at_the_limit(fleet, mode):
    server = f"nats://127.0.0.1:{closed_port()}"
    path = fleet.config("one", server=server)
    words = [mode, "-t", "1500ms"] if mode == "-r" else ["send", "--timeout", "1500ms"]
    done = fleet.run(words[0], "-c", path, *words[1:])
    rejected(done, 3, server)
    assert any(server in line and "error: " not in line for line in done.stderr.splitlines())


def test_a_receiver_waits_for_its_broker_and_is_ready_when_it_comes(fleet):
    data = fleet.folder / "broker2"
    for_its_credentials = fleet.start("broker", "--data", data, "--port", 0, ready=None)
    for_its_credentials.popen.stdout.readline()
    for_its_credentials.stop()
    port = closed_port()
    path = fleet.config("two", server=f"nats://127.0.0.1:{port}", credentials=data / "remaphore.creds")
    receiver = fleet.start("-c", path, "-o", ready=f"127.0.0.1:{port}")
    fleet.start("broker", "--data", data, "--port", port, ready=None)
    receiver.wait_for("Ready")
    receiver.stop()


def test_a_receiver_whose_broker_never_comes_is_exit_1_at_the_time(fleet):
    path = fleet.config("two", server=f"nats://127.0.0.1:{closed_port()}")
    done = fleet.run("-c", path, "-t", "1500ms")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr


def test_a_silent_server_does_not_hang_a_sender(fleet):
    with silent_server() as server:
        done = fleet.run("send", "-c", fleet.config("one", server=server), "--timeout", "3s")
    rejected(done, 3, server)


def test_wrong_credentials_are_refused_at_once(fleet):
    other = fleet.start("broker", "--data", fleet.folder / "other", "--port", 0, ready=None)
    server = other.popen.stdout.readline().partition(": ")[2].strip()
    done = fleet.run("-s", "-c", fleet.config("one", server=server))
    rejected(done, 3, server, "uthorization")
    assert "no broker within" not in done.stderr  # at once: what is away would be tried for ten seconds


@pytest.mark.parametrize(
    ("mode", "code"), [(["send", "--timeout", "2s"], 3), (["-r", "-t", "2s"], 3), (["-o", "-t", "2s"], 1)]
)
def test_an_unknown_host_is_waited_for_until_the_timeout_and_named(fleet, mode, code):
    path = fleet.config("one", server="nats://no-such-host.invalid:4222")
    done = fleet.run(*mode, "-c", path)
    assert (done.returncode, done.stdout) == (code, "")
    assert "nats://no-such-host.invalid:4222: unknown host" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_credentials_file_is_refused_at_once(fleet):
    path = fleet.config("one", credentials=str(fleet.folder / "broker" / "nosuch.creds"))
    done = fleet.run("-s", "-c", path)
    assert done.returncode in (2, 3)
    assert "nosuch.creds" in done.stderr


def test_a_port_in_use_is_one_line_from_the_broker(fleet):
    port = fleet.server.rpartition(":")[2]
    done = fleet.run("broker", "--data", fleet.folder / "b2", "--port", port)
    rejected(done, 3, port)


def test_a_name_service_that_never_answers_does_not_keep_a_sender_beyond_its_limit(fleet):
    path = fleet.config("one", server="nats://broker.example:4222")
    hang = "import socket, sys, threading; socket.getaddrinfo = lambda *_, **_options: threading.Event().wait()"
    words = ["remaphore", "send", "-c", str(path), "--timeout", "100ms"]
    code = f"{hang}; sys.argv = {words}; from remaphore.cli.main import command; command()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    rejected(done, 3, "no broker within 0.1 s")


@pytest.fixture
def separate(tmp_path):
    """A fleet whose broker a test may stop."""
    with running_fleet(tmp_path) as fleet:
        yield fleet


def test_a_receiver_survives_a_restart_of_its_broker(separate):
    port = int(separate.server.rpartition(":")[2])
    one, two = separate.config("one"), separate.config("two")
    receiver = separate.start("-c", two, "-o")
    separate.processes[0].stop()
    receiver.wait_for("broker")
    again = separate.start("broker", "--data", separate.folder / "broker", "--port", port, ready=None)
    again.popen.stdout.readline()
    stop = threading.Event()

    def keep_sending():  # what is sent before the receiver is back is lost, as NATS has it
        while not stop.is_set():
            separate.run("-s", "-c", one)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        assert receiver.finish() == (0, "")
    finally:
        stop.set()
        sender.join()


def test_an_interrupted_request_prints_what_came_and_is_130(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"], fleet.script("echo here"))
    asking = fleet.start("-r", "-c", nodes["one"], ready=None)
    assert asking.popen.stdout.readline() == "com.example.two,0,here\n"
    assert asking.stop(signal.SIGINT)[0] == 130
    receiver.stop()
