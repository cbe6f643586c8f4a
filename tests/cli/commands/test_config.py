"""`config show` and `config convert`."""

import json

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.config import ConfigConvert, ConfigShow
from remaphore.errors import UsageError
from tests.cli.commands.typed import RIGHT, rejected
from tests.harness.factories import make_key


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("config show --json -c f", ConfigShow(config="f", json=True)),
        ("config convert a.conf --output b.toml", ConfigConvert(file="a.conf", output="b.toml")),
    ],
)
def test_the_options_are_read(line, options):
    assert arguments.read(line.split()) == options


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config", "required: ACTION"),
    ],
)
def test_mistakes_are_usage_errors(line, message):
    with pytest.raises(UsageError, match=message):
        arguments.read(line.split())


def test_the_configuration_is_shown_with_origins_as_lines_or_as_json(run, left):
    code, out, _ = run("config show")
    assert code == 0
    assert f'destination = "com.left"  # {left}: destination\n' in out
    assert f'subject = "remaphore"  # default (subject is not set in {left})\n' in out
    rows = {row["key"]: row for row in map(json.loads, run("config show --json")[1].splitlines())}
    assert rows["destination"] == {"key": "destination", "value": "com.left", "origin": f"{left}: destination"}
    assert rows.keys() == {line.partition(" = ")[0] for line in out.splitlines()}


def test_control_characters_of_a_configuration_are_escaped(run, left):
    left.write_text('subject = "a"\n' + left.read_text() + '\n[plugins.x]\nnote = "\\u001b[2J\\u202e"\n')
    out = run("config show")[1]
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert all(len(line.split(" = ", 1)) == 2 for line in out.splitlines())


def test_a_conversion_reports_what_it_created_and_what_to_do_with_the_old_file(run, tmp_path):
    (tmp_path / "old.conf").write_text(
        f"server: nats://a:4222\ncredentials: c\ndestination: d\ncolour: blue\n"
        f"[Identities]\n{make_key(1).public} {make_key(1).reveal()} [ping]\n"
    )
    code, out, err = run("config convert old.conf")
    assert (code, out) == (0, "")
    for part in (
        "warning: old.conf:4: unknown key 'colour' ignored\nremaphore: hint: known keys: ",
        "created: old.toml, old.key",
        "check -c old.toml",
        "delete old.conf",
    ):
        assert part in err
    assert make_key(1).reveal() not in err
    rejected(run("config convert old.conf"), "old.toml: already exists")


def test_every_command_reports_that_a_configuration_may_be_of_a_newer_remaphore(run, left):
    left.write_text('quorum = "2 of 3"\n' + left.read_text())
    for line in ("peer list", "config show", ["peer", "add", "--verbs", "ping", RIGHT]):
        rejected(run(line), f"{left}: quorum: unknown key", "(if a newer remaphore knows this key, update this one)")
