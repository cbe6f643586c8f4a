"""The plugin and its configuration: reloads, warnings about what will not run, the plan; and the sample handlers."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore import Action, PluginError, Reply, Step, VerbSettings
from remaphore.hooks.manager import configure, load
from tests.harness.nodes import make_config
from tests.harness.programs import handled, hooks_plugin, make_hooks, message, write_script

SAMPLES = Path(__file__).parents[3] / "hooks.d"


def test_unknown_setting_is_an_error():
    with pytest.raises(PluginError, match=r"plugins\.hooks-d\.timeout: unknown key"):
        configure(load(["hooks-d"]), replace(make_config(2), plugins={"hooks-d": {"timeout": "5s"}}))


def make_flawed(tmp_path) -> Path:
    hooks = make_hooks(tmp_path, _10_a="")
    write_script(hooks / "deploy" / "20-b.sh", "")
    (hooks / "deploy" / "30-c").write_text("#!/bin/sh\n")
    (hooks / "deploy" / "40-mask").touch()
    (hooks / "deploy" / "x\x1b[2J.sh").touch()
    (hooks / "Deploy").mkdir()
    (hooks / "unsafe").mkdir()
    (hooks / "unsafe").chmod(0o777)
    return hooks


def test_what_will_not_run_is_logged_at_startup_and_at_a_reload(tmp_path, caplog):
    hooks = make_flawed(tmp_path)
    made = hooks_plugin(hooks)
    logged = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[0] for line in logged] == [
        "directory skipped",
        *["handler skipped"] * 3,
        "verb unsafe rejected",
    ]
    assert logged[1] == (
        f"handler skipped: {hooks}/deploy/20-b.sh: a name may contain only letters, digits, _ and -;"
        f" mv {hooks}/deploy/20-b.sh {hooks}/deploy/20-b, or delete it"
    )
    assert logged[2].endswith(f"30-c: not executable; chmod +x {hooks}/deploy/30-c")
    assert f"{hooks}/unsafe: writable by others; look at {hooks}/unsafe" in logged[4]
    assert logged[4].endswith(f"and then: chmod go-w {hooks}/unsafe")
    assert all(line.isprintable() for line in logged)
    assert {record.name for record in caplog.records} == {"remaphore.hooks-d"}
    caplog.clear()
    made.remaphore_reloaded(replace(make_config(2), hooks=(hooks,)))
    assert [record.getMessage() for record in caplog.records] == logged


async def test_reload_changes_directories_and_settings(tmp_path):
    made = hooks_plugin(make_hooks(tmp_path / "old", _1="echo old"))
    hooks = make_hooks(tmp_path / "new", _1="echo new; exit 1", _2="echo 2")
    verbs = {"deploy": VerbSettings(exit_on_error=True)}
    made.remaphore_reloaded(replace(make_config(2), hooks=(hooks,), verbs=verbs))
    assert await handled(made) == Reply(1, b"new\n")


async def test_reload_that_fails_rejects_all_handlers_until_one_succeeds(tmp_path, monkeypatch):
    """It may have been to end what the old settings permit, such as handlers that run as root."""
    hooks = make_hooks(tmp_path, _1="echo ran")
    made = hooks_plugin(hooks)
    config = replace(make_config(2), hooks=(hooks,), verbs={"deploy": VerbSettings(payload="stdin")})

    def fail(*_args):
        raise OSError("no name service")

    monkeypatch.setattr("remaphore_plugins.hooks_d.handlers._make_setup", fail)
    with pytest.raises(OSError, match="no name service"):
        made.remaphore_reloaded(config)
    reply = await handled(made)
    assert (reply.exit_code, reply.rejected) == (126, True)
    assert b"the last reload failed: OSError: no name service; correct the cause, and reload" in reply.output
    assert [step.action for step in made.remaphore_plan(message())] == [Action.UNSAFE]
    monkeypatch.undo()
    made.remaphore_reloaded(config)
    assert await handled(made) == Reply(0, b"ran\n")


async def test_problem_of_a_directory_at_a_reload_leaves_no_half_of_the_settings(tmp_path, monkeypatch):
    made = hooks_plugin(make_hooks(tmp_path, _1="echo ran"))

    def fail(*_args):
        raise RuntimeError("unexpected")

    monkeypatch.setattr("remaphore_plugins.hooks_d.plan.find_verbs", fail)
    with pytest.raises(RuntimeError):
        made.remaphore_reloaded(replace(make_config(2), hooks=(tmp_path / "other",)))
    assert (await handled(made)).exit_code == 126


async def test_reload_in_a_deleted_directory_applies_the_new_user(tmp_path, monkeypatch):
    """The hook directory has a relative path, which meant the directory of the start, and still does."""
    start = tmp_path / "release"
    make_hooks(start, _1="echo ran")
    monkeypatch.chdir(start)
    made = hooks_plugin(Path("hooks.d"))
    shutil.move(start, tmp_path / "old")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    shutil.move(tmp_path / "old", start)
    verbs = {"deploy": VerbSettings(user="no-such-user")}
    made.remaphore_reloaded(replace(make_config(2), hooks=(Path("hooks.d"),), verbs=verbs))
    assert (await handled(made)).exit_code == 126
    made.remaphore_reloaded(replace(make_config(2), hooks=(Path("hooks.d"),)))
    assert await handled(made) == Reply(0, b"ran\n")


def test_relative_directory_without_a_current_one_is_an_error_with_a_hint(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(PluginError, match="the current directory cannot be used") as caught:
        hooks_plugin(Path("hooks.d"))
    assert caught.value.hint == "write its absolute path, or change to a directory that exists (cd /)"
    hooks_plugin(tmp_path / "hooks.d")


def test_plan_is_what_would_run_with_its_arguments_and_what_would_not(tmp_path):
    hooks = make_flawed(tmp_path)
    steps = hooks_plugin(hooks).remaphore_plan(message(payload=b"-x\xff"))
    assert steps[0] == Step(
        action=Action.RUN, name="10-a", argv=(f"{hooks}/deploy/10-a", "deploy", os.fsdecode(b"-x\xff"))
    )
    assert [(step.action, step.name) for step in steps[1:]] == [
        (Action.SKIP, name) for name in ("20-b.sh", "30-c", "40-mask", "x\\x1b[2J.sh")
    ]
    assert steps[2].hint == f"chmod +x {hooks}/deploy/30-c"


def test_plan_of_an_unsafe_verb_runs_nothing(tmp_path):
    hooks = make_hooks(tmp_path, _1="", _2="")
    (hooks / "deploy" / "1").chmod(0o777)
    [step] = hooks_plugin(hooks).remaphore_plan(message())
    assert (step.action, step.name) == (Action.UNSAFE, f"{hooks}/deploy/1")
    assert step.hint.endswith(f"and then: chmod go-w {hooks}/deploy/1")


async def test_handler_that_cannot_start_is_in_the_plan_and_does_not_stop_the_others(tmp_path):
    hooks = make_hooks(tmp_path, _2="echo 2")
    write_script(hooks / "deploy" / "1", "", first="#!/bin/sh\r\n")
    made = hooks_plugin(hooks)
    first, second = made.remaphore_plan(message(payload=b"x"))
    assert (first.action, second.action) == (Action.FAIL, Action.RUN)
    assert first.argv == (f"{hooks}/deploy/1", "deploy", "x")
    assert (first.reason, first.hint) == (
        r"its lines end in CR LF, so its interpreter would be '/bin/sh\r'",
        f"sed -i 's/\\r$//' {hooks}/deploy/1",
    )
    reply = await handled(made)
    assert reply.exit_code == -1
    assert reply.output.endswith(b"\n2\n")


async def test_interpreter_that_env_does_not_find_is_explained_after_its_own_words(tmp_path):
    hooks = make_hooks(tmp_path)
    write_script(hooks / "deploy" / "1", "", first="#!/usr/bin/env -S nosuch -x\n")
    reply = await handled(hooks_plugin(hooks))
    assert reply.exit_code == 127
    assert b"remaphore: 1: cannot start: its first line runs 'nosuch', which is not found in PATH" in reply.output
    write_script(hooks / "deploy" / "1", "exit 127")
    assert await handled(hooks_plugin(hooks)) == Reply(127)


def test_plan_omits_a_payload_that_is_passed_on_stdin(tmp_path):
    [step] = hooks_plugin(make_hooks(tmp_path, _1=""), payload="stdin").remaphore_plan(message())
    assert (step.argv, step.reason) == ((f"{tmp_path}/hooks.d/deploy/1", "deploy"), "payload on stdin only")


def test_plan_of_a_verb_without_a_directory_is_empty(tmp_path):
    assert hooks_plugin(make_hooks(tmp_path)).remaphore_plan(message(verb="../deploy")) == []


@pytest.fixture
def samples(tmp_path):
    """The sample handlers, where no other user can write, whatever the umask of the checkout was."""
    copy = Path(shutil.copytree(SAMPLES, tmp_path / "samples"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode & 0o755)
    return hooks_plugin(copy)


async def test_samples_run(samples, caplog):
    ping = await handled(samples, verb="ping", payload=b"")
    assert ping.exit_code == 0
    assert ping.output.startswith(b"hello from %b, up " % os.uname().nodename.encode())
    deploy = await handled(samples, payload=b"-v4.2")
    expected = b"would fetch release -v4.2\nwould activate release -v4.2, requested by 3v96Sender\n"
    assert deploy == Reply(0, expected)
    assert caplog.records == []


@pytest.mark.parametrize("payload", [b"", b"..", b"../x", b"$(id)", b"a b", b"a\nb", "ä".encode()])
async def test_samples_reject_a_payload_that_is_not_a_version(payload, samples):
    reply = await handled(samples, payload=payload)
    assert reply.exit_code == 64
    assert b"would" not in reply.output
