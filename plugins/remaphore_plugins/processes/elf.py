"""Why the kernel cannot start an ELF binary: it is cut off, no program, of another machine, or needs another libc.

The kernel has an errno for it only at the start, and ENOENT then means that the dynamic loader is missing. elf(5)
"""

from __future__ import annotations

import os
import shlex
import struct

from remaphore_plugins.processes.first_line import Obstacle

_OWN = "/proc/self/exe"
_HEADER_BYTES = 64
_64_BIT = 2
_LITTLE_ENDIAN = 1
_PROGRAM_TYPES = (2, 3)  # ET_EXEC, ET_DYN
_PT_INTERP = 3
_MAX_LOADER = 4096  # PATH_MAX
# The machine of 32-bit programs that a 64-bit kernel can start, by its own: i386 on x86-64, ARM on AArch64, and so on.
_ALSO = {62: 3, 183: 40, 21: 20, 43: 2}
_NAMES = {2: "SPARC", 3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "S390", 40: "ARM", 43: "SPARC64"}
_NAMES |= {62: "x86-64", 183: "AArch64", 243: "RISC-V", 258: "LoongArch"}


def find_elf_obstacle(path: str, *, emulated: bool) -> Obstacle | None:
    """Return why the ELF binary *path* cannot be started here, None if nothing is found.

    emulated: whether binaries of other machines may be started, by programs that are registered with the kernel.
    """
    name = shlex.quote(path)
    try:
        with open(path, "rb") as file, open(_OWN, "rb") as own:  # noqa: PTH123
            header, ours = file.read(_HEADER_BYTES), own.read(_HEADER_BYTES)
            kind, machine = struct.unpack_from(_order(header) + "HH", header, 16)
            own_machine = struct.unpack_from(_order(ours) + "HH", ours, 16)[1]
            if kind not in _PROGRAM_TYPES:
                return Obstacle("it is an ELF file, but no program", f"replace {name} by an executable")
            if machine not in (own_machine, _ALSO.get(own_machine)) or _order(header) != _order(ours):
                what = f"it is a binary for another machine: {_named(machine)}, not {_named(own_machine)}"
                return None if emulated else Obstacle(what, f"replace {name} by the one for this machine (uname -m)")
            loader = _find_loader(header, file.fileno())
    except (struct.error, OverflowError):
        return Obstacle("it is an ELF binary that is cut off", f"copy {name} again")
    except OSError:
        return None
    if not loader or os.path.exists(loader):  # noqa: PTH110 - not Path.exists, which raises where we may not enter
        return None
    hint = f"install the package with {loader!a}, or replace {name} by a binary for the C library of this system"
    return Obstacle(f"its dynamic loader {loader!a}: no such file", hint)


def _find_loader(header: bytes, file: int) -> str:
    """Return the path of the loader that a binary names, empty if it is static. Raise struct.error if it is cut off."""
    order = _order(header)
    wide = header[4] == _64_BIT
    offset = struct.unpack_from(order + ("q" if wide else "i"), header, 32 if wide else 28)[0]
    size, number = struct.unpack_from(order + "HH", header, 54 if wide else 42)
    for index in range(number):
        entry = os.pread(file, size, offset + index * size)
        if struct.unpack_from(order + "I", entry)[0] == _PT_INTERP:
            at = struct.unpack_from(order + ("q" if wide else "i"), entry, 8 if wide else 4)[0]
            length = struct.unpack_from(order + ("q" if wide else "i"), entry, 32 if wide else 16)[0]
            return os.fsdecode(os.pread(file, min(length, _MAX_LOADER), at).partition(b"\0")[0])
    return ""


def _order(header: bytes) -> str:
    return "<" if header[5:6] == bytes([_LITTLE_ENDIAN]) else ">"


def _named(machine: int) -> str:
    return _NAMES.get(machine, f"machine {machine}")
