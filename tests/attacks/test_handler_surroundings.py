"""What a script finds around it: descriptors, variables, arguments of ours.

Attacker: a malicious script or handler, or one that a payload has turned. What must happen: it inherits stdin, stdout
and stderr and nothing else: no socket to the broker, no ledger, no file with a key; and no variable or argument with a
secret. Not promised: with the daemon's uid it can open the daemon's key file, and look into its memory.
"""

import re
import sys

import pytest

from tests.harness.factories import make_key

LIST = f"""exec {sys.executable} -c '
import os
listed = sorted(int(name) for name in os.listdir("/proc/self/fd"))
print("fds", *[number for number in listed if number < 3 or os.path.exists(f"/proc/self/fd/{{number}}")])
print("targets", *[os.readlink(f"/proc/self/fd/{{number}}") for number in (0, 1, 2)])
print("environ", sorted(os.environ))
'"""


def described(fleet, mode, descriptor):
    """Return what a script of the receiver, or a handler of the daemon, sees; that inherited *descriptor* itself."""
    one = fleet.config("one")
    if mode == "receive":
        fleet.start("-c", fleet.config("two"), fleet.script(LIST), pass_fds=[descriptor])
    else:
        folder = fleet.folder / "hooks.d" / "look"
        folder.mkdir(parents=True)
        fleet.script(LIST).rename(folder / "10-look")
        path = fleet.config("two")
        path.write_text(f'state_dir = "{fleet.folder / "state"}"\nhooks = ["{folder.parent}"]\n' + path.read_text())
        fleet.start("run", "-c", path, pass_fds=[descriptor])
    done = fleet.run("request", "-c", one, "--to", "com.example.two", "--verb", "look")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["receive", "run"])
def test_a_script_inherits_three_descriptors_and_no_variable_of_ours(fleet, mode, monkeypatch):
    monkeypatch.setenv("NATS_PASSWORD", "in the environment of the daemon")
    (fleet.folder / "open").write_text("held open by the process that started the daemon")
    with (fleet.folder / "open").open() as file:
        seen = described(fleet, mode, file.fileno())
    assert re.search(r"^com\.example\.two,0,fds 0 1 2$", seen, re.MULTILINE), seen
    assert "socket:" not in seen
    assert "NATS_PASSWORD" not in seen
    assert "REMAPHORE_MSG" in seen
    assert make_key(2).reveal()[:20] not in seen
