"""The plugin on hooks.d and its configuration: users, reloads, what is said aloud, the plan; and the samples."""

import os
import pwd
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore import Action, PluginError, Reply, Step, VerbSettings
from remaphore.hooks.manager import configure, load
from tests.nodes import make_config
from tests.plugins.exec_script.helpers import handled, hooks_plugin, make_hooks, message, write_script

SAMPLES = Path(__file__).parents[3] / "hooks.d"


def let_all_through(tmp_path: Path) -> None:
    """Let every user go to what lies in *tmp_path*; pytest makes its own directories for us alone."""
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of-"):
            return


async def test_handler_runs_as_the_user_of_its_verb_or_not_at_all(tmp_path, monkeypatch):
    """Root can; who only says to be root is not allowed to by the kernel, and nothing runs as somebody else."""
    root = os.geteuid() == 0
    nobody = pwd.getpwnam("nobody")
    hooks = make_hooks(tmp_path, _1='id -u; id -g; id -G; echo "$HOME"; pwd')
    let_all_through(tmp_path)
    monkeypatch.setattr("remaphore_plugins.exec_script.account.os.geteuid", lambda: 0)
    made = hooks_plugin(hooks, user="nobody")
    monkeypatch.undo()
    groups = os.getgroups()
    if root:
        os.setgroups([*groups, 4711])  # which it must not get
    reply = await handled(made)
    if root:
        os.setgroups(groups)
        ids = f"{nobody.pw_uid}\n{nobody.pw_gid}\n{nobody.pw_gid}\n{nobody.pw_dir}\n/\n"
        assert reply == Reply(0, ids.encode())
    else:
        assert reply.exit_code == -1
        assert b"Operation not permitted" in reply.output


def test_user_of_a_verb_needs_root(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PluginError, match=r"node2.toml: verbs.deploy.user: only root can"):
        hooks_plugin(make_hooks(tmp_path), user="nobody")


def test_unknown_user_is_an_error_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PluginError, match=r"verbs.deploy.user: no such user"):
        hooks_plugin(make_hooks(tmp_path), user="no-such-user")


async def test_unknown_user_after_a_reload_refuses_the_verb_rather_than_run_it_as_us(tmp_path):
    hooks = make_hooks(tmp_path, _1=f"touch {tmp_path}/made")
    made = hooks_plugin(hooks)
    verbs = {"deploy": VerbSettings(user="no-such-user")}
    made.remaphore_reloaded(replace(make_config(2), hooks=(hooks,), verbs=verbs))
    reply = await handled(made)
    assert (reply.exit_code, reply.rejected) == (126, True)
    assert b"verbs.deploy.user" in reply.output
    assert [step.action for step in made.remaphore_plan(message())] == [Action.UNSAFE]
    assert not (tmp_path / "made").exists()


def test_unknown_setting_is_an_error():
    with pytest.raises(PluginError, match=r"plugin 'exec-script': unknown key 'timeout'"):
        configure(load(["exec-script"]), replace(make_config(2), plugins={"exec-script": {"timeout": "5s"}}))


def make_odd(tmp_path) -> Path:
    hooks = make_hooks(tmp_path, _10_a="")
    write_script(hooks / "deploy" / "20-b.sh", "")
    (hooks / "deploy" / "30-c").write_text("#!/bin/sh\n")
    (hooks / "deploy" / "40-mask").touch()
    (hooks / "deploy" / "x\x1b[2J.sh").touch()
    (hooks / "Deploy").mkdir()
    (hooks / "unsafe").mkdir()
    (hooks / "unsafe").chmod(0o777)
    return hooks


def test_what_will_not_run_is_said_at_the_start_and_at_a_reload(tmp_path, caplog):
    hooks = make_odd(tmp_path)
    made = hooks_plugin(hooks)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[0] for line in said] == [
        "directory passed over",
        *["handler passed over"] * 3,
        "verb unsafe rejected",
    ]
    assert said[1] == (
        f"handler passed over: {hooks}/deploy/20-b.sh: a name may hold only letters, digits, _ and -;"
        f" mv {hooks}/deploy/20-b.sh {hooks}/deploy/20-b, or delete it"
    )
    assert said[2].endswith(f"30-c: not executable; chmod +x {hooks}/deploy/30-c")
    assert said[4].endswith(f"{hooks}/unsafe: writable by others; chmod go-w {hooks}/unsafe")
    assert all(line.isprintable() for line in said)
    assert {record.name for record in caplog.records} == {"remaphore.exec-script"}
    caplog.clear()
    made.remaphore_reloaded(replace(make_config(2), hooks=(hooks,)))
    assert [record.getMessage() for record in caplog.records] == said


async def test_reload_changes_directories_and_settings(tmp_path):
    made = hooks_plugin(make_hooks(tmp_path / "old", _1="echo old"))
    hooks = make_hooks(tmp_path / "new", _1="echo new; exit 1", _2="echo 2")
    verbs = {"deploy": VerbSettings(exit_on_error=True)}
    made.remaphore_reloaded(replace(make_config(2), hooks=(hooks,), verbs=verbs))
    assert await handled(made) == Reply(1, b"new\n")


def test_plan_is_what_would_run_with_its_arguments_and_what_would_not(tmp_path):
    hooks = make_odd(tmp_path)
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
    assert (step.action, step.name, step.hint) == (
        Action.UNSAFE,
        f"{hooks}/deploy/1",
        f"chmod go-w {hooks}/deploy/1",
    )


def test_plan_leaves_the_payload_out_where_the_verb_takes_it_on_stdin(tmp_path):
    [step] = hooks_plugin(make_hooks(tmp_path, _1=""), payload="stdin").remaphore_plan(message())
    assert step.argv == (f"{tmp_path}/hooks.d/deploy/1", "deploy")


def test_plan_of_a_verb_without_a_directory_is_empty(tmp_path):
    assert hooks_plugin(make_hooks(tmp_path)).remaphore_plan(message(verb="../deploy")) == []


@pytest.fixture
def samples(tmp_path):
    """The sample handlers, where nobody else can write, whatever the umask of the checkout."""
    copy = Path(shutil.copytree(SAMPLES, tmp_path / "samples"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode & 0o755)
    return hooks_plugin(copy)


async def test_samples_run(samples, caplog):
    ping = await handled(samples, verb="ping", payload=b"")
    assert ping.exit_code == 0
    assert ping.output.startswith(b"hello from %b, up " % os.uname().nodename.encode())
    deploy = await handled(samples, payload=b"-v4.2")
    expected = b"would fetch release -v4.2\nwould activate release -v4.2, asked for by 3v96Sender\n"
    assert deploy == Reply(0, expected)
    assert caplog.records == []


@pytest.mark.parametrize("payload", [b"", b"..", b"../x", b"$(id)", b"a b", b"a\nb", "ä".encode()])
async def test_samples_refuse_a_payload_that_is_no_version(payload, samples):
    reply = await handled(samples, payload=payload)
    assert reply.exit_code == 64
    assert b"would" not in reply.output
