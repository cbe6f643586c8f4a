"""Adding and removing peers: what changes, what stays, and what is rejected with nothing changed."""

import fcntl
import os
import sys
from dataclasses import replace

import pytest
import tomli

from remaphore.config import editing, files, roundtrip, search, secrets
from remaphore.errors import ConfigError, UsageError
from remaphore.extras import install_hint
from remaphore.protocol.peers import Peer
from tests.harness.factories import make_key, make_peer

HEAD = f"""# who we are
destination = "com.own"   # our name
servers = ["nats://a:4222"]
auth = "none"
[[identities]]
key = "{make_key(9).public}"
private_key_file = "own.key"
verbs = ["*"]
"""
PEERS = f"""
# Whom we know

[[peers]]
destination = "com.peer1"
key = "{make_key(1).public}"
verbs = ["ping"]  # only that
# the first

# the cellar
[[peers]]
verbs = [
  "ping",  # why not
  "deploy",
]
key = '{make_key(2).public}'
destination = "com.peer2"
"""
TAIL = """
# How verbs are run

[verbs.deploy]
timeout = "10m"
"""
ONE, TWO, THREE = (
    make_peer(1, None, "ping"),
    make_peer(2, None, "ping", "deploy"),
    make_peer(3, None, "deploy", "ping"),
)
BLOCK = f"""
[[peers]]
destination = "com.peer3"
key = "{make_key(3).public}"
verbs = ["deploy", "ping"]
"""


@pytest.fixture
def main(tmp_path):
    path = tmp_path / "main.toml"
    path.write_text(HEAD + PEERS + TAIL)
    return path


def peers(path):
    return search.load(str(path), {}).peers


def destinations(path):
    return [peer.destination for peer in peers(path)]


def files_of(path):
    return {str(each.relative_to(path.parent)): each.read_bytes() for each in path.parent.rglob("*") if each.is_file()}


def rejected(path, action, part, kind=ConfigError):
    before = files_of(path)
    with pytest.raises(kind) as caught:
        action()
    assert files_of(path) == before
    assert part in f"{caught.value}; hint: {caught.value.hint}"
    assert "\n" not in str(caught.value)


def test_a_peer_is_added_after_the_others_and_all_else_stays_as_it_was_written(main):
    assert editing.add(str(main), [THREE]) == ((THREE,), (str(main),))
    assert main.read_text() == HEAD + PEERS + BLOCK + TAIL
    assert peers(main)[-1] == THREE


def test_the_first_peer_is_added_at_the_end(main):
    main.write_text(HEAD)
    editing.add(str(main), [THREE])
    assert main.read_text() == HEAD + BLOCK


def test_a_comment_that_ends_the_file_introduces_the_first_peer(main):
    main.write_text(HEAD + "\n# Whom we know\n")
    editing.add(str(main), [THREE])
    assert main.read_text() == HEAD + "\n# Whom we know" + BLOCK


@pytest.mark.parametrize("text", [HEAD + PEERS.rstrip(), (HEAD + PEERS + TAIL).replace("\n", "\r\n")])
def test_a_file_without_a_last_newline_or_with_those_of_windows_can_be_edited(main, text):
    main.write_bytes(text.encode())
    editing.add(str(main), [THREE])
    assert destinations(main) == ["com.peer1", "com.peer2", "com.peer3"]
    assert text.encode() in main.read_bytes() or b"\r\n# How verbs are run\r\n" in main.read_bytes()


def test_several_are_added_at_once_and_a_peer_of_the_legacy_format_says_so(main):
    old = Peer(destination="com.old", key=make_key(4).public, verbs=frozenset({"ping"}), legacy=True)
    editing.add(str(main), [THREE, old])
    assert peers(main)[2:] == (THREE, old)


def test_peers_that_stand_in_an_array_are_edited_too(main):
    row = f'{{ destination = "com.peer1", key = "{make_key(1).public}", verbs = [] }}'
    main.write_text(f"peers = [\n  {row},  # one\n]\n{HEAD}")
    editing.add(str(main), [THREE])
    assert destinations(main) == ["com.peer1", "com.peer3"]
    assert "# one\n" in main.read_text()
    editing.remove(str(main), [ONE])
    assert destinations(main) == ["com.peer3"]


@pytest.mark.parametrize("gone", [[ONE], [TWO], [ONE, TWO]])
def test_a_removed_peer_is_gone_and_the_comments_of_others_stay(main, gone):
    editing.remove(str(main), gone)
    assert set(destinations(main)) == {"com.peer1", "com.peer2"} - {peer.destination for peer in gone}
    text = main.read_text()
    assert text.startswith(HEAD)
    assert text.endswith(TAIL)
    assert "\n# Whom we know\n" in text
    assert "\n# the cellar\n" in text
    assert ("# only that" in text) == (ONE not in gone)
    assert ("# why not" in text) == (TWO not in gone)


def test_adding_and_removing_leaves_the_file_as_it_was(main):
    editing.add(str(main), [THREE])
    editing.remove(str(main), [THREE])
    assert main.read_text() == HEAD + PEERS + TAIL


RULES = """
[peers.only.deploy]  # by the CI
payloads = ["stop"]
pattern = 'v[0-9]{1,4}'

# the inner table
[peers.only.restart]
max_length = 9
"""


@pytest.mark.parametrize("head", [HEAD + PEERS + RULES, HEAD + PEERS.replace("# the first", RULES + "# the first")])
def test_edits_keep_payload_rules_and_what_follows_them(main, head):
    main.write_text(head + TAIL)
    editing.add(str(main), [THREE])
    assert main.read_text() == head + BLOCK + TAIL
    editing.remove(str(main), [THREE])
    assert main.read_text() == head + TAIL
    editing.permit(str(main), peers(main), allow=frozenset({"status", "deploy"}), deny=frozenset())
    assert RULES in main.read_text()
    assert all({"status", "deploy"} <= peer.verbs for peer in peers(main))
    (ruled,) = [peer for peer in peers(main) if peer.only]
    editing.remove(str(main), [ruled])
    assert "peers.only" not in main.read_text()
    assert main.read_text().endswith(TAIL)


def test_a_verb_with_a_payload_rule_is_neither_added_to_the_verbs_nor_denied(main):
    main.write_text(HEAD + PEERS.replace("# the first", RULES) + TAIL)
    editing.permit(str(main), peers(main)[:1], allow=frozenset({"status", "deploy"}), deny=frozenset())
    assert tomli.loads(main.read_text())["peers"][0]["verbs"] == ["ping", "status"]
    written = main.read_text()
    for deny in ({"deploy"}, {"ping", "restart"}):
        with pytest.raises(UsageError, match="by a payload rule, which stays") as caught:
            editing.permit(str(main), peers(main)[:1], allow=frozenset(), deny=frozenset(deny))
        assert "[peers.only." in caught.value.hint
    assert main.read_text() == written


def test_without_tomlkit_a_peer_is_added_in_a_file_of_its_own(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    name = main.parent / "peers.d" / "com.peer3.toml"
    assert editing.add(str(main), [THREE]) == ((THREE,), (str(name),))
    assert editing.add(str(main), [THREE, ONE]) == ((), ())
    editing.add(str(main), [make_peer(4, "com.peer3", "ping")], rotate=True)
    assert destinations(main)[2:] == ["com.peer3", "com.peer3"]
    assert main.read_text() == HEAD + PEERS + TAIL
    # A file of our own making is written again; any other would lose its comments.
    editing.permit(str(main), [THREE], allow=frozenset({"status"}), deny=frozenset({"ping"}))
    assert [peer.verbs for peer in peers(main)[2:]] == [{"deploy", "status"}, {"ping"}]
    editing.remove(str(main), [THREE])
    assert name.read_text() == BLOCK.lstrip().replace(THREE.key, make_key(4).public).replace('"deploy", ', "")


def test_without_tomlkit_no_other_file_is_edited_and_both_ways_on_are_named(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    allow = {"allow": frozenset({"status"}), "deny": frozenset()}
    rejected(main, lambda: editing.remove(str(main), [ONE]), f"{install_hint('operator')}, or edit it by hand")
    rejected(main, lambda: editing.permit(str(main), [ONE], **allow), 'write verbs = ["ping", "status"] in peers[0]')
    editing.add(str(main), [THREE])
    name = main.parent / "peers.d" / "com.peer3.toml"
    name.write_text("# ours\n" + name.read_text())
    rejected(main, lambda: editing.permit(str(main), [THREE], **allow), f"{name}: editing it needs tomlkit")
    editing.remove(str(main), [THREE])
    assert len(peers(main)) == 2


def test_peers_that_stand_apart_are_not_put_together_behind_your_back(main):
    main.write_text(HEAD + PEERS + TAIL + BLOCK)
    rejected(main, lambda: editing.add(str(main), [make_peer(4)]), "its [[peers]] are not contiguous; hint: move them")
    editing.add(str(main), [make_peer(4)], drop_in=True)
    assert len(peers(main)) == 4


def test_an_edit_that_would_change_anything_else_is_not_made(main, monkeypatch):
    really_append = roundtrip.append
    for wrong in (
        lambda *given: really_append(*given).replace("com.own", "com.other"),
        lambda *given: really_append(*given).replace('["deploy", "ping"]', '["*"]'),
        lambda *given: really_append(*given).replace("com.peer1", "com.peer7"),
        lambda text, *_: text,
    ):
        monkeypatch.setattr(roundtrip, "append", wrong)
        rejected(main, lambda: editing.add(str(main), [THREE]), "the edit would change more than it should")
    monkeypatch.setattr(roundtrip, "append", lambda *_: "broken")
    rejected(main, lambda: editing.add(str(main), [THREE]), "not TOML")


def test_a_drop_in_is_a_file_of_its_own_and_the_main_file_stays(main):
    name = main.parent / "peers.d" / "com.peer3.toml"
    assert editing.add(str(main), [THREE], drop_in=True).files == (str(name),)
    assert main.read_text() == HEAD + PEERS + TAIL
    assert name.read_text() == BLOCK.lstrip()
    assert name.stat().st_mode & 0o777 == 0o644
    assert peers(main)[-1].origin == f"{name}: peers[0]"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_creates_in_the_directory_of_another_user_belongs_to_that_user(main):
    for path in (main.parent, main):
        os.chown(path, 12345, 23456)
    editing.add(str(main), [THREE], drop_in=True)
    editing.add(str(main), [make_peer(4)])
    for path in (main, main.parent / "peers.d", main.parent / "peers.d" / "com.peer3.toml"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("kind", ["file", "dangling link", "loop"])
def test_peers_d_that_is_no_directory_is_an_error_and_stays(main, kind):
    place = main.parent / "peers.d"
    if kind == "file":
        place.touch()
    else:
        place.symlink_to("nowhere" if kind == "dangling link" else place)
    rejected(main, lambda: editing.add(str(main), [THREE], drop_in=True), str(place))
    assert place.is_symlink() == (kind != "file")


def test_peers_d_may_be_a_link_to_a_directory(main, tmp_path_factory):
    (main.parent / "peers.d").symlink_to(tmp_path_factory.mktemp("shared"))
    editing.add(str(main), [THREE], drop_in=True)
    permit(main, THREE, allow="status")
    assert peers(main)[-1].verbs == {"deploy", "ping", "status"}
    editing.remove(str(main), [THREE])
    assert (main.parent / "peers.d").is_symlink()


def test_a_second_key_goes_into_the_same_drop_in(main):
    editing.add(str(main), [THREE], drop_in=True)
    second = make_peer(4, "com.peer3", "ping")
    name = main.parent / "peers.d" / "com.peer3.toml"
    assert editing.add(str(main), [second], drop_in=True, rotate=True).files == (str(name),)
    assert [peer.key for peer in peers(main)[2:]] == [THREE.key, second.key]
    editing.remove(str(main), [THREE])
    assert peers(main)[2:] == (second,)
    assert editing.remove(str(main), [second]) == (str(name),)
    assert not name.exists()


@pytest.mark.parametrize("name", ["../../escape", "a/b", "/etc/passwd", ".hidden", "..", "z\u00fcrich", "x" * 300])
def test_a_drop_in_has_the_name_of_the_key_if_the_destination_is_no_safe_file_name(main, name):
    peer = make_peer(3, name)
    place = main.parent / "peers.d" / f"{peer.key}.toml"
    assert editing.add(str(main), [peer], drop_in=True) == ((peer,), (str(place),))
    assert peers(main)[-1] == peer
    assert [*files_of(main)] == ["main.toml", f"peers.d/{peer.key}.toml"]


@pytest.mark.parametrize("drop_in", [False, True])
@pytest.mark.parametrize("rotate", [False, True])
def test_a_peer_that_is_known_is_not_added_again(main, drop_in, rotate):
    before = files_of(main)
    assert editing.add(str(main), [ONE, ONE], drop_in=drop_in, rotate=rotate) == ((), ())
    assert files_of(main) == before
    # One that is given twice, and one that is known, keep no other from being added.
    if not rotate:
        assert editing.add(str(main), [ONE, THREE, THREE], drop_in=drop_in).peers == (THREE,)
        assert destinations(main) == ["com.peer1", "com.peer2", "com.peer3"]


@pytest.mark.parametrize("drop_in", [False, True])
@pytest.mark.parametrize("rotate", [False, True])
def test_a_key_that_is_known_otherwise_is_refused_with_its_place(main, drop_in, rotate):
    key = make_key(1).public
    for peer, part in (
        (
            make_peer(1, "com.another"),
            "already belongs to com.peer1: PLACE; hint: add nothing, or first run: remaphore",
        ),
        (
            replace(ONE, legacy=True),
            "already known without compatibility legacy: PLACE; hint: to change that, first ru",
        ),
        (
            make_peer(1, None, "deploy"),
            f"may send ping: PLACE; hint: to change that: COMMAND {key} --allow deploy --de",
        ),
        (replace(ONE, verbs=frozenset()), f"may send ping: PLACE; hint: to change that: COMMAND {key} --deny ping"),
        (make_peer(1, None, "*"), f"may send ping: PLACE; hint: to change that: COMMAND {key} --allow '*'"),
    ):
        expected = part.replace("PLACE", f"{main}: peers[0]").replace("COMMAND", f"remaphore peer permit -c {main}")
        new = [THREE, peer] if not rotate else [peer]
        rejected(main, lambda new=new: editing.add(str(main), new, drop_in=drop_in, rotate=rotate), expected)


def permit(path, peer, allow="", deny=""):
    return editing.permit(str(path), [peer], allow=frozenset(allow.split()), deny=frozenset(deny.split()))


def test_verbs_are_permitted_and_denied_and_the_file_keeps_its_comments(main):
    changed = make_peer(1, None, "ping", "deploy")
    assert permit(main, ONE, allow="deploy") == ((changed,), (str(main),))
    assert permit(main, TWO, allow="status", deny="ping").peers == (make_peer(2, None, "deploy", "status"),)
    shown = PEERS.replace('["ping"]', '["ping", "deploy"]').replace('  "deploy",', '  "deploy",\n  "status",')
    assert main.read_text().replace("\n  # why not", "") == (HEAD + shown + TAIL).replace('\n  "ping",  # why not', "")


@pytest.mark.parametrize(
    "before", ['["ping"]', "['Ping']", '[\n  "ping",  # only\n]', '["ping",]', "[ # none\n'ping' ]", '["ping", "ping"]']
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_list_of_verbs_of_any_layout_can_be_changed_and_emptied(main, before, newline):
    text = (HEAD + PEERS.replace('["ping"]', before) + TAIL).replace("\n", newline)
    main.write_bytes(text.encode())
    permit(main, ONE, allow="deploy status")
    assert peers(main)[0].verbs == {"ping", "deploy", "status"}
    permit(main, ONE, deny="deploy ping status")
    assert peers(main)[0].verbs == frozenset()
    permit(main, ONE, allow="a b")
    assert [peer.verbs for peer in peers(main)] == [{"a", "b"}, {"ping", "deploy"}]
    assert main.read_bytes().startswith(HEAD.replace("\n", newline).encode())
    assert main.read_bytes().endswith(TAIL.replace("\n", newline).encode())


@pytest.mark.parametrize("name", ["com.peer1.toml", "ansible.toml"])
def test_verbs_in_peers_d_are_changed_there_in_every_entry_of_the_peer(main, name):
    (main.parent / "peers.d").mkdir()
    place = main.parent / "peers.d" / name
    place.write_text("# managed\n" + BLOCK.replace("com.peer3", "com.peer1").replace(THREE.key, ONE.key))
    assert permit(main, ONE, allow="status").files == (str(main), str(place))
    assert [peer.verbs for peer in peers(main)] == [
        {"ping", "status"},
        {"ping", "deploy"},
        {"deploy", "ping", "status"},
    ]
    assert place.read_text().startswith("# managed\n")


def test_verbs_of_peers_that_stand_in_an_array_can_be_changed(main):
    main.write_text(f'peers = [{{ destination = "com.peer1", key = "{ONE.key}", verbs = ["ping"] }}]\n{HEAD}')
    permit(main, ONE, allow="status")
    assert peers(main)[0].verbs == {"ping", "status"}


@pytest.mark.parametrize(
    ("verbs", "allow", "deny", "result"),
    [
        ("ping", "ping", "", "ping"),
        ("ping", "", "deploy", "ping"),
        ("*", "deploy", "", "*"),
        ("* ping", "deploy", "", "* ping"),
        ("ping", "*", "", "* ping"),
        ("*", "deploy", "*", "deploy"),
        ("* ping", "", "*", "ping"),
        ("* ping", "", "* ping", ""),
    ],
)
def test_a_star_covers_every_verb_until_it_is_denied(main, verbs, allow, deny, result):
    peer = make_peer(3, None, *verbs.split())
    editing.add(str(main), [peer])
    before = files_of(main)
    permit(main, peer, allow, deny)
    assert peers(main)[-1].verbs == {*result.split()}
    assert (files_of(main) == before) == ({*verbs.split()} == {*result.split()})


@pytest.mark.parametrize(
    ("verbs", "allow", "deny", "part"),
    [
        (
            "*",
            "",
            "ping",
            "may send every verb ('*'), so denying ping would have no effect; hint: name those that it may",
        ),
        ("* ping", "", "ping", "so denying ping would have no effect"),
        ("status", "*", "ping", "so denying ping would have no effect"),
        ("ping", "a b", "b c", "both allowed and denied: b; hint: give each verb only once"),
        ("ping", "a\tb", "", "verbs[1]: a verb cannot contain U+0009"),
    ],
)
def test_verbs_that_cannot_be_permitted_or_denied_change_nothing(main, verbs, allow, deny, part):
    peer = make_peer(3, None, *verbs.split())
    editing.add(str(main), [peer])
    allowed = frozenset(allow.split(" ")) - {""}
    rejected(
        main,
        lambda: editing.permit(str(main), [peer], allow=allowed, deny=frozenset(deny.split())),
        part,
        kind=(ConfigError, UsageError),
    )


@pytest.mark.parametrize("drop_in", [False, True])
def test_another_key_for_a_known_destination_is_added_only_if_that_is_said(main, drop_in):
    second = make_peer(3, "com.peer1", "ping")
    rejected(
        main,
        lambda: editing.add(str(main), [second], drop_in=drop_in),
        f"com.peer1 is already known with another key: {main}: peers[0]; hint: if both keys belong to it",
    )
    rejected(main, lambda: editing.add(str(main), [THREE, make_peer(4, "com.peer3")]), "known with another key: given")
    editing.add(str(main), [second], drop_in=drop_in, rotate=True)
    assert [peer.key for peer in peers(main) if peer.destination == "com.peer1"] == [ONE.key, second.key]


def test_a_rotation_of_a_destination_that_is_not_known_is_refused(main):
    rejected(main, lambda: editing.add(str(main), [THREE], rotate=True), "com.peer3 is not known, so it has no key to")


def test_a_peer_in_peers_d_counts_as_known(main):
    editing.add(str(main), [THREE], drop_in=True)
    other = make_peer(3, "com.other")
    rejected(main, lambda: editing.add(str(main), [other]), "peers.d/com.peer3.toml: peers[0]")


def test_removing_takes_a_peer_out_of_every_file_that_has_it(main):
    (main.parent / "peers.d").mkdir()
    for name in ("a", "b"):
        (main.parent / "peers.d" / f"{name}.toml").write_text(f"# ours\n{BLOCK}")
    (main.parent / "peers.d" / "c.toml").write_text(BLOCK + BLOCK.replace(THREE.key, make_key(4).public))
    editing.add(str(main), [make_peer(5)])
    changed = editing.remove(str(main), [THREE, make_peer(5)])
    assert {name.rpartition("/")[2] for name in changed} == {"main.toml", "a.toml", "b.toml", "c.toml"}
    assert destinations(main) == ["com.peer1", "com.peer2", "com.peer3"]
    assert [path.name for path in (main.parent / "peers.d").iterdir()] == ["c.toml"]


def test_the_legacy_format_is_refused_with_the_hint(tmp_path):
    path = tmp_path / "old.conf"
    path.write_text("x")
    for action in (lambda: editing.add(str(path), [THREE]), lambda: editing.remove(str(path), [THREE])):
        rejected(path, action, "a legacy .conf file cannot be edited; hint: convert it to TOML: remaphore config conv")


def test_a_configuration_that_is_a_loop_of_links_or_missing_is_named(main):
    loop = main.parent / "loop.toml"
    loop.symlink_to(loop)
    for path in (loop, main.parent / "no" / "such.toml"):
        rejected(main, lambda path=path: editing.add(str(path), [THREE]), str(path.parent))


def test_a_configuration_with_an_error_is_not_edited(main):
    main.write_text((HEAD + PEERS).replace("verbs =", "verb ="))
    rejected(main, lambda: editing.add(str(main), [THREE]), "identities[0].verb: unknown key")


def test_a_link_is_followed_and_stays(main, tmp_path):
    link = tmp_path / "etc"
    link.mkdir()
    (link / "link.toml").symlink_to(main)
    editing.add(str(link / "link.toml"), [THREE])
    assert (link / "link.toml").is_symlink()
    assert destinations(main)[-1] == "com.peer3"


@pytest.mark.parametrize("by_link", [False, True])
def test_others_are_held_off_from_reading_to_writing(main, monkeypatch, tmp_path, by_link):
    held = []
    given = main
    if by_link:  # by its own name it must be locked, too
        (tmp_path / "etc").mkdir()
        given = tmp_path / "etc" / "link.toml"
        given.symlink_to(main)

    def watched(function):
        def call(*given, **options):
            other = os.open(main.parent, os.O_RDONLY)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(False)
            except BlockingIOError:
                held.append(True)
            os.close(other)
            return function(*given, **options)

        return call

    monkeypatch.setattr(secrets, "read_file", watched(secrets.read_file))
    monkeypatch.setattr(files, "replace", watched(files.replace))
    editing.add(str(given), [THREE])
    permit(given, THREE, allow="status")
    editing.remove(str(given), [THREE])
    assert held == [True] * 6


def test_an_edit_that_never_ends_keeps_no_other_one_waiting(main, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    other = os.open(main.parent, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    rejected(main, lambda: editing.add(str(main), [THREE]), f"{main.parent}: another program has been editing its")
    os.close(other)
    assert editing.add(str(main), [THREE]).peers == (THREE,)


def test_a_peer_is_chosen_by_destination_or_key_and_one_of_several_keys_must_be_named(main):
    editing.add(str(main), [make_peer(3, "com.peer1")], rotate=True)
    config = search.load(str(main), {})
    first, second = ONE.key, make_key(3).public

    def keys(*given, **options):
        return [peer.key for peer in editing.choose(config, *given, **options)]

    assert keys("com.peer2") == keys(TWO.key) == [TWO.key]
    assert keys("com.peer1", every=True) == [first, second]
    assert keys("com.peer1", key=second) == keys(second) == [second]
    with pytest.raises(UsageError, match=f"com.peer1 has 2 keys: {first}, {second}$"):
        keys("com.peer1")
    with pytest.raises(UsageError, match=r"no peer com.absent in .*main.toml$"):
        keys("com.absent")
    with pytest.raises(UsageError, match=f"no peer com.peer2 with the key {first}"):
        keys("com.peer2", key=first)


@pytest.mark.parametrize("place", [0, 1])
def test_a_private_key_in_the_place_of_a_peer_is_reported_and_not_repeated(main, place):
    secret = make_key(1).reveal()
    given = {"wanted": secret} if place == 0 else {"wanted": "com.peer1", "key": secret}
    with pytest.raises(UsageError, match="this is a private key") as caught:
        editing.choose(search.load(str(main), {}), **given)
    assert secret[:10] not in str(caught.value)


def test_what_is_written_is_toml_whatever_the_names_hold(main):
    peer = make_peer(3, 'a"b\\c\u00fc\U0001f600', 'up"date')
    editing.add(str(main), [peer])
    assert tomli.loads(main.read_text())["peers"][2]["verbs"] == ['up"date']
    main.write_text(HEAD)
    editing.add(str(main), [peer])
    assert peers(main) == (peer,)
