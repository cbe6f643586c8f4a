"""Adding and removing identities, and choosing the default one: what changes, what stays, and what is rejected."""

import os
import stat

import pytest

from remaphore.config import creation, files, identities, search
from remaphore.errors import ConfigError, UsageError
from tests.harness.factories import make_key

OLD, OTHER, PEER = make_key(1), make_key(2), make_key(3)
TOP = f"""# who we are
destination = "com.own"   # our name
servers = [
  "nats://a:4222",
]
auth = "none"
default_identity = "{OLD.public}"  # signs
"""
FIRST = f"""
# Our identities.
[[identities]]
key = "{OLD.public}"
private_key_file = "own.key"
verbs = [
  "ping",
  "deploy",  # since March
]
# the first
"""
SECOND = f"""
[[identities]] # the other
private_key_file = "sub/other.key"
verbs = []
key = '{OTHER.public}'
"""
REST = f"""
# Our peers.
[[peers]]
destination = "com.peer"
key = "{PEER.public}"
verbs = ["ping"]
"""


@pytest.fixture
def main(tmp_path):
    path = tmp_path / "main.toml"
    path.write_text(TOP + FIRST + REST)
    write_key(tmp_path / "own.key", OLD)
    return path


def write_key(path, key):
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(key.reveal() + "\n")


def two(main, *, default=TOP, newline="\n"):
    write_key(main.parent / "sub" / "other.key", OTHER)
    main.write_bytes((default + FIRST + SECOND + REST).replace("\n", newline).encode())


def keys(path):
    return [identity.key for identity in search.load(str(path), {}).identities]


def default(path):
    return search.load(str(path), {}).identity().key


def contents(path):
    return {str(each): each.read_bytes() for each in path.parent.rglob("*") if each.is_file()}


def rejected(path, action, part, kind=ConfigError):
    before = contents(path)
    with pytest.raises(kind) as caught:
        action()
    assert contents(path) == before
    assert part in f"{caught.value}; hint: {caught.value.hint}"
    assert "\n" not in str(caught.value)


def test_an_identity_is_added_after_the_others_and_all_else_stays_as_it_was_written(main):
    new = identities.add(str(main))
    file = main.parent / "main-2.key"
    assert (new.file, new.changed, new.created) == (file, (str(main),), True)
    table = (
        f'\n[[identities]]\nkey = "{new.identity.key}"\nprivate_key_file = "main-2.key"\nverbs = ["deploy", "ping"]\n'
    )
    assert main.read_text() == TOP + FIRST + table + REST
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert search.load(str(main), {}).identity(new.identity.key).load().public == new.identity.key
    assert default(main) == OLD.public


def test_each_new_identity_has_a_file_of_its_own_and_no_file_that_exists_is_used(main):
    write_key(main.parent / "main-3.key", OTHER)
    assert [identities.add(str(main)).file.name for _ in range(2)] == ["main-2.key", "main-4.key"]
    assert len({*keys(main)}) == 3


def test_a_key_of_a_file_is_used_as_it_is_and_adding_it_again_changes_nothing(main):
    file = main.parent / "sub" / "other.key"
    write_key(file, OTHER)
    assert identities.add(str(main), key_file=str(file), verbs=frozenset({"ping"})).created is False
    assert 'private_key_file = "sub/other.key"\nverbs = ["ping"]' in main.read_text()
    before = contents(main)
    for verbs in ("", "ping"):
        again = identities.add(str(main), key_file=str(file), verbs=frozenset(verbs.split()))
        assert (again.identity.key, again.changed) == (OTHER.public, ())
    assert contents(main) == before
    rejected(
        main,
        lambda: identities.add(str(main), key_file=str(file), verbs=frozenset({"deploy"})),
        f"{OTHER.public} is already an identity, and may send ping: {main}; hint: omit --verbs, or ",
    )


def test_a_key_file_elsewhere_is_named_by_its_whole_path(main, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "new.key"
    identities.add(str(main), key_file=str(file))
    assert f'private_key_file = "{file}"' in main.read_text()
    assert len(keys(main)) == 2


@pytest.mark.parametrize("text", [TOP + REST + FIRST, TOP + REST + FIRST.rstrip("\n"), TOP + FIRST + REST.lstrip()])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_last_table_and_files_without_a_last_newline_or_with_those_of_windows_can_be_edited(main, text, newline):
    raw = text.replace("\n", newline).encode()
    main.write_bytes(raw)
    new = identities.add(str(main)).identity.key
    assert keys(main) == [OLD.public, new]
    identities.set_default(str(main), new)
    identities.remove(str(main), OLD.public)
    assert (keys(main), default(main)) == ([new], new)
    if newline == "\r\n":
        assert b"\n" not in main.read_bytes().replace(b"\r\n", b"").removesuffix(b"\n")


@pytest.mark.parametrize("top", [TOP, TOP.replace(f'"{OLD.public}"', f"'{OLD.public}'")])
def test_the_default_is_replaced_and_its_comment_stays(main, top):
    two(main, default=top)
    before = main.read_text()
    assert identities.set_default(str(main), OTHER.public) == (str(main),)
    assert main.read_text() == before.replace(top, TOP.replace(OLD.public, OTHER.public))
    assert default(main) == OTHER.public
    assert identities.set_default(str(main), OTHER.public) == ()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_default_that_was_not_set_is_written_below_the_destination(main, newline):
    two(main, default="\n".join(TOP.splitlines()[:-1]) + "\n", newline=newline)
    assert identities.set_default(str(main), OLD.public) == ()  # the first one is the default
    before = main.read_bytes().decode().split("\n")
    assert identities.set_default(str(main), OTHER.public) == (str(main),)
    ending = newline.removesuffix("\n")
    before.insert(2, f'default_identity = "{OTHER.public}"{ending}')
    assert main.read_bytes().decode().split("\n") == before
    assert default(main) == OTHER.public


@pytest.mark.parametrize("delete", [False, True])
def test_a_removed_identity_is_gone_and_its_file_only_if_that_is_said(main, delete):
    two(main)
    file = main.parent / "sub" / "other.key"
    assert identities.remove(str(main), OTHER.public, delete_key_file=delete) == (file, (str(main),))
    assert main.read_text() == TOP + FIRST + REST
    assert file.exists() != delete


def test_the_first_identity_can_be_removed_and_the_comment_above_it_stays(main):
    two(main)
    identities.set_default(str(main), OTHER.public)
    identities.remove(str(main), OLD.public)
    top = TOP.replace(OLD.public, OTHER.public)
    assert main.read_text() == f"{top}\n# Our identities.\n{SECOND.lstrip()}{REST}"


def test_an_identity_that_is_listed_twice_is_removed_from_both_places(main):
    two(main)
    main.write_text(TOP + FIRST + SECOND + SECOND + REST)
    identities.remove(str(main), OTHER.public)
    assert keys(main) == [OLD.public]


def test_the_only_and_the_default_identity_are_not_removed(main):
    rejected(main, lambda: identities.remove(str(main), OLD.public), "the only identity of ")
    main.write_text(TOP + FIRST + FIRST + REST)
    rejected(
        main, lambda: identities.remove(str(main), OLD.public), "hint: first add another, and make it the default:"
    )
    two(main)
    rejected(main, lambda: identities.remove(str(main), OLD.public), f"identity default -c {main} KEY")
    main.write_text(main.read_text().replace(f'default_identity = "{OLD.public}"', ""))
    rejected(main, lambda: identities.remove(str(main), OLD.public), "is the default identity of ")


@pytest.mark.parametrize("action", [identities.set_default, identities.remove])
def test_a_key_that_is_no_identity_is_named_and_a_private_key_is_not_repeated(main, action):
    two(main)
    rejected(main, lambda: action(str(main), PEER.public), f"no identity {PEER.public} in {main}; hint: li", UsageError)
    with pytest.raises(UsageError, match="this is a private key") as caught:
        action(str(main), OLD.reveal())
    assert OLD.reveal()[:10] not in str(caught.value)


def test_a_file_with_anything_but_this_key_is_not_deleted(main):
    two(main)
    file = main.parent / "sub" / "other.key"
    for text in (OLD.reveal(), "-----BEGIN NATS USER JWT-----", ""):
        file.write_text(text)
        rejected(
            main,
            lambda: identities.remove(str(main), OTHER.public, delete_key_file=True),
            f"{file}: does not contain the private key of {OTHER.public}; hint: omit --delete-key-file",
        )
    file.unlink()
    identities.remove(str(main), OTHER.public, delete_key_file=True)
    assert keys(main) == [OLD.public]


def test_a_key_of_a_peer_or_of_an_unsafe_file_or_no_key_is_not_added(main):
    file = main.parent / "new.key"
    write_key(file, PEER)
    rejected(main, lambda: identities.add(str(main), key_file=str(file)), "this key belongs to the peer com.peer")
    file.chmod(0o644)
    rejected(main, lambda: identities.add(str(main), key_file=str(file)), "others can read it (mode 0644)")
    file.write_text("hello")
    file.chmod(0o600)
    rejected(
        main, lambda: identities.add(str(main), key_file=str(file)), "hint: move the file away: it is not overwritt"
    )
    file.unlink()
    file.symlink_to("nowhere")
    rejected(main, lambda: identities.add(str(main), key_file=str(file)), "no such file")
    bad = frozenset({"a\tb"})
    rejected(main, lambda: identities.add(str(main), verbs=bad), "--verbs: a verb cannot contain U+0009", UsageError)


def test_what_is_not_written_as_tables_of_their_own_is_left_to_a_person_with_the_lines(main):
    rows = ", ".join(f'{{ key = "{key.public}", private_key_file = "k", verbs = [] }}' for key in (OLD, OTHER))
    main.write_text(f"{TOP}identities = [{rows}]\n{REST}")
    rejected(main, lambda: identities.add(str(main)), 'private_key_file = "main-2.key", verbs = []')
    rejected(
        main, lambda: identities.remove(str(main), OTHER.public), "edit the file by hand: delete this key from its"
    )
    identities.set_default(str(main), OTHER.public)
    assert default(main) == OTHER.public
    two(main, default=TOP.replace("default_identity", '"default_identity"'))
    rejected(
        main,
        lambda: identities.set_default(str(main), OTHER.public),
        f'edit the file by hand: write above its first [table]: default_identity = "{OTHER.public}"',
    )


def test_a_table_within_a_string_is_not_taken_for_an_identity(main):
    trap = 'notes = """\n[[identities]]\n[end]\n"""\n'
    main.write_text(TOP + FIRST + REST + f"[plugins.log]\n{trap}")
    rejected(main, lambda: identities.add(str(main)), "the edit would change more than it should; hint: nothing was")
    assert not (main.parent / "main-2.key").exists()


def test_a_write_that_fails_leaves_no_key(main, monkeypatch):
    def fail(*_):
        raise ConfigError("disk full")

    monkeypatch.setattr(files, "replace", fail)
    rejected(main, lambda: identities.add(str(main)), "disk full")
    existing = main.parent / "own2.key"
    write_key(existing, OTHER)
    rejected(main, lambda: identities.add(str(main), key_file=str(existing)), "disk full")


def test_the_legacy_format_is_refused_with_the_hint(tmp_path):
    path = tmp_path / "old.conf"
    path.write_text("x")
    for action in (
        lambda: identities.add(str(path)),
        lambda: identities.set_default(str(path), "k"),
        lambda: identities.remove(str(path), "k"),
    ):
        rejected(path, action, "a legacy .conf file cannot be edited; hint: convert it to TOML: remaphore config conv")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o600), (0o640, 0o640), (0o444, 0o640)])
def test_root_gives_a_new_key_to_whoever_can_read_the_old_one(main, mode, expected):
    own = main.parent / "own.key"
    os.chown(own, 12345, 23456)
    own.chmod(mode)
    os.chown(main, 12345, 23456)
    info = identities.add(str(main)).file.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (12345, 23456, expected)
    assert (main.stat().st_uid, main.stat().st_gid) == (12345, 23456)


def test_an_unprivileged_user_creates_a_key_that_no_group_can_read(main, monkeypatch):
    (main.parent / "own.key").chmod(0o640)  # its group may be another than that of new files
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert stat.S_IMODE(identities.add(str(main)).file.stat().st_mode) == 0o600


def test_a_configuration_that_init_creates_can_be_rotated_without_a_trace_of_the_old_key(tmp_path):
    node = creation.NewNode(
        config=tmp_path / "node.toml", destination="com.own", state_dir=tmp_path / "state", state_in_config=True
    )
    old, _ = creation.create_node(node)
    before = node.config.read_text()
    new = identities.add(str(node.config)).identity.key
    identities.set_default(str(node.config), new)
    identities.remove(str(node.config), old, delete_key_file=True)
    assert node.config.read_text() == before.replace(old, new).replace("node.key", "node-2.key")
    assert sorted(path.name for path in tmp_path.glob("*.key")) == ["node-2.key"]
