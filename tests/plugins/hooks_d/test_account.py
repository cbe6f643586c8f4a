"""The user that the handlers of a verb run as; without it, none of them runs."""

import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore import Action, PluginError, Reply, VerbSettings
from tests.harness.nodes import make_config
from tests.harness.programs import handled, hooks_plugin, make_hooks, message


def let_all_through(tmp_path: Path) -> None:
    """Let every user reach what is in *tmp_path*; pytest makes its directories accessible for us only."""
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of-"):
            return


async def test_handler_runs_as_the_user_of_its_verb_or_not_at_all(tmp_path, monkeypatch):
    """As root, it runs as that user; if only geteuid() claims that we are root, the kernel refuses and nothing runs."""
    root = os.geteuid() == 0
    other = pwd.getpwnam("nobody")
    hooks = make_hooks(tmp_path, _1='id -u; id -g; id -G; echo "$HOME"; pwd')
    let_all_through(tmp_path)
    monkeypatch.setattr("remaphore_plugins.hooks_d.account.os.geteuid", lambda: 0)
    made = hooks_plugin(hooks, user="nobody")
    monkeypatch.undo()
    groups = os.getgroups()
    if root:
        os.setgroups([*groups, 4711])  # which the handler must not get
    reply = await handled(made)
    if root:
        os.setgroups(groups)
        ids = f"{other.pw_uid}\n{other.pw_gid}\n{other.pw_gid}\n{other.pw_dir}\n/\n"
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
