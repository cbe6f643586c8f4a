"""A plugin of another distribution, installed beside remaphore's wheel, works in the daemon."""

import json

import pytest

from tests.harness.fleet import Fleet

# The environment takes seconds to make: the tests share it, in one process.
pytestmark = pytest.mark.xdist_group("third party")

STUBBORN = """
import asyncio
import threading
from remaphore import hookimpl

class Stubborn:
    @hookimpl
    async def remaphore_startup(self):
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
"""
STUBBORN_PROJECT = """
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "remaphore-stubborn"
version = "1"

[project.entry-points."remaphore.plugins"]
stubborn = "remaphore_stubborn:Stubborn"
"""


def settings(**values):
    lines = "".join(f"{name} = {json.dumps(str(value))}\n" for name, value in values.items())
    return f'[plugins]\nenable = ["greeter"]\n[plugins.greeter]\n{lines}'


def test_the_host_that_is_tested_here_is_the_wheel(third_party, tmp_path):
    where = third_party.run("python", "-c", "import remaphore; print(remaphore.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(third_party.folder)), where.stderr


def test_a_request_gets_the_plugins_answer_with_its_own_settings(fleet: Fleet, start):
    notes = fleet.folder / "notes"
    daemon = start(settings(greeting="Hi", notes=notes))
    asked = fleet.run(
        "request", "-c", fleet.config("one"), "--to", "com.example.two", "--verb", "greet", "--timeout", "20s", "you"
    )
    assert asked.stdout == "com.example.two,0,Hi, com.example.one: you\n", asked.stderr
    assert asked.returncode == 0
    assert daemon.stop() == (0, "")
    assert notes.read_text().splitlines() == [
        "startup of com.example.two: connected",
        "handled greet by greeter",
        "shutdown stopped",
    ]


def test_a_plugin_that_is_installed_and_not_enabled_does_nothing(fleet, start):
    start("")
    asked = fleet.run(
        "request", "-c", fleet.config("one"), "--to", "com.example.two", "--verb", "greet", "--timeout", "20s"
    )
    assert asked.stdout.startswith("com.example.two,127,"), asked.stderr


def test_invalid_settings_end_the_daemon_before_it_connects(start):
    daemon = start(settings(greting="Hi"), ready=None)
    assert daemon.finish() == (2, "")
    error, hint = daemon.lines[-2:]
    assert error.startswith("remaphore: error: /")
    assert error.endswith("/two.toml: plugins.greeter.greting: unknown key")
    assert hint.startswith("remaphore: hint: did you mean greeting? ")


def test_the_list_names_its_distribution_and_version(fleet, third_party):
    config = fleet.config("two", extra=settings())
    listed = third_party.run("remaphore", "plugins", "-c", config, cwd=fleet.folder)
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("greeter ")]
    assert line.split(maxsplit=4) == [
        "greeter",
        "remaphore-greeter",
        "2.3.4",
        "yes",
        "configure, startup, message, handled, shutdown",
    ]
    assert listed.returncode == 0


def test_a_plugin_whose_task_and_thread_never_end_does_not_keep_the_daemon_from_ending(fleet, third_party, start):
    source = fleet.folder / "stubborn"
    (source / "remaphore_stubborn").mkdir(parents=True)
    (source / "pyproject.toml").write_text(STUBBORN_PROJECT)
    (source / "remaphore_stubborn" / "__init__.py").write_text(STUBBORN)
    third_party.install(source)
    daemon = start('[plugins]\nenable = ["stubborn"]\n')
    assert daemon.stop() == (0, "")
    assert any("plugin_failed" in line and "plugin=stubborn" in line for line in daemon.lines)
