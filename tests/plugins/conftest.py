"""Whatever a test finds, it leaves no process behind. Plugins of others are installed as wheels, beside remaphore's."""

import pytest

from tests.harness.fresh_venv import ROOT, FreshVenv, build_wheels, clean_environment
from tests.harness.processes import Process
from tests.harness.programs import brief_grace, no_subreaper, no_survivor, put_forward
from tests.plugins import recipes

__all__ = ["brief_grace", "no_subreaper", "no_survivor", "put_forward"]


@pytest.fixture(scope="session")
def third_party(tmp_path_factory):
    """An environment with the wheels of remaphore, of a third party's plugin, and of the recipes of the pages."""
    folder = tmp_path_factory.mktemp("third-party")
    plugins = [ROOT / "tests" / "third_party", *recipes.write_projects(folder)]
    fresh = FreshVenv(folder / "venv", "hatchling")
    fresh.install(*build_wheels(folder / "wheels", ROOT, *plugins))
    return fresh


@pytest.fixture
def start(fleet, third_party):
    """Starts the daemon of node two in the fresh environment."""

    def start(extra, ready=" ready"):
        config = fleet.config("two", extra=extra)
        state = clean_environment(STATE_DIRECTORY=str(fleet.folder / "state"))
        words = ("run", "-c", config, "--hooks", fleet.folder / "hooks.d")
        process = Process(words, command=[third_party.bin / "remaphore"], cwd=fleet.folder, env=state)
        fleet.processes.append(process)
        if ready:
            process.wait_for(ready)
        return process

    return start
