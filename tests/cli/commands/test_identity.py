"""`identity add`, `identity default`, `identity remove` and `identity list`."""

import json
import re

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.identity import IdentityAdd, IdentityDefault, IdentityList, IdentityRemove
from remaphore.config import peer_line, search
from remaphore.errors import UsageError
from tests.cli.commands.typed import rejected
from tests.harness.factories import make_key


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("identity add", IdentityAdd()),
        ("identity add -c f k --verbs a,b --verbs c", IdentityAdd(config="f", file="k", verbs=("a", "b", "c"))),
        ("identity default k", IdentityDefault(key="k")),
        ("identity remove k --delete-key-file", IdentityRemove(key="k", delete_key_file=True)),
        ("identity list --json -c f", IdentityList(config="f", json=True)),
    ],
)
def test_the_options_are_read(line, options):
    assert arguments.read(line.split()) == options


@pytest.mark.parametrize(("line", "message"), [("identity", "required: ACTION"), ("identity remove", "required: KEY")])
def test_mistakes_are_usage_errors(line, message):
    with pytest.raises(UsageError, match=message):
        arguments.read(line.split())


def test_a_key_is_rotated_without_an_editor_and_each_step_says_what_it_has_changed(run, left):
    old = search.load(str(left), {}).default_identity
    code, out, said = run("identity add")
    new = out.split()[2]
    assert (code, out) == (0, peer_line.write(destination="com.left", key=new) + "\n")
    for part in (
        f"private key: {left.parent}/left-2.key (mode 0600)\n",
        f"identity {new} may send: *\n",
        f"the default identity is still {old}\n",
        f"changed: {left}; to apply it to a running daemon: systemctl reload remaphore\n",
        f"    remaphore peer add --rotate --verbs ping,deploy {out}",
    ):
        assert part in said
    rejected(run(f"identity remove {old}"), "the default identity of", "identity default -c")
    reload = f"remaphore: changed: {left}; to apply it to a running daemon: systemctl reload remaphore\n"
    assert run(f"identity default {new}") == (0, "", f"remaphore: default identity: {new}\n{reload}")
    assert "already the default identity, nothing changed" in run(f"identity default {new}")[2]
    assert run("peer show")[1].split()[2] == new
    assert f"kept: {left.parent}/left.key; when it is not needed any more: rm " in run(f"identity remove {old}")[2]
    rejected(run(f"identity remove {old}"), f"no identity {old} in {left}", "remaphore identity list -c ")
    rejected(run(f"identity remove {new}"), "the only identity of", "identity add -c")
    assert search.load(str(left), {}).identity().load().public == new


def test_a_file_that_exists_is_added_once_and_its_peer_line_is_printed_each_time(run, left):
    key = run("keygen next.key")[1].strip()
    line = peer_line.write(destination="com.left", key=key) + "\n"
    code, out, said = run("identity add next.key --verbs Ping")
    assert (code, out) == (0, line)
    assert f"{left.parent}/next.key (already existed, and is used)" in said
    before = left.read_bytes()
    assert run("identity add next.key") == (0, line, f"remaphore: already an identity, nothing changed: {key}\n")
    assert left.read_bytes() == before
    assert "deleted: " in run(f"identity remove {key} --delete-key-file")[2]
    assert not (left.parent / "next.key").exists()


def test_the_list_has_the_default_identity_first(run, left):
    old = search.load(str(left), {}).default_identity
    new = run("identity add --verbs deploy,ping")[1].split()[2]
    run(f"identity default {new}")
    rows = [re.split(" +", line) for line in run("identity list")[1].splitlines()]
    assert rows == [
        ["KEY", "VERBS", "FILE", "DEFAULT"],
        [new, "deploy,ping", f"{left.parent}/left-2.key", "default"],
        [old, "*", f"{left.parent}/left.key", "-"],
    ]
    assert [json.loads(line) for line in run("identity list --json")[1].splitlines()] == [
        {"key": new, "verbs": ["deploy", "ping"], "file": f"{left.parent}/left-2.key", "default": True},
        {"key": old, "verbs": ["*"], "file": f"{left.parent}/left.key", "default": False},
    ]


@pytest.mark.parametrize("action", ["add", f"default {make_key(1).public}", f"remove {make_key(1).public}"])
def test_a_legacy_configuration_is_not_edited(run, tmp_path, action):
    (tmp_path / "old.conf").write_text("")
    rejected(run(f"identity {action} -c old.conf"), "remaphore config convert old.conf")
