"""The README's promise: something on machine B happens after something on machine A."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.harness.terminal import Terminal


def test_three_waiters_go_on_when_the_uploader_says_so(fleet, nodes):
    waiters = [fleet.start("-c", nodes[name], "-u", "upload_done") for name in ("two", "three", "two")]
    other = fleet.start("-c", nodes["three"], "-u", "something_else")
    assert fleet.run("-c", nodes["one"], "-s", "-u", "upload_done").returncode == 0
    assert [waiter.finish() for waiter in waiters] == [(0, "")] * 3
    assert other.popen.poll() is None


def test_the_words_for_people_do_the_same(fleet, nodes):
    waiter = fleet.start("receive", "--config", nodes["two"], "--id", "x", "--timeout", "20s")
    sent = fleet.run("send", "--config", nodes["one"], "--id", "x", "--to", "com.**", "hello", "world")
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
    assert waiter.finish() == (0, "")


def test_on_a_terminal_send_prints_the_id_that_the_log_of_the_receiver_has(fleet, nodes):
    receiver = fleet.start("receive", "-c", nodes["two"])
    for words, shown in (
        ((), "[a-z2-7]{12}"),
        (("--id", "release-42"), "release-42"),
        (("--id", "a longer name of a release"), "hex:[0-9a-f]{24}"),
    ):
        with Terminal("send", "-c", nodes["one"], *words) as screen:
            assert screen.finish() == 0
        found = re.fullmatch(rf"remaphore: sent \(id ({shown})\)", screen.text)
        assert found, screen.text
        assert "message_received" in receiver.wait_for(f" id={found[1]} ")


@pytest.mark.parametrize("forms", [("conf", "conf"), ("conf", "toml"), ("toml", "conf")])
def test_both_formats_of_configuration_work_together(fleet, forms):
    one, two = (fleet.config(name, form=form) for name, form in zip(("one", "two"), forms, strict=True))
    receiver = fleet.start("-c", two, fleet.script("echo done"))
    asked = fleet.run("-c", one, "-r", "-D", "com.example.two", "-t", "20s")
    assert (asked.returncode, asked.stdout) == (0, "com.example.two,0,done\n")
    receiver.stop()


def test_a_shell_line_continues_after_the_message(fleet, nodes):
    line = f"{sys.executable} -m remaphore -c {nodes['two']} -u go && echo went on"
    shell = subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with shell:
        while "Ready" not in shell.stderr.readline():
            assert shell.poll() is None
        fleet.run("-c", nodes["one"], "-s", "-u", "go")
        assert shell.stdout.read() == "went on\n"


def test_sending_loads_neither_plugins_nor_what_receives_and_requests(fleet, nodes):
    others = {"pluggy", "structlog", "remaphore_plugins", "argparse", "remaphore.protocol.gate"}
    others |= {"remaphore.protocol.exchange", "remaphore.receiving.inline", "remaphore.requesting.requester"}
    send = f"main(['-s', '-c', {str(nodes['one'])!r}])"
    code = f"import sys; from remaphore.cli.main import main; print({send}, {others} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 set()\n"


def test_no_message_before_the_time_is_exit_1(fleet, nodes):
    done = fleet.run("-c", nodes["two"], "-t", "300ms")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_message_before_the_time_is_exit_0_at_the_time(fleet, nodes):
    receiver = fleet.start("-c", nodes["two"], "-t", "4s")
    fleet.run("-c", nodes["one"], "-s")
    receiver.wait_for("message_received")
    assert receiver.finish() == (0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_waiter_and_what_it_runs(fleet, nodes, number, code):
    marker = fleet.folder / "running"
    script = fleet.script(f"echo $$ > {marker}.new; mv {marker}.new {marker}; exec sleep 600")
    receiver = fleet.start("-c", nodes["two"], script)
    fleet.run("-c", nodes["one"], "-s")
    while not marker.exists():
        assert receiver.popen.poll() is None
    assert receiver.stop(number)[0] == code
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)
