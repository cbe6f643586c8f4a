"""The user that the handlers of a verb run as; without it, none of them runs."""

import os
import pwd
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore import Action, PluginError, Reply, VerbSettings
from tests.harness.nodes import make_config
from tests.harness.programs import handled, hooks_plugin, make_hooks, message
from tests.harness.seccomp import denying

USER = "nobody"  # an account that every system has, and that may do nothing


# Runs a command in a user namespace that has root only, but permits setgroups(2), as one of a container may.
MAP_ROOT_ONLY = """
import subprocess, sys
command = ["unshare", "--user", "sh", "-c", 'echo; read x; exec "$@"', "sh", *sys.argv[1:]]
inside = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
inside.stdout.readline()
for name, count in (("uid_map", 1), ("gid_map", 65536)):
    with open(f"/proc/{inside.pid}/{name}", "w") as file:
        file.write(f"0 0 {count}")
inside.communicate(b"\\n")
sys.exit(inside.returncode)
"""


LOOK_UP = (
    f"from remaphore_plugins.hooks_d.account import look_up;look_up({USER!r}, setting='verbs.deploy.user', daemon=0)"
)


def let_all_through(tmp_path: Path) -> None:
    """Let every user reach what is in *tmp_path*; pytest makes its directories accessible for us only."""
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of-"):
            return


async def test_handler_runs_as_the_user_of_its_verb(tmp_path, as_user):
    other = pwd.getpwnam(USER)
    made = as_user(_1='id -u; id -g; id -G; echo "$HOME" "$USER" "$LOGNAME"; pwd')
    groups = os.getgroups()
    os.setgroups([*groups, 4711])  # which the handler must not get
    reply = await handled(made)
    os.setgroups(groups)
    names = f"{other.pw_dir} {USER} {USER}"
    assert reply == Reply(0, f"{other.pw_uid}\n{other.pw_gid}\n{other.pw_gid}\n{names}\n/\n".encode())


async def test_handler_that_its_user_cannot_reach_is_reported_before_and_when_it_runs(tmp_path, as_user, caplog):
    """As below a configuration directory of mode 0750."""
    made = as_user(_1="exit 0", _2="exit 0")
    (tmp_path / "hooks.d").chmod(0o750)
    reason = f"user {USER} cannot search the directory {tmp_path}/hooks.d (mode 0750, owner 0, group 0)"
    steps = made.remaphore_plan(message())
    assert [(step.action, step.reason) for step in steps] == [(Action.FAIL, reason)] * 2
    assert {step.hint for step in steps} == {f"chmod o+x {tmp_path}/hooks.d"}
    reply = await handled(made)
    assert reply.exit_code == -1
    assert reason.encode() in reply.output
    caplog.clear()
    verbs = {"deploy": VerbSettings(user=USER)}
    made.remaphore_reloaded(replace(make_config(2), hooks=(tmp_path / "hooks.d",), verbs=verbs))
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"handler cannot start: {tmp_path}/hooks.d/deploy/{number}: {reason}; chmod o+x {tmp_path}/hooks.d"
        for number in (1, 2)
    ]


async def test_handler_that_only_root_may_execute_is_no_matter_of_the_daemon(tmp_path, as_user):
    made = as_user(_1="exit 0")
    (tmp_path / "hooks.d" / "deploy" / "1").chmod(0o700)
    [step] = made.remaphore_plan(message())
    assert (step.action, step.hint) == (Action.FAIL, f"chmod a+rx {tmp_path}/hooks.d/deploy/1")
    assert f"not executable by user {USER}".encode() in (await handled(made)).output
    assert hooks_plugin(tmp_path / "hooks.d").remaphore_plan(message())[0].action is Action.RUN


@pytest.mark.parametrize("how", ["capability", "setgroups", "user namespace"])
def test_root_that_cannot_become_the_user_does_not_start(how, tmp_path):
    """In a container without the capabilities, or whose user namespace maps root only."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    prefix = {
        "capability": lambda: ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"],
        "setgroups": lambda: denying(1, "setgroups"),
        "user namespace": lambda: [sys.executable, "-I", "-c", MAP_ROOT_ONLY],
    }[how]()
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"not possible on this machine: {prefix[0]}")
    source = LOOK_UP
    done = subprocess.run([*prefix, sys.executable, "-c", source], check=False, capture_output=True, text=True)
    assert f"PluginError: verbs.deploy.user: root cannot change to user {USER!r} here" in done.stderr


def test_root_that_cannot_end_the_processes_of_the_user_does_not_start():
    """Their timeout would have no effect."""
    prefix = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"]
    if os.geteuid() != 0 or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root, and setpriv")
    source = LOOK_UP
    done = subprocess.run([*prefix, sys.executable, "-c", source], check=False, capture_output=True, text=True)
    assert f"PluginError: verbs.deploy.user: root cannot end the processes of user {USER!r} here" in done.stderr


@pytest.fixture
def as_user(tmp_path):
    """Return a function that makes handlers of the verb `deploy`, which run as USER."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to run handlers as another user")

    def make(**handlers):
        hooks = make_hooks(tmp_path, **handlers)
        let_all_through(tmp_path)
        return hooks_plugin(hooks, user=USER)

    return make


def test_user_of_a_verb_needs_root(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PluginError, match=r"node2.toml: verbs.deploy.user: only root can"):
        hooks_plugin(make_hooks(tmp_path), user=USER)


def test_unknown_user_is_an_error_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PluginError, match=r"verbs.deploy.user: no such user"):
        hooks_plugin(make_hooks(tmp_path), user="no-such-user")


async def test_unknown_user_after_a_reload_rejects_the_verb_rather_than_run_it_as_us(tmp_path):
    hooks = make_hooks(tmp_path, _1=f"touch {tmp_path}/made")
    made = hooks_plugin(hooks)
    verbs = {"deploy": VerbSettings(user="no-such-user")}
    made.remaphore_reloaded(replace(make_config(2), hooks=(hooks,), verbs=verbs))
    reply = await handled(made)
    assert (reply.exit_code, reply.rejected) == (126, True)
    assert b"verbs.deploy.user" in reply.output
    assert [step.action for step in made.remaphore_plan(message())] == [Action.UNSAFE]
    assert not (tmp_path / "made").exists()
