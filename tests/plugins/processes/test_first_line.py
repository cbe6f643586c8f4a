"""What editors put into the first line of a script, in words that a person can act on."""

import subprocess

import pytest

from remaphore_plugins.processes.first_line import LINE_BYTES, Interpreter, Obstacle, read_first_line
from tests.harness.machine import type_in

SCRIPT = b"#!/bin/sh\necho fine\n"

FAULTS = {
    "byte order mark": (b"\xef\xbb\xbf" + SCRIPT, "it begins with a byte order mark (EF BB BF)"),
    "UTF-16": (SCRIPT.decode().encode("utf-16"), "it is UTF-16 text"),
    "UTF-16, big end first, without a mark": (SCRIPT.decode().encode("utf-16-be"), "it is UTF-16 text"),
    "UTF-16, little end first, without a mark": (SCRIPT.decode().encode("utf-16-le"), "it is UTF-16 text"),
    "CR LF": (SCRIPT.replace(b"\n", b"\r\n"), r"its lines end in CR LF, so its interpreter would be '/bin/sh\r'"),
    "CR LF after an argument": (b"#!/usr/bin/env sh\r\n", r"would be '/usr/bin/env sh\r'"),
    "CR only": (SCRIPT.replace(b"\n", b"\r"), "its lines end in CR, so"),
    "no-break space in it": (b"#!/usr/bin/env\xc2\xa0sh\n", "an invisible character, U+00A0 no-break space"),
    "no-break space of Latin-1": (b"#!/usr/bin/env\xa0sh\n", "an invisible character, byte A0"),
    "zero-width space": (b"#!\xe2\x80\x8b/bin/sh\n", "U+200B zero width space"),
    "space before": (b" " + SCRIPT, "there is white space before its #!: U+0020 space"),
    "no-break space before": (b"\xc2\xa0" + SCRIPT, "before its #!: U+00A0 no-break space"),
    "empty line before": (b"\n" + SCRIPT, "there is white space before its #!: U+000A"),
    "no #!": (b"echo fine\n", "its first line does not begin with #!"),
    "space in #!": (b"# !/bin/sh\n", "its first line does not begin with #!"),
    "empty": (b"", "it is empty"),
    "no interpreter": (b"#!\n", "its first line names no interpreter"),
    "blanks for an interpreter": (b"#! \t\n", "its first line names no interpreter"),
    "long": (b"#!/" + b"a" * 300 + b"/sh\n", "longer than the 256 bytes that the kernel reads"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_is_named_with_a_hint(case):
    start, reason = FAULTS[case]
    found = read_first_line("/h/50-it", start[:LINE_BYTES])
    assert isinstance(found, Obstacle)
    assert reason in found.reason
    assert "/h/50-it" in found.hint
    assert (found.reason + found.hint).isprintable()


@pytest.mark.parametrize("case", FAULTS)
def test_the_kernel_agrees_that_it_cannot_be_started(case, tmp_path):
    script = tmp_path / "it"
    script.write_bytes(FAULTS[case][0])
    script.chmod(0o755)
    try:
        done = subprocess.run([script], check=False, capture_output=True)
    except OSError:
        return
    assert done.returncode == 127  # env found no program of that name


@pytest.mark.parametrize("case", ["byte order mark", "CR LF", "CR only"])
def test_hint_that_is_a_command_corrects_the_file(case, tmp_path):
    script = tmp_path / "it's"
    script.write_bytes(FAULTS[case][0])
    found = read_first_line(str(script), FAULTS[case][0])
    type_in(found.hint)
    assert script.read_bytes() == SCRIPT


VALID = {
    b"#!/bin/sh\n": Interpreter("/bin/sh"),
    b"#!/bin/sh": Interpreter("/bin/sh"),
    b"#! \t/bin/sh -e \n": Interpreter("/bin/sh"),
    b"#!/usr/bin/env sh\n": Interpreter("/usr/bin/env", "sh"),
    b"#!/usr/bin/env python3 -u\n": Interpreter("/usr/bin/env", "python3 -u"),
    b"#!/usr/bin/env -S nosuch -x\n": Interpreter("/usr/bin/env", "nosuch"),
    b"#!/usr/bin/env -S -i A=1 B='2 3' sh -e\n": Interpreter("/usr/bin/env", "sh"),
    b"#!/usr/bin/env --split-string=sh -e\n": Interpreter("/usr/bin/env", "sh"),
    b"#!/usr/bin/env -S ${HOME}/sh\n": Interpreter("/usr/bin/env"),
    b"#!/usr/bin/env -u HOME\n": Interpreter("/usr/bin/env"),
    b"#!/usr/bin/env -S 'sh\n": Interpreter("/usr/bin/env"),
    b"#!/usr/bin/env\n": Interpreter("/usr/bin/env"),
    b"#!/bin/sh " + b"x" * 300 + b"\n": Interpreter("/bin/sh"),  # the kernel cuts the argument
    b"\x7fELF\x02\x01\x01\0": None,
    b"\x7fELF\x02\x01\x01": None,
    b"\xca\xfe\xba\xbe\0\0": None,
}


@pytest.mark.parametrize("start", VALID)
def test_interpreter_is_read_as_the_kernel_and_env_do(start):
    assert read_first_line("/h/50-it", start[:LINE_BYTES]) == VALID[start]
