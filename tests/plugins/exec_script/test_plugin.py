"""The plugin as the receiver drives it: configure, a message at a time, shutdown; with real scripts."""

import asyncio
import os
import stat

import pytest

from remaphore import PluginError, Reply, UsageError
from remaphore.hooks.dispatch import emit
from remaphore.hooks.manager import configure, load
from remaphore.testing import make_config
from remaphore_plugins.exec_script import ExecScript
from remaphore_plugins.exec_script import process as process_module
from remaphore_plugins.exec_script.script import OUTPUT_CAP
from tests.plugins.exec_script.helpers import alive, held, message, pid_in, until, write_script


def plugin(*argv: str) -> ExecScript:
    made = ExecScript()
    made.remaphore_configure(None, {"argv": argv})
    return made


async def answer(*argv: str, **values) -> Reply:
    return await plugin(*argv).remaphore_message(message(**values))


def spawn(made: ExecScript, **values) -> asyncio.Task[Reply]:
    return asyncio.get_running_loop().create_task(made.remaphore_message(message(**values)))


def test_no_script_is_a_usage_error():
    with pytest.raises(UsageError, match="has no script to run"):
        ExecScript().remaphore_configure(None, {"argv": ()})


def test_the_configuration_file_cannot_make_the_daemon_run_one_script_for_all():
    with pytest.raises(PluginError, match=r"plugin 'exec-script': unknown key 'argv'"):
        configure(load(["exec-script"]), make_config("com.x", plugins={"exec-script": {"argv": ["/bin/sh"]}}))


async def test_it_is_loaded_by_name_and_answers_through_the_hook(tmp_path):
    manager = load(["exec-script"])
    script = write_script(tmp_path / "go", "echo $1 $2; exit 3")
    manager.hook.remaphore_configure(config=None, settings=None, options={"argv": (script,)})
    [outcome] = await emit(manager.hook.remaphore_message, timeout=30, message=message(payload=b"v42"))
    assert (outcome.plugin, outcome.error, outcome.result) == ("exec-script", None, Reply(3, b"deploy v42\n"))


async def test_script_gets_its_words_then_verb_and_payload_as_bytes(tmp_path):
    script = write_script(tmp_path / "go", "cat /proc/$$/cmdline")
    reply = await answer(script, "-x", "a b", verb="ping", payload=b"-rf $(id)\xff\n")
    assert reply.output.split(b"\0")[1:-1] == [os.fsencode(script), b"-x", b"a b", b"ping", b"-rf $(id)\xff\n"]


async def test_script_sees_the_message_in_its_environment_and_nothing_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    script = write_script(tmp_path / "go", "cat /proc/$$/environ")
    reply = await answer(script, payload=b"v42\xff", own_destination="com.us.left")
    assert set(reply.output.split(b"\0")[:-1]) == {
        b"PATH=/usr/bin:/bin",
        b"REMAPHORE_SENDER=3v96Sender",
        b"REMAPHORE_VERB=deploy",
        b"REMAPHORE_TIME=1700000000",
        b"REMAPHORE_UUID=01ab",
        b"REMAPHORE_MSG=v42\xff",
        b"REMAPHORE_DESTMATCH=com.us.left",
        b"REMOPHORE_DESTMATCH=com.us.left",
    }


async def test_script_is_looked_up_in_the_callers_path(tmp_path, monkeypatch):
    write_script(tmp_path / "mine", "echo found")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert await answer("mine") == Reply(0, b"found\n")


async def test_script_has_the_callers_directory_and_umask_and_no_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_script(tmp_path / "go", "pwd; readlink /proc/$$/fd/0; touch made")
    before = os.umask(0o037)
    try:
        reply = await answer("./go")
    finally:
        os.umask(before)
    assert reply == Reply(0, b"%b\n/dev/null\n" % os.fsencode(tmp_path))
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "payload", [b"SECRET\0", b"SECRET" + bytes(200_000), b"S" * 131_058], ids=["nul", "both", "long"]
)
async def test_payload_that_cannot_be_an_argument_starts_nothing(payload, tmp_path, caplog):
    script = write_script(tmp_path / "go", f"touch {tmp_path}/made")
    reply = await answer(script, payload=payload)
    assert reply.payload == b"-1,"
    assert not (tmp_path / "made").exists()
    assert "cannot start" in caplog.text
    assert "SECRET" not in caplog.text


async def test_longest_payload_that_fits_is_passed(tmp_path):
    script = write_script(tmp_path / "go", 'printf %s "$2" | wc -c')
    assert await answer(script, payload=b"S" * 131_057) == Reply(0, b"131057\n")


async def test_missing_script_is_answered_as_the_original_does(tmp_path, caplog):
    reply = await answer(str(tmp_path / "nope"))
    assert reply.payload == b"-1,"
    assert "No such file or directory" in caplog.text


async def test_killed_script_is_answered_with_what_it_wrote(tmp_path):
    script = write_script(tmp_path / "go", "echo so far; kill -9 $$")
    assert await answer(script) == Reply(-1, b"so far\n")


async def test_long_output_is_cut_and_says_so(tmp_path):
    script = write_script(tmp_path / "go", "head -c 600000 /dev/zero")
    reply = await answer(script)
    assert reply.exit_code == 0
    assert reply.output == bytes(OUTPUT_CAP) + b"\nremaphore: output truncated: kept 524288 of 600000 bytes\n"


async def test_shutdown_ends_the_script_waits_for_it_and_it_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.1)
    script = write_script(
        tmp_path / "go", f"trap '' TERM; echo so far; echo $$ >{tmp_path}/pid; while :; do sleep 600; done"
    )
    made = plugin(script)
    task = spawn(made)
    pid = await pid_in(tmp_path / "pid")
    await made.remaphore_shutdown("signal")
    assert not alive(pid)
    assert await task == Reply(-1, b"so far\n")


async def test_script_that_ends_well_because_of_the_shutdown_is_still_minus_one(tmp_path):
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
