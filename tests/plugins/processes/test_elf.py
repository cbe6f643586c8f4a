"""Why an ELF binary could not be started: each cause, as the kernel agrees, and none for what it starts."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore_plugins.processes.elf import find_elf_obstacle

GOOD = Path(sys.executable).resolve().read_bytes()
LOADER = GOOD.index(b"/ld-linux")


def patched(at, new):
    return GOOD[:at] + new + GOOD[at + len(new) :]


FAULTS = {
    "another machine": (patched(18, b"\xff\x7f"), "it is a binary for another machine: machine 32767, not "),
    "no program": (patched(16, struct.pack("=H", 1)), "it is an ELF file, but no program"),
    "no loader": (patched(LOADER, b"/xx"), "its dynamic loader '/"),
    "cut off in its header": (GOOD[:40], "it is an ELF binary that is cut off"),
    "cut off after its header": (GOOD[:64], "it is an ELF binary that is cut off"),
    "only its first bytes": (b"\x7fELF", "it is an ELF binary that is cut off"),
}


def write(path, data):
    path.write_bytes(data)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("data", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_the_kernel_does_not_start_has_its_reason(data, reason, tmp_path):
    binary = write(tmp_path / "go", data)
    with pytest.raises(OSError, match=r"Exec format error|No such file"):
        subprocess.run([binary], check=False)
    found = find_elf_obstacle(binary, emulated=False)
    assert found is not None
    assert found.reason.startswith(reason)


@pytest.mark.parametrize("program", [sys.executable, "/bin/sh", "/bin/true"])
def test_nothing_is_found_in_what_the_kernel_starts(program):
    assert find_elf_obstacle(program, emulated=False) is None


def test_another_machine_is_no_obstacle_where_programs_for_it_are_registered(tmp_path):
    assert find_elf_obstacle(write(tmp_path / "go", FAULTS["another machine"][0]), emulated=True) is None
