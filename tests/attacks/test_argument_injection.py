"""Verbs and payloads that try to become other arguments, variables, commands, or a blank argument by a NUL byte.

Attacker: a permitted peer gone bad. What must happen: the script on the command line gets exactly its own arguments,
the verb and the payload, as they are, and exactly its own variables; what no argument can be starts nothing. Handlers
in hooks.d: tests/plugins/hooks_d.
"""

import pytest

from remaphore_plugins.script import Script
from tests.harness.programs import message, write_script

EVIL = [
    b"; touch stolen",
    b"$(touch stolen)",
    b"`touch stolen`",
    b"--help",
    b"-rf /",
    b"a b  c\t",
    b"'\"\\",
    b"x\ny\n",
    b"\nPATH=/evil\nLD_PRELOAD=/evil.so",
    b"",
    b"\xff\xfe",
    b"%s%n$HOME ~ *",
]
NAMES = {
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "REMAPHORE_SENDER",
    "REMAPHORE_VERB",
    "REMAPHORE_TIME",
    "REMAPHORE_UUID",
    "REMAPHORE_MSG",
}


async def answer(folder, body, **values):
    plugin = Script()
    plugin.remaphore_configure({"argv": (write_script(folder / "script", body), "--own")})
    return await plugin.remaphore_message(message(**values))


@pytest.mark.parametrize("evil", EVIL)
async def test_verb_and_payload_are_one_argument_each_whatever_they_hold(tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    verb = evil.decode(errors="surrogateescape")
    reply = await answer(tmp_path, "cat /proc/$$/cmdline", verb=verb, payload=evil)
    assert reply.output.split(b"\0")[2:-1] == [b"--own", evil, evil]
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("evil", EVIL)
async def test_no_variable_is_added_or_changed(tmp_path, monkeypatch, evil):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    verb = evil.decode(errors="surrogateescape")
    reply = await answer(tmp_path, "cat /proc/$$/environ", verb=verb, payload=evil)
    seen = dict(entry.split(b"=", 1) for entry in reply.output.split(b"\0")[:-1])
    assert {name.decode() for name in seen} == NAMES
    assert (seen[b"PATH"], seen[b"REMAPHORE_VERB"], seen[b"REMAPHORE_MSG"]) == (b"/usr/bin:/bin", evil, evil)


@pytest.mark.parametrize("values", [{"payload": b"a\0b"}, {"payload": b"\0"}, {"verb": "deploy\0x"}, {"verb": "\0"}])
async def test_a_nul_byte_starts_nothing_instead_of_cutting_an_argument(tmp_path, values):
    reply = await answer(tmp_path, f"touch {tmp_path}/started", **values)
    assert (reply.exit_code, (tmp_path / "started").exists()) == (-1, False)
