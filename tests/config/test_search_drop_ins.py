"""`peers.d/*.toml` beside the configuration: read in order, by the rules of the main file, and named in every error."""

import os

import pytest

from remaphore.config import search, secrets
from remaphore.errors import ConfigError
from remaphore.protocol.keys import encode_base58
from tests.harness.factories import make_key

OURS, OTHER, THIRD = (make_key(number) for number in (1, 2, 3))
MAIN = f"""destination = "com.own"
servers = ["nats://a:4222"]
auth = "none"
[[identities]]
key = "{OURS.public}"
private_key_file = "own.key"
verbs = ["*"]
"""


def peer(destination, key=OTHER.public, verbs='"ping"'):
    return f'[[peers]]\ndestination = "{destination}"\nkey = "{key}"\nverbs = [{verbs}]\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.toml").write_text(MAIN)
    (tmp_path / "peers.d").mkdir()
    return tmp_path


def load(folder, name="main.toml"):
    return search.load(str(folder / name), {})


def rejection(folder):
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return f"{caught.value}; hint: {caught.value.hint}"


def test_their_peers_come_after_the_files_own_in_the_order_of_names_and_say_where_they_stand(folder):
    (folder / "main.toml").write_text(MAIN + peer("com.main", THIRD.public))
    (folder / "peers.d" / "20-b.toml").write_text(peer("com.b"))
    (folder / "peers.d" / "10-a.toml").write_text(peer("com.a", make_key(4).public) + peer("com.c", make_key(5).public))
    config = load(folder)
    assert [(known.destination, known.origin) for known in config.peers] == [
        ("com.main", f"{folder}/main.toml: peers[0]"),
        ("com.a", f"{folder}/peers.d/10-a.toml: peers[0]"),
        ("com.c", f"{folder}/peers.d/10-a.toml: peers[1]"),
        ("com.b", f"{folder}/peers.d/20-b.toml: peers[0]"),
    ]
    assert config.warnings == ()


def test_none_or_empty_ones_are_no_peers(folder):
    (folder / "peers.d" / "empty.toml").write_text("# none\n")
    assert load(folder).peers == ()
    (folder / "peers.d" / "empty.toml").unlink()
    assert load(folder).peers == ()
    (folder / "peers.d").rmdir()
    assert load(folder).peers == ()


@pytest.mark.parametrize("name", ["a.toml.bak", "a.toml~", ".a.toml", ".remaphore-x.tmp", "README", "a.conf"])
def test_other_names_are_passed_over(folder, name):
    (folder / "peers.d" / name).write_text("no TOML")
    assert load(folder).peers == ()


def test_a_configuration_of_the_legacy_format_reads_none(folder):
    (folder / "old.conf").write_text(
        f"server: nats://a:4222\ncredentials: c\ndestination: d\n[Identities]\n{OURS.public} {OURS.reveal()} [ping]\n"
    )
    (folder / "peers.d" / "a.toml").write_text("no TOML")
    assert load(folder, "old.conf").peers == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[peers]\n", ":1: not TOML: "),
        (peer("com.a").replace("verbs", "verb"), ": peers[0].verb: unknown key; hint: did you mean verbs?"),
        (peer("com.a", "xyz0"), ": peers[0].key: invalid public key"),
        (peer("com.a", OURS.reveal()), ": peers[0].key: too long for a public key (is it a private key?)"),
        (peer("com.*"), ": peers[0].destination: a destination cannot contain *"),
        (peer("com.a") + '[[peers]]\ndestination = "com.b"\n', ": peers[1].key: missing; hint: add "),
        ('destination = "com.x"\n', ": destination: unknown key; hint: known keys: peers"),
        ("[verbs.deploy]\n", ": verbs: unknown key; "),
        ("peers = 5\n", ": peers: must be an array, not an integer"),
    ],
)
def test_a_mistake_is_reported_with_its_file_and_key_path(folder, text, said):
    (folder / "peers.d" / "a.toml").write_text(text)
    assert rejection(folder).startswith(f"{folder}/peers.d/a.toml{said}")
    assert OURS.reveal()[:12] not in rejection(folder)


def test_a_file_that_cannot_be_read_is_an_error_and_is_named(folder):
    name = folder / "peers.d" / "a.toml"
    name.write_bytes(b"#\n\xff")
    assert rejection(folder) == f"{name}:2: not UTF-8; hint: save the file as UTF-8"
    name.unlink()
    for make in (
        name.mkdir,
        lambda: os.mkfifo(name),
        lambda: name.symlink_to("nowhere"),
        lambda: name.symlink_to(name),
    ):
        make()
        assert rejection(folder) == f"{name}: peers: not a regular file; hint: move it out of peers.d"
        name.rmdir() if name.is_dir() else name.unlink()


def test_a_file_in_the_place_of_the_folder_is_an_error(folder):
    (folder / "peers.d").rmdir()
    (folder / "peers.d").write_text("")
    said = rejection(folder)
    assert said == (
        f"{folder}/peers.d: peers: cannot be read: Not a directory;"
        " hint: check that it is a directory, and that you can read it"
    )


def test_a_key_that_stands_in_two_files_is_warned_about_with_both_places(folder):
    (folder / "main.toml").write_text(MAIN + peer("com.a"))
    (folder / "peers.d" / "a.toml").write_text(peer("com.a", verbs='"*"') + peer("com.b", THIRD.public))
    (folder / "peers.d" / "b.toml").write_text(peer("com.b", THIRD.public) + peer("com.b", THIRD.public))
    place = f"{folder}/peers.d"
    assert {warning.hint for warning in load(folder).warnings} == {"delete one of the two"}
    assert tuple(warning.what for warning in load(folder).warnings) == (
        f"{place}/a.toml: peers[0].key: repeats peers[0].key of {folder}/main.toml, which takes precedence",
        f"{place}/b.toml: peers[0].key: repeats peers[1].key of {place}/a.toml, which takes precedence",
        f"{place}/b.toml: peers[1].key: repeats peers[1].key of {place}/a.toml, which takes precedence",
    )


def test_the_folder_is_that_of_the_name_that_was_given_as_for_all_paths(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "link.toml").symlink_to(folder / "main.toml")
    (folder / "peers.d" / "a.toml").write_text(peer("com.a"))
    assert search.load(str(other / "link.toml"), {}).peers == ()


def test_the_limit_of_peers_counts_all_files(folder, monkeypatch):
    (folder / "peers.d" / "a.toml").write_text(peer("com.a"))
    monkeypatch.setattr(search, "MAX_PEERS", 0)
    assert "1 peers, the limit is 0" in rejection(folder)


def test_each_file_is_read_once_however_many_there_are(folder, monkeypatch):
    for number in range(300):
        text = peer(f"com.host{number}", encode_base58(number.to_bytes(32, "little")).decode())
        (folder / "peers.d" / f"host{number}.toml").write_text(text)
    read = []
    really_read = secrets.read_file
    monkeypatch.setattr(
        secrets, "read_file", lambda path, *, what: (read.append(path), really_read(path, what=what))[1]
    )
    assert len(load(folder).peers) == 300
    assert len(read) == len(set(read)) == 301
