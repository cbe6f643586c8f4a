"""The plugin as the receiver drives it: configure, a message at a time, shutdown; with real scripts."""

import asyncio
import logging
import os
import stat

import pytest

from remaphore import PluginError, Reply, UsageError
from remaphore.hooks.dispatch import emit
from remaphore.hooks.manager import configure, load
from remaphore.testing import make_config
from remaphore_plugins.processes import tree
from remaphore_plugins.processes.account import own_account
from remaphore_plugins.processes.run import RunResult
from remaphore_plugins.script import OUTPUT_CAP, Script, make_argv, make_environment, make_reply
from tests.harness.programs import alive, held, message, pid_in, write_script
from tests.harness.waiting import until

USER = own_account()


def plugin(*argv: str) -> Script:
    made = Script()
    made.remaphore_configure({"argv": argv})
    return made


async def reply_of(*argv: str, **values) -> Reply:
    return await plugin(*argv).remaphore_message(message(**values))


def spawn(made: Script, **values) -> asyncio.Task[Reply]:
    return asyncio.get_running_loop().create_task(made.remaphore_message(message(**values)))


def test_no_script_is_a_usage_error():
    with pytest.raises(UsageError, match="no script to run"):
        Script().remaphore_configure({"argv": ()})


def test_configuration_file_cannot_name_a_script_that_runs_for_all_verbs():
    with pytest.raises(PluginError, match=r"plugins\.script\.argv: unknown key"):
        configure(load(["script"]), make_config("com.example.two", plugins={"script": {"argv": ["/bin/sh"]}}))


async def test_it_is_loaded_by_name_and_replies_through_the_hook(tmp_path):
    manager = load(["script"])
    script = write_script(tmp_path / "go", "echo $1 $2; exit 3")
    manager.hook.remaphore_configure(config=None, settings=None, options={"argv": (script,)})
    [outcome] = await emit(manager.hook.remaphore_message, timeout=30, message=message(payload=b"v42"))
    assert (outcome.plugin, outcome.error, outcome.result) == ("script", None, Reply(3, b"deploy v42\n"))


async def test_script_gets_its_arguments_then_verb_and_payload_as_bytes(tmp_path):
    script = write_script(tmp_path / "go", "cat /proc/$$/cmdline")
    reply = await reply_of(script, "-x", "a b", verb="ping", payload=b"-rf $(id)\xff\n")
    assert reply.output.split(b"\0")[1:-1] == [os.fsencode(script), b"-x", b"a b", b"ping", b"-rf $(id)\xff\n"]


@pytest.mark.parametrize("destination", ["", "com.example.left"])
async def test_script_sees_the_message_in_its_environment_and_nothing_of_ours(destination, tmp_path, monkeypatch):
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("HOME", "/elsewhere")
    script = write_script(tmp_path / "go", "cat /proc/$$/environ")
    reply = await reply_of(script, payload=b"v42\xff", own_destination=destination)
    expected = {
        b"PATH=/usr/bin:/bin",
        *(b"%b=%b" % (name.encode(), value) for name, value in USER.environment().items()),
        b"REMAPHORE_SENDER=3v96Sender",
        b"REMAPHORE_VERB=deploy",
        b"REMAPHORE_TIME=1700000000",
        b"REMAPHORE_UUID=01ab",
        b"REMAPHORE_MSG=v42\xff",
    }
    if destination:
        expected |= {b"REMAPHORE_DESTMATCH=com.example.left", b"REMOPHORE_DESTMATCH=com.example.left"}
    assert set(reply.output.split(b"\0")[:-1]) == expected


async def test_script_is_looked_up_in_the_callers_path(tmp_path, monkeypatch):
    write_script(tmp_path / "mine", "echo found")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert await reply_of("mine") == Reply(0, b"found\n")


async def test_script_has_the_callers_directory_and_umask_and_no_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_script(tmp_path / "go", "pwd; readlink /proc/$$/fd/0; touch made")
    before = os.umask(0o037)
    try:
        reply = await reply_of("./go")
    finally:
        os.umask(before)
    assert reply == Reply(0, b"%b\n/dev/null\n" % os.fsencode(tmp_path))
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "payload", [b"SECRET\0", b"SECRET" + bytes(200_000), b"S" * 131_058], ids=["nul", "both", "long"]
)
async def test_payload_that_cannot_be_an_argument_starts_nothing(payload, tmp_path, caplog):
    script = write_script(tmp_path / "go", f"touch {tmp_path}/made")
    reply = await reply_of(script, payload=payload)
    assert reply.payload == b"-1,"
    assert not (tmp_path / "made").exists()
    assert "cannot start" in caplog.text
    assert "SECRET" not in caplog.text


async def test_longest_payload_that_fits_is_passed(tmp_path):
    script = write_script(tmp_path / "go", 'printf %s "$2" | wc -c')
    assert await reply_of(script, payload=b"S" * 131_057) == Reply(0, b"131057\n")


async def test_missing_script_has_the_reply_of_the_go_implementation(tmp_path, caplog):
    reply = await reply_of(str(tmp_path / "nope"))
    assert reply.payload == b"-1,"
    assert "no such file; create " in caplog.text


async def test_reply_of_a_killed_script_contains_what_it_wrote(tmp_path):
    script = write_script(tmp_path / "go", "echo so far; kill -9 $$")
    assert await reply_of(script) == Reply(-1, b"so far\n")


async def test_long_output_is_truncated_with_a_note(tmp_path):
    script = write_script(tmp_path / "go", "head -c 600000 /dev/zero")
    reply = await reply_of(script)
    assert reply.exit_code == 0
    assert reply.output == bytes(OUTPUT_CAP) + b"\nremaphore: output truncated: kept 524288 of 600000 bytes\n"


async def test_shutdown_ends_the_script_waits_for_it_and_replies(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "GRACE_SECONDS", 0.1)
    script = write_script(
        tmp_path / "go", f"trap '' TERM; echo so far; echo $$ >{tmp_path}/pid; while :; do sleep 600; done"
    )
    made = plugin(script)
    task = spawn(made)
    pid = await pid_in(tmp_path / "pid")
    await made.remaphore_shutdown("signal")
    assert not alive(pid)
    assert await task == Reply(-1, b"so far\n")


async def test_script_that_exits_0_because_of_the_shutdown_is_still_minus_one(tmp_path):
    script = write_script(tmp_path / "go", f"trap 'exit 0' TERM; echo $$ >{tmp_path}/pid; while :; do :; done")
    made = plugin(script)
    task = spawn(made)
    await pid_in(tmp_path / "pid")
    await made.remaphore_shutdown("timeout")
    assert await task == Reply(-1, b"")


async def test_nothing_starts_after_the_shutdown(tmp_path):
    made = plugin(write_script(tmp_path / "go", f"touch {tmp_path}/made"))
    await made.remaphore_shutdown("done")
    await made.remaphore_shutdown("done")
    assert await made.remaphore_message(message()) == Reply(-1, b"")
    assert not (tmp_path / "made").exists()


async def test_cancelled_message_leaves_no_process_and_no_wait_for_it(tmp_path):
    before = held()
    made = plugin(write_script(tmp_path / "go", f"echo $$ >{tmp_path}/pid; exec sleep 600"))
    task = spawn(made)
    pid = await pid_in(tmp_path / "pid")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await until(lambda: not alive(pid))
    await made.remaphore_shutdown("done")
    assert held() == before


def test_arguments_are_the_commands_then_verb_and_payload():
    argv = make_argv(["./go", "--fast", "\udcff"], message(verb="dépl oy", payload=b"--help\xff\n"))
    assert argv == [b"./go", b"--fast", b"\xff", "dépl oy".encode(), b"--help\xff\n"]


def test_empty_verb_and_payload_are_arguments_too():
    assert make_argv(["go"], message(verb="", payload=b"")) == [b"go", b"", b""]


def test_without_path_the_default_is_used_and_not_the_current_directory():
    assert make_environment(message(), path="", account=USER)["PATH"] == b"/bin:/usr/bin"


@pytest.mark.parametrize(
    ("time_ns", "seconds"), [(0, b"0"), (-1, b"-1"), (1_999_999_999, b"1"), (2**63 - 1, b"9223372036")]
)
def test_time_is_whole_seconds_as_in_the_go_implementation(time_ns, seconds):
    assert make_environment(message(time_ns=time_ns), path="", account=USER)["REMAPHORE_TIME"] == seconds


@pytest.mark.parametrize("code", [0, 1, 137, 255])
def test_exit_code_and_output_are_the_reply(code, caplog):
    result = RunResult(exit_code=code, output=b"out\n", output_bytes=4)
    assert make_reply(result) == Reply(code, b"out\n")
    assert caplog.records == []


WITHOUT_CODE = {
    "not started": ({"exit_code": None, "error": "cannot start 'x': Permission denied"}, "Permission denied"),
    "killed": ({"exit_code": 137, "signal": 9}, "killed by signal 9 (Killed)"),
    "stopped": ({"exit_code": 0, "stopped": True}, "shutting down"),
    "timed out": ({"exit_code": 0, "timed_out": True}, "its timeout was exceeded"),
}


@pytest.mark.parametrize("case", WITHOUT_CODE)
def test_without_an_exit_code_of_its_own_the_reply_is_minus_one_and_the_log_states_why(case, caplog):
    values, reason = WITHOUT_CODE[case]
    assert make_reply(RunResult(**values)) == Reply(-1, b"")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("remaphore.script", logging.WARNING)
    assert reason in record.getMessage()


def test_truncated_output_has_a_note_and_fits_into_a_message():
    reply = make_reply(RunResult(exit_code=0, output=b"x" * OUTPUT_CAP, output_bytes=10**12))
    note = b"\nremaphore: output truncated: kept 524288 of 1000000000000 bytes\n"
    assert reply.output == b"x" * OUTPUT_CAP + note
    assert len(reply.payload) < 1024 * 1024 // 2 + 1000


def test_output_of_exactly_the_cap_is_whole():
    assert make_reply(RunResult(exit_code=0, output=b"x" * 5, output_bytes=5)).output == b"xxxxx"
