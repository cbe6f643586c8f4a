"""Run a command under a seccomp filter that lets system calls fail, as old container runtimes and kernels do.

As a program: `seccomp.py ERRNO NUMBER[:FIRST_ARGUMENT][,NUMBER...] COMMAND...`. EPERM is what a profile answers to a
call that it does not know, ENOSYS what a kernel answers that lacks it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import subprocess
import sys

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD+W+ABS, BPF_JMP+JEQ+K, BPF_RET+K
_ERRNO, _ALLOW = 0x0005_0000, 0x7FFF_0000
_NUMBERS = {
    "x86_64": {"pidfd_open": 434, "close_range": 436, "faccessat2": 439, "clone3": 435, "prctl": 157, "waitid": 247}
    | {"setgroups": 116, "vfork": 58, "clone": 56, "socket": 41, "kill": 62, "wait4": 61, "sched_getaffinity": 204},
    "aarch64": {"pidfd_open": 434, "close_range": 436, "faccessat2": 439, "clone3": 435, "prctl": 167, "waitid": 95}
    | {"setgroups": 159, "clone": 220, "socket": 198, "kill": 129, "wait4": 260, "sched_getaffinity": 123},
}


def denying(errno: int, *calls: str) -> list[str]:
    """Return the words before a command for which the system calls *calls* fail. Skips where that cannot be done.

    `socket:16`: only with that first argument.
    """
    import pytest  # not there for the program below, which runs without site-packages

    numbers = _NUMBERS.get(platform.machine(), {})
    names = [call.partition(":") for call in calls]
    missing = [name for name, *_ in names if name not in numbers]
    if missing:
        pytest.skip(f"the number of {missing[0]} is not known on {platform.machine()}")
    words = [sys.executable, "-I", "-S", __file__, str(errno)]
    words.append(",".join(f"{numbers[name]}{colon}{argument}" for name, colon, argument in names))
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine permits no seccomp filter")
    return words


def _apply(errno: int, calls: list[str]) -> None:
    number = struct.pack("HBBI", _LOAD, 0, 0, 0)
    argument = struct.pack("HBBI", _LOAD, 0, 0, 16)  # the lower half of the first one, on little-endian machines
    fail = struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | errno)
    code = [number]
    for call in calls:
        which, _, first = call.partition(":")
        if first:
            equal = struct.pack("HBBI", _JUMP_IF_EQUAL, 0, 1, int(first))
            code += [struct.pack("HBBI", _JUMP_IF_EQUAL, 0, 4, int(which)), argument, equal, fail, number]
        else:
            code += [struct.pack("HBBI", _JUMP_IF_EQUAL, 0, 1, int(which)), fail]
    code.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    text = ctypes.create_string_buffer(b"".join(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp filter")


if __name__ == "__main__":
    _apply(int(sys.argv[1]), sys.argv[2].split(","))
    os.execvp(sys.argv[3], sys.argv[3:])
