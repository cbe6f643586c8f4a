"""The user of a program, and the variables that state it: never those of our own environment."""

import os
import pwd

from remaphore_plugins.processes.account import own_account


def test_home_and_name_are_those_of_the_account_whatever_the_environment_has(monkeypatch):
    for name in ("HOME", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "/elsewhere")
    entry = pwd.getpwuid(os.geteuid())
    name, home = os.fsencode(entry.pw_name), os.fsencode(entry.pw_dir)
    assert own_account().environment() == {"HOME": home, "USER": name, "LOGNAME": name}


def test_a_user_that_the_system_does_not_know_has_its_uid_as_name_and_the_root_as_home(monkeypatch):
    """As in a container that is started with a uid."""
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_123)
    assert own_account().environment() == {"HOME": b"/", "USER": b"4000123", "LOGNAME": b"4000123"}
