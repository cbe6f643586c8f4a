"""What root examines is judged for the user as which the daemon runs, and the files of that user are trusted."""

from __future__ import annotations

import os
import pwd

import pytest

from remaphore.config import search
from remaphore.diagnostics.daemon_user import find_daemon_user
from remaphore.diagnostics.findings import Code
from tests.harness.machine import Machine, type_in

USER = pwd.getpwuid(65534)  # an account that every system has, and that may do nothing


@pytest.fixture
def machine(tmp_path, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("needs root, who examines the daemon of another user")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    made = Machine(tmp_path)
    (made.root / "etc/remaphore").mkdir(parents=True)
    (made.root / "etc/remaphore/remaphore.toml").symlink_to(made.config)
    return made


def user_of(machine):
    return find_daemon_user(search.load(str(machine.config), {}), {}, machine.root)


def set_user(machine, *lines):
    machine.unit.write_text(machine.unit.read_text().replace("#User=remaphore\n", "".join(f"{x}\n" for x in lines)))


@pytest.mark.parametrize("name", [USER.pw_name, str(USER.pw_uid)])
def test_the_user_of_the_unit_counts_with_the_groups_of_the_unit(machine, name):
    set_user(machine, f"User={name}", "SupplementaryGroups=daemon 12345")
    found = user_of(machine)
    assert (found.name, found.uid, found.source) == (USER.pw_name, USER.pw_uid, f"User= in {machine.unit}")
    assert {USER.pw_gid, 1, 12345} <= set(found.groups)


@pytest.mark.parametrize(
    "change",
    [
        lambda machine: None,
        lambda machine: set_user(machine, "User=root"),
        lambda machine: set_user(machine, "User=no-such-user"),
        lambda machine: set_user(machine, f"User={USER.pw_name}", "ExecStart=", "ExecStart=remaphore run -c /other"),
        lambda machine: set_user(machine, f"User={USER.pw_name}", "ExecStart=", "ExecStart=remaphore broker"),
    ],
    ids=["no user", "root", "unknown user", "another configuration", "another command"],
)
def test_without_a_unit_of_another_user_for_this_configuration_it_is_root(machine, change):
    text = machine.unit.read_text().replace("ExecStart=/usr/bin/remaphore run --log-format json\n", "")
    machine.unit.write_text(text.replace("#User", "ExecStart=/usr/bin/remaphore run\n#User"))
    change(machine)
    assert user_of(machine) is None


def test_without_a_unit_the_owner_of_the_state_directory_counts(machine):
    machine.unit.unlink()
    assert user_of(machine) is None
    os.chown(machine.state, USER.pw_uid, USER.pw_gid)
    assert user_of(machine)[:2] == (USER.pw_name, USER.pw_uid)


def test_executability_is_judged_for_that_user_and_not_for_root_who_types(machine):
    machine.handler.chmod(0o700)
    assert machine.found(Code.HANDLER_CANNOT_START) == []
    set_user(machine, f"User={USER.pw_name}")
    (finding,) = machine.found(Code.HANDLER_CANNOT_START)
    assert finding.what.startswith(f"not executable by user {USER.pw_name} (mode 0700")
    machine.handler.chmod(0o755)


@pytest.mark.parametrize("mode", [0o700, 0o711, 0o744])
def test_a_directory_that_the_daemon_could_not_read_is_no_handler_that_runs(machine, mode):
    set_user(machine, f"User={USER.pw_name}")
    assert machine.found(Code.HANDLER_UNSAFE) == []
    folder = machine.handler.parent
    folder.chmod(mode)
    (finding,) = machine.found(Code.HANDLER_UNSAFE)
    assert finding.what.startswith(f"user {USER.pw_name} cannot read the directory {folder} (mode 0{mode:o}")
    type_in(finding.hint)
    assert machine.found(Code.HANDLER_UNSAFE) == machine.found(Code.HANDLER_CANNOT_START) == []
    folder.parent.chmod(mode)
    assert machine.found(Code.HANDLER_UNSAFE)


def test_the_files_of_that_user_are_safe_for_its_daemon_and_for_no_other(machine):
    os.chown(machine.handler, USER.pw_uid, USER.pw_gid)
    assert len(machine.found(Code.HANDLER_UNSAFE)) == 1
    set_user(machine, f"User={USER.pw_name}")
    assert machine.found(Code.HANDLER_UNSAFE) == []


def test_a_verb_with_another_user_is_an_error_as_it_is_for_that_daemon(machine):
    machine.append('[verbs.ping]\nuser = "daemon"\n')
    assert machine.found(Code.PLUGIN_UNUSABLE) == []
    set_user(machine, f"User={USER.pw_name}")
    (finding,) = machine.found(Code.PLUGIN_UNUSABLE)
    assert "only root can run handlers as another user" in finding.what


def test_others_than_root_judge_for_themselves(machine, monkeypatch):
    set_user(machine, f"User={USER.pw_name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert user_of(machine) is None
