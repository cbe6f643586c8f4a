"""The plugin as the daemon drives it: real handlers, and one reply for all of them."""

import asyncio
import os
import pwd
import re
from pathlib import Path

import pytest

from remaphore import Reply
from remaphore_plugins.hooks_d.handlers import MAX_ARGUMENT, SEARCH_PATH
from tests.harness.programs import handled, hooks_plugin, make_hooks, pid_in, write_script

HOUR = 3600.0


async def reply_of(tmp_path, settings=None, /, *, payload=b"v42", **handlers) -> Reply | None:
    return await handled(hooks_plugin(make_hooks(tmp_path, **handlers), **settings or {}), payload=payload)


async def test_all_run_in_order_and_their_output_is_one(tmp_path):
    reply = await reply_of(tmp_path, _20_b="echo second", _10_a="echo first >&2", _30_c="printf third")
    assert reply == Reply(0, b"first\nsecond\nthird")


async def test_exit_code_is_the_first_that_is_not_0_and_a_failure_stops_nothing(tmp_path):
    reply = await reply_of(tmp_path, _1="echo 1", _2="exit 3", _3="echo 3; exit 4", _4="echo 4")
    assert reply == Reply(3, b"1\n3\n4\n")


async def test_verb_may_end_at_the_first_failure(tmp_path):
    reply = await reply_of(tmp_path, {"exit_on_error": True}, _1="echo 1", _2="exit 3", _3="echo 3")
    assert reply == Reply(3, b"1\n")


async def test_handler_that_cannot_be_started_is_minus_one_and_the_next_one_runs(tmp_path):
    hooks = make_hooks(tmp_path, _2="echo 2")
    write_script(hooks / "deploy" / "1", "echo no", first="#!/no/such/interpreter\n")
    reply = await handled(hooks_plugin(hooks))
    assert reply.exit_code == -1
    assert reply.output.startswith(b"remaphore: 1: cannot start ")
    assert (
        b"its interpreter '/no/such/interpreter': no such file; install it, or correct the first line" in reply.output
    )
    assert reply.output.endswith(b"\n2\n")


async def test_signal_is_128_and_its_number_and_named(tmp_path):
    assert await reply_of(tmp_path, _1="echo so; kill -9 $$") == Reply(137, b"so\nremaphore: 1: killed by signal 9\n")


async def test_cap_is_for_all_together_and_all_is_counted(tmp_path):
    reply = await reply_of(tmp_path, {"cap": 8}, _1="printf 12345", _2="printf 6789abc; exit 2", _3="printf def")
    assert reply == Reply(2, b"12345678\nremaphore: output truncated: kept 8 of 15 bytes\n")


async def test_output_of_exactly_the_cap_is_whole(tmp_path):
    assert await reply_of(tmp_path, {"cap": 8}, _1="printf 12345", _2="printf 678") == Reply(0, b"12345678")


async def test_handler_gets_path_verb_and_payload_as_bytes(tmp_path):
    reply = await reply_of(tmp_path, payload=b"-rf $(id)\xff\n", _1="cat /proc/$$/cmdline")
    assert reply.output.split(b"\0")[1:-1] == [b"%b/hooks.d/deploy/1" % bytes(tmp_path), b"deploy", b"-rf $(id)\xff\n"]


async def test_each_handler_gets_the_payload_on_stdin(tmp_path):
    assert await reply_of(tmp_path, payload=b"x\xff", _1="cat; echo", _2="cat") == Reply(0, b"x\xff\nx\xff")


async def test_environment_is_made_from_nothing(tmp_path, monkeypatch):
    user = pwd.getpwuid(os.geteuid())
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    monkeypatch.setenv("HOME", "/elsewhere")
    made = hooks_plugin(make_hooks(tmp_path, _1="cat /proc/$$/environ"))
    reply = await handled(made, payload=b"v42", own_destination="com.example.two")
    variables = set(reply.output.split(b"\0")[:-1])
    [run] = [variable for variable in variables if re.fullmatch(b"REMAPHORE_RUN=[0-9a-f]{16}", variable)]
    assert variables - {run} == {
        b"PATH=%b" % SEARCH_PATH.encode(),
        b"HOME=%b" % os.fsencode(user.pw_dir),
        b"USER=%b" % os.fsencode(user.pw_name),
        b"LOGNAME=%b" % os.fsencode(user.pw_name),
        b"LC_ALL=C.UTF-8",
        b"REMAPHORE_SENDER=3v96Sender",
        b"REMAPHORE_VERB=deploy",
        b"REMAPHORE_TIME=1700000000",
        b"REMAPHORE_UUID=01ab",
        b"REMAPHORE_MSG=v42",
        b"REMAPHORE_HANDLER=%b/hooks.d/deploy/1" % bytes(tmp_path),
        b"REMAPHORE_DESTMATCH=com.example.two",
        b"REMOPHORE_DESTMATCH=com.example.two",
    }


async def test_directory_is_the_root_and_umask_022_whatever_ours_are(tmp_path, monkeypatch):
    hooks = make_hooks(tmp_path, _1="pwd; umask")
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        reply = await handled(hooks_plugin(hooks))
    finally:
        os.umask(before)
    assert reply == Reply(0, b"/\n0022\n")


async def test_relative_hooks_directory_is_that_of_the_start(tmp_path, monkeypatch):
    make_hooks(tmp_path, _1="echo $0")
    monkeypatch.chdir(tmp_path)
    made = hooks_plugin(Path("hooks.d"))
    monkeypatch.chdir("/")
    assert await handled(made) == Reply(0, b"%b/hooks.d/deploy/1\n" % bytes(tmp_path))


@pytest.mark.parametrize("payload", [b"SECRET\0", b"S" * (MAX_ARGUMENT + 1)], ids=["nul", "long"])
async def test_payload_that_cannot_be_an_argument_starts_nothing(payload, tmp_path, caplog):
    reply = await reply_of(tmp_path, payload=payload, _1=f"touch {tmp_path}/made")
    assert reply.exit_code == -1
    assert reply.output.startswith(b"remaphore: not started: the payload ")
    assert b'payload = "stdin"' in reply.output
    assert b"SS" not in reply.output
    assert "SECRET" not in caplog.text
    assert not (tmp_path / "made").exists()


async def test_longest_payload_that_can_be_an_argument_is_one(tmp_path):
    reply = await reply_of(tmp_path, payload=b"S" * MAX_ARGUMENT, _1='printf %s "$2" | wc -c')
    assert reply == Reply(0, b"%d\n" % MAX_ARGUMENT)


async def test_verb_can_receive_any_payload_on_stdin_only(tmp_path):
    payload = bytes(300_000) + b"\xff"
    body = 'echo $# "${REMAPHORE_MSG-unset}"; wc -c'
    assert await reply_of(tmp_path, {"payload": "stdin"}, payload=payload, _1=body) == Reply(0, b"1 unset\n300001\n")


async def test_verb_without_a_directory_has_no_reply(tmp_path, caplog):
    made = hooks_plugin(make_hooks(tmp_path, _1=""), tmp_path / "missing")
    assert await handled(made, verb="other") is None
    assert await handled(made, verb="../deploy") is None
    assert await handled(hooks_plugin(tmp_path / "missing")) is None
    assert await handled(hooks_plugin()) is None
    assert caplog.records == []


async def test_verb_whose_entries_are_all_skipped_has_no_reply_but_a_warning(tmp_path, caplog):
    hooks = make_hooks(tmp_path)
    (hooks / "deploy" / "10-a").symlink_to("/dev/null")
    made = hooks_plugin(hooks)
    caplog.clear()
    assert await handled(made) is None
    assert "verb deploy has a directory but no handler: 1 skipped or masked" in caplog.text


async def test_dropped_in_handler_works_at_once_in_each_directory(tmp_path):
    vendor, admin = make_hooks(tmp_path / "usr"), make_hooks(tmp_path / "etc")
    (vendor / "deploy").rmdir()
    (admin / "deploy").rmdir()
    made = hooks_plugin(vendor, admin)
    assert (await handled(made), made.remaphore_acts("deploy")) == (None, False)
    make_hooks(tmp_path / "etc", _10_a="echo here")
    assert (await handled(made), made.remaphore_acts("deploy")) == (Reply(0, b"here\n"), True)
    assert [made.remaphore_acts(verb) for verb in ("other", "../etc/deploy", "")] == [False] * 3
    (admin / "loop").symlink_to("loop")
    assert made.remaphore_acts("loop")  # whatever cannot be examined is reported when it is to run


async def test_later_directory_overrides(tmp_path):
    vendor = make_hooks(tmp_path / "usr", _1="echo vendor 1", _2="echo vendor 2", _3="echo vendor 3")
    admin = make_hooks(tmp_path / "etc", _2="echo admin 2")
    (admin / "deploy" / "3").touch()
    assert await handled(hooks_plugin(vendor, admin)) == Reply(0, b"vendor 1\nadmin 2\n")


async def test_unsafe_handler_rejects_the_whole_verb_with_a_hint(tmp_path):
    hooks = make_hooks(tmp_path, _1=f"touch {tmp_path}/made", _2="")
    unsafe = hooks / "deploy" / "2"
    unsafe.chmod(0o777)
    reply = await handled(hooks_plugin(hooks))
    text = f"remaphore: refused: unsafe: {unsafe}: writable by others; look at {unsafe}"
    assert (reply.exit_code, reply.rejected) == (126, True)
    assert reply.output.startswith(text.encode())
    assert not (tmp_path / "made").exists()


UNSAFE = {
    "hooks directory": lambda usr, etc: etc.chmod(0o777),
    "verb's directory": lambda usr, etc: (etc / "deploy").chmod(0o775),
    "hooks directory without the verb": lambda usr, etc: ((etc / "deploy").rmdir(), etc.chmod(0o777)),
    "sticky directory of the verb": lambda usr, etc: (etc / "deploy").chmod(0o1777),
    "mask that others may write": lambda usr, etc: (
        (etc / "deploy" / "1").touch(),
        (etc / "deploy" / "1").chmod(0o666),
    ),
}


@pytest.mark.parametrize("case", UNSAFE)
async def test_directories_and_masks_are_checked_too(case, tmp_path):
    usr, etc = make_hooks(tmp_path / "usr", _1="echo vendor"), make_hooks(tmp_path / "etc")
    assert (await handled(hooks_plugin(usr, etc))).exit_code == 0
    UNSAFE[case](usr, etc)
    assert (await handled(hooks_plugin(usr, etc))).exit_code == 126


async def test_masked_and_replaced_files_are_not_checked(tmp_path):
    usr, etc = make_hooks(tmp_path / "usr", _1="", _2=""), make_hooks(tmp_path / "etc", _1="echo admin")
    (etc / "deploy" / "2").symlink_to("/dev/null")
    for name in ("1", "2"):
        (usr / "deploy" / name).chmod(0o777)
    assert await handled(hooks_plugin(usr, etc)) == Reply(0, b"admin\n")


async def test_unreadable_hooks_directory_rejects_the_verb(tmp_path):
    (tmp_path / "file").touch()
    reply = await handled(hooks_plugin(make_hooks(tmp_path, _1=""), tmp_path / "file" / "hooks.d"))
    assert (reply.exit_code, reply.rejected) == (126, True)
    assert b"Not a directory" in reply.output


async def test_timeout_is_for_all_together_and_the_rest_does_not_start(tmp_path, put_forward):
    hooks = make_hooks(
        tmp_path, _1="echo 1", _2=f"echo 2; echo $$ >{tmp_path}/pid; exec sleep 600", _3=f"touch {tmp_path}/made"
    )
    task = asyncio.get_running_loop().create_task(handled(hooks_plugin(hooks, timeout_seconds=HOUR)))
    await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    note = b"remaphore: 2: terminated because the timeout of its verb was exceeded\n"
    assert await task == Reply(124, b"1\n2\n" + note)
    assert not (tmp_path / "made").exists()


async def test_second_handler_has_only_what_the_first_left(tmp_path, put_forward):
    (tmp_path / "go").touch()
    hooks = make_hooks(
        tmp_path,
        _1=f"echo $$ >{tmp_path}/pid; while [ -e {tmp_path}/go ]; do :; done",
        _2=f"echo $$ >{tmp_path}/second; exec sleep 600",
    )
    task = asyncio.get_running_loop().create_task(handled(hooks_plugin(hooks, timeout_seconds=HOUR)))
    await pid_in(tmp_path / "pid")
    put_forward(HOUR * 0.75)
    (tmp_path / "go").unlink()
    await pid_in(tmp_path / "second")
    put_forward(HOUR * 0.5)
    assert (await task).exit_code == 124


async def test_stop_ends_what_runs_with_143_and_starts_nothing(tmp_path):
    hooks = make_hooks(tmp_path, _1=f"echo $$ >{tmp_path}/pid; exec sleep 600", _2=f"touch {tmp_path}/made")
    made = hooks_plugin(hooks)
    task = asyncio.get_running_loop().create_task(handled(made))
    await pid_in(tmp_path / "pid")
    await made.remaphore_shutdown("stopped")
    assert await task == Reply(143, b"remaphore: 1: terminated because remaphore is shutting down\n")
    assert await handled(made) == Reply(143, b"remaphore: 1: not started because remaphore is shutting down\n")
    assert not (tmp_path / "made").exists()


async def test_payload_on_stdin_is_in_no_file_that_other_users_can_read(tmp_path):
    """Arguments are in /proc/PID/cmdline, which every user can read; the environment only the handler's user."""
    body = "cat /proc/$$/cmdline /proc/$$/environ; echo; cat"
    reply = await reply_of(tmp_path, {"payload": "stdin"}, payload=b"SECRET\0\xff", _1=body)
    shown, _, read = reply.output.partition(b"\n")
    assert b"SECRET" not in shown
    assert read == b"SECRET\0\xff"


async def test_handler_that_never_reads_a_long_payload_neither_blocks_nor_fails(tmp_path):
    for body in ("sleep 0.05; echo done", "exec <&-; echo done"):
        reply = await reply_of(tmp_path, {"payload": "stdin"}, payload=bytes(1024 * 1024), _1=body)
        assert reply == Reply(0, b"done\n")
