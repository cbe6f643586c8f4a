"""Conversion of a legacy .conf to TOML: the same meaning, and private keys in files for their owner alone."""

import json
import stat
from pathlib import Path

import pytest

from remaphore.config import convert as module
from remaphore.config import search
from remaphore.config.convert import comparable, convert
from remaphore.errors import ConfigError
from tests.harness.factories import make_key

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "original.json").read_text())["legacy_configs"]
GOOD = [vector for vector in VECTORS if vector["expected"] == "accepted"]
HEAD = "server: nats://a:4222\ncredentials: c\ndestination: d\n"
IDENTITIES = f"[Identities]\n{make_key(1).public} {make_key(1).reveal()} [ping]\n"


def write(path, text):
    path.touch(mode=0o600)
    path.write_bytes(text.encode())
    return str(path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_enough_configurations_are_converted():
    assert len(GOOD) >= 12


@pytest.mark.parametrize("vector", GOOD, ids=[vector["name"] for vector in GOOD])
def test_the_result_loaded_is_the_old_one_loaded(vector, tmp_path):
    path = write(tmp_path / "old.conf", vector["text"])
    before = search.load(path, {})
    made = convert(path, tmp_path / "new.toml")
    after = search.load(str(tmp_path / "new.toml"), {})
    assert comparable(after) == comparable(before)
    secrets = [[identity.load().reveal() for identity in config.identities] for config in (before, after)]
    assert secrets[0] == secrets[1]
    assert [peer.legacy for peer in after.peers] == [True] * len(before.peers)
    assert not after.legacy
    assert all(stat.S_IMODE(name.stat().st_mode) == 0o600 for name in made.key_files)
    assert (tmp_path / "old.conf").read_bytes().decode() == vector["text"]


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["expected"] == "error"], ids=lambda v: v["name"]
)
def test_what_cannot_be_loaded_is_not_converted(vector, tmp_path):
    path = write(tmp_path / "old.conf", vector["text"])
    with pytest.raises(ConfigError, match=r"old\.conf"):
        convert(path, tmp_path / "new.toml")
    assert names(tmp_path) == ["old.conf"]


def test_no_private_key_is_in_the_new_file(tmp_path):
    convert(write(tmp_path / "old.conf", HEAD + IDENTITIES), tmp_path / "new.toml")
    assert make_key(1).reveal() not in (tmp_path / "new.toml").read_text()
    assert (tmp_path / "new.key").read_text() == make_key(1).reveal() + "\n"


def test_each_key_has_one_file_also_if_it_is_listed_twice(tmp_path):
    line = "{0.public} {1} [ping]\n"
    rows = "".join(line.format(make_key(number), make_key(number).reveal()) for number in (1, 2, 1))
    made = convert(write(tmp_path / "old.conf", f"{HEAD}[Identities]\n{rows}"), tmp_path / "new.toml")
    assert names(tmp_path) == ["new-2.key", "new.key", "new.toml", "old.conf"]
    assert len(made.warnings) == 1
    assert len(search.load(str(tmp_path / "new.toml"), {}).identities) == 3


def test_a_relative_path_counted_from_the_current_directory_and_is_absolute_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    convert(write(tmp_path / "old.conf", HEAD + IDENTITIES), Path("sub/new.toml"))
    assert search.load("sub/new.toml", {}).auth.file == tmp_path / "c"


@pytest.mark.parametrize("taken", ["new.toml", "new.key"])
def test_nothing_is_overwritten_and_nothing_half_made(tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(ConfigError, match=f"{taken}: already exists$"):
        convert(write(tmp_path / "old.conf", HEAD + IDENTITIES), tmp_path / "new.toml")
    assert names(tmp_path) == sorted([taken, "old.conf"])
    assert (tmp_path / taken).read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (HEAD.replace(": d", ": com.*") + IDENTITIES, "destination: a destination cannot contain *"),
        (f"{HEAD}allow_skew: -5s\n{IDENTITIES}", "allow_skew: must be more than 0"),
        (
            f"{HEAD}{IDENTITIES}[Peers]\ncom.* {make_key(2).public} [ping]\n",
            "peers[0].destination: a destination cannot",
        ),
    ],
)
def test_what_toml_does_not_take_is_reported_and_must_be_corrected_first(tmp_path, text, part):
    path = write(tmp_path / "old.conf", text)
    with pytest.raises(ConfigError, match=r"old\.conf: cannot be converted: ") as caught:
        convert(path, tmp_path / "new.toml")
    assert part in str(caught.value)
    assert names(tmp_path) == ["old.conf"]


def test_a_conversion_that_changed_the_meaning_would_not_be_written(tmp_path, monkeypatch):
    really = module.to_toml
    monkeypatch.setattr(module, "to_toml", lambda *given: really(*given).replace('["ping"]', '["*"]'))
    with pytest.raises(ConfigError, match="the conversion would change its meaning"):
        convert(write(tmp_path / "old.conf", HEAD + IDENTITIES), tmp_path / "new.toml")
    assert names(tmp_path) == ["old.conf"]


def test_names_tell_which_way_it_goes(tmp_path):
    with pytest.raises(ConfigError, match="the name is that of a TOML file"):
        convert(str(tmp_path / "a.toml"), tmp_path / "b.toml")
    with pytest.raises(ConfigError, match=r"must end in \.toml$"):
        convert(str(tmp_path / "a.conf"), tmp_path / "b.conf")


def test_one_that_others_can_change_is_converted_with_a_warning(tmp_path):
    path = write(tmp_path / "old.conf", HEAD + IDENTITIES)
    Path(path).chmod(0o620)
    made = convert(path, tmp_path / "new.toml")
    assert f"{path}: writable by its group" in [warning.what for warning in made.warnings]
    assert stat.S_IMODE((tmp_path / "new.toml").stat().st_mode) == 0o644
