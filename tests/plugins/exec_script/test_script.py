"""What the script of the command line is called with and sees, and what its end is as a reply."""

import logging

import pytest

from remaphore import Reply
from remaphore_plugins.exec_script.process import Finished
from remaphore_plugins.exec_script.script import OUTPUT_CAP, make_argv, make_environment, make_reply
from tests.plugins.exec_script.helpers import message

BROKER_LIMIT = 1024 * 1024


def test_arguments_are_the_commands_then_verb_and_payload():
    argv = make_argv(["./go", "--fast", "\udcff"], message(verb="dépl oy", payload=b"--help\xff\n"))
    assert argv == [b"./go", b"--fast", b"\xff", "dépl oy".encode(), b"--help\xff\n"]


def test_empty_verb_and_payload_are_arguments_too():
    assert make_argv(["go"], message(verb="", payload=b"")) == [b"go", b"", b""]


def test_environment_is_path_and_the_message():
    expected = {
        "PATH": b"/opt/bin",
        "REMAPHORE_SENDER": b"3v96Sender",
        "REMAPHORE_VERB": b"deploy",
        "REMAPHORE_TIME": b"1700000000",
        "REMAPHORE_UUID": b"01ab",
        "REMAPHORE_MSG": b"v42\xff",
    }
    assert make_environment(message(payload=b"v42\xff"), path="/opt/bin") == expected


def test_own_destination_is_told_under_both_names_when_it_was_matched():
    environment = make_environment(message(own_destination="com.crypto.us.left"), path="")
    assert environment["REMAPHORE_DESTMATCH"] == environment["REMOPHORE_DESTMATCH"] == b"com.crypto.us.left"


def test_caller_without_path_has_the_systems_and_not_the_current_directory():
    assert make_environment(message(), path="")["PATH"] == b"/bin:/usr/bin"


@pytest.mark.parametrize(
    ("time_ns", "seconds"), [(0, b"0"), (-1, b"-1"), (1_999_999_999, b"1"), (2**63 - 1, b"9223372036")]
)
def test_time_is_whole_seconds_as_the_original_counts_them(time_ns, seconds):
    assert make_environment(message(time_ns=time_ns), path="")["REMAPHORE_TIME"] == seconds


@pytest.mark.parametrize("code", [0, 1, 137, 255])
def test_exit_code_and_output_are_the_reply(code, caplog):
    finished = Finished(exit_code=code, output=b"out\n", output_bytes=4)
    assert make_reply(finished) == Reply(code, b"out\n")
    assert caplog.records == []


WITHOUT_CODE = {
    "not started": ({"exit_code": None, "error": "cannot start 'x': Permission denied"}, "Permission denied"),
    "killed": ({"exit_code": 137, "signal": 9}, "killed by signal 9 (Killed)"),
    "stopped": ({"exit_code": 0, "stopped": True}, "stopping"),
    "timed out": ({"exit_code": 0, "timed_out": True}, "its time was over"),
}


@pytest.mark.parametrize("case", WITHOUT_CODE)
def test_without_an_exit_code_of_its_own_the_reply_is_minus_one_and_the_log_says_why(case, caplog):
    values, reason = WITHOUT_CODE[case]
    assert make_reply(Finished(**values)) == Reply(-1, b"")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("remaphore.exec-script", logging.WARNING)
    assert reason in record.getMessage()


def test_truncated_output_says_so_and_fits_into_a_message():
    reply = make_reply(Finished(exit_code=0, output=b"x" * OUTPUT_CAP, output_bytes=10**12))
    note = b"\nremaphore: output truncated: kept 524288 of 1000000000000 bytes\n"
    assert reply.output == b"x" * OUTPUT_CAP + note
    assert len(reply.payload) < BROKER_LIMIT // 2 + 1000


def test_output_of_exactly_the_cap_is_whole():
    assert make_reply(Finished(exit_code=0, output=b"x" * 5, output_bytes=5)).output == b"xxxxx"
