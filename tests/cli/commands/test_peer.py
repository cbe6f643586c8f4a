"""`peer add`, `peer remove`, `peer list` and `peer show`."""

import io
import json
import re
import shlex
import sys

import pytest

from remaphore.cli import arguments
from remaphore.cli import main as cli
from remaphore.cli.commands.peer import PeerAdd, PeerList, PeerPermit, PeerRemove, PeerShow
from remaphore.config import peer_line, search, secrets
from remaphore.errors import UsageError
from tests.cli.commands.typed import RIGHT, rejected
from tests.harness.factories import make_key


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("peer add --verbs a,b --verbs c -", PeerAdd(line="-", verbs=("a", "b", "c"))),
        ("peer add --verbs * w:1 d k c", PeerAdd(line="w:1 d k c", verbs=("*",))),
        (
            "peer add -c f --file g --verbs a --compatibility legacy --rotate --drop-in",
            PeerAdd(config="f", file="g", verbs=("a",), legacy=True, rotate=True, drop_in=True),
        ),
        ("peer permit d --allow a,b --allow c", PeerPermit(peer="d", allow=("a", "b", "c"))),
        ("peer permit -c f d --deny * --allow a", PeerPermit(config="f", peer="d", allow=("a",), deny=("*",))),
        ("peer remove d", PeerRemove(peer="d")),
        ("peer remove d --key k", PeerRemove(peer="d", key="k")),
        ("peer remove d --all -c f", PeerRemove(config="f", peer="d", every=True)),
        ("peer list --json", PeerList(json=True)),
        ("peer show", PeerShow()),
        ("peer show d", PeerShow(peer="d")),
    ],
)
def test_the_options_are_read(line, options):
    assert arguments.read(line.split()) == options


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("peer", "required: ACTION"),
        (
            "peer add --file f",
            r"no verbs for the peer; hint: add what it may send: --verbs ping,deploy \(or --verbs '\*'",
        ),
        ("peer add --verbs , x", "no verbs for the peer"),
        ("peer add --verbs a --file f x", "both a peer line and --file are given; hint: give only one of the two"),
        ("peer add --verbs a --compatibility new x", "invalid choice"),
        ("peer remove d --key k --all", "not allowed with"),
        ("peer permit d", "no verbs to allow or deny; hint: add --allow deploy, --deny ping, or both"),
        ("peer permit d --allow , --deny ,", "no verbs to allow or deny"),
        ("peer permit --allow a", "required: DESTINATION|KEY"),
    ],
)
def test_mistakes_are_usage_errors(line, message):
    with pytest.raises(UsageError) as caught:
        arguments.read(line.split())
    assert re.search(message, f"{caught.value}; hint: {caught.value.hint}")


def test_two_nodes_add_each_other_by_their_peer_lines(run, left, tmp_path):
    right = run("init -c right.toml --destination com.right")[1]
    assert run(["peer", "add", "--verbs", "ping,deploy", *right.split()])[:2] == (0, "")
    own = run("peer show")[1]
    assert run("peer add -c right.toml --verbs ping -", own)[:2] == (0, "")
    one, other = (search.load(str(tmp_path / name), {}) for name in ("left.toml", "right.toml"))
    assert [(peer.destination, peer.key, peer.verbs) for peer in one.peers] == [
        ("com.right", other.default_identity, {"ping", "deploy"})
    ]
    assert [(peer.destination, peer.key, peer.verbs) for peer in other.peers] == [
        ("com.left", one.default_identity, {"ping"})
    ]


@pytest.mark.parametrize("way", ["quoted", "words", "stdin", "dash", "file"])
def test_a_peer_line_can_be_given_in_five_ways(run, left, tmp_path, way):
    (tmp_path / "right.peer").write_text(RIGHT + "\n")
    given = {"quoted": [RIGHT], "words": RIGHT.split(), "stdin": [], "dash": ["-"], "file": ["--file", "right.peer"]}[
        way
    ]
    code, out, err = run(["peer", "add", "--verbs", "Ping", *given], RIGHT if way in ("stdin", "dash") else "")
    assert (code, out) == (0, "")
    assert f"com.right ({make_key(2).public}) may send: ping" in err
    assert "changed: " in err
    assert [peer.verbs for peer in search.load(str(left), {}).peers] == [{"ping"}]


def test_adding_a_peer_again_changes_nothing_and_says_so(run, left, tmp_path):
    run(["peer", "add", "--verbs", "ping,deploy", RIGHT])
    before = left.read_bytes(), left.stat().st_ino
    known = f"remaphore: already known: com.right ({make_key(2).public}) may send: deploy, ping\n"
    for extra in ([], ["--rotate"], ["--drop-in"]):
        done = run(["peer", "add", "--verbs", "Deploy,ping", *extra, RIGHT])
        assert done == (0, "", f"{known}remaphore: nothing changed\n")
    assert (left.read_bytes(), left.stat().st_ino) == before
    more = peer_line.write(destination="com.more", key=make_key(5).public)
    (tmp_path / "all.peers").write_text(f"{RIGHT}\n{more}\n{more}\n")
    code, _, said = run("peer add --verbs ping,deploy --file all.peers")
    assert (code, said.splitlines()[:2]) == (
        0,
        [known.rstrip(), f"remaphore: com.more ({make_key(5).public}) may send: deploy, ping"],
    )
    assert len(search.load(str(left), {}).peers) == 2


def test_the_hint_for_a_peer_that_is_known_with_other_verbs_makes_the_command_succeed(run, left):
    run(["peer", "add", "--verbs", "ping,deploy", RIGHT])
    for verbs in ("ping,status", "*", "deploy", "*", "*,ping"):
        done = run(["peer", "add", "--verbs", verbs, RIGHT])
        if done[0]:
            rejected(done, "com.right is already known, and may send ")
            assert run(shlex.split(done[2].partition("to change that: remaphore ")[2]))[0] == 0
        assert run(["peer", "add", "--verbs", verbs, RIGHT])[0] == 0


def test_permitting_and_denying_reports_the_verbs_and_whether_anything_changed(run, left):
    second = make_key(3).public
    run(["peer", "add", "--verbs", "ping", RIGHT])
    run(["peer", "add", "--rotate", "--verbs", "ping", peer_line.write(destination="com.right", key=second)])
    one, two = (f"remaphore: com.right ({key}) may send: " for key in (make_key(2).public, second))
    code, out, said = run("peer permit com.right --allow Deploy,status --deny ping")
    assert (code, out) == (0, "")
    assert said.splitlines()[:2] == [f"{one}deploy, status", f"{two}deploy, status"]
    assert said.splitlines()[2].startswith(f"remaphore: changed: {left}; to apply it to a running daemon: ")
    again = run("peer permit com.right --deny ping --allow status")
    assert again == (0, "", f"{one}deploy, status\n{two}deploy, status\nremaphore: nothing changed\n")
    assert run(["peer", "permit", second, "--deny", "deploy,status"])[2].splitlines()[0] == f"{two}nothing"
    assert [peer.verbs for peer in search.load(str(left), {}).peers] == [{"deploy", "status"}, frozenset()]
    run(["peer", "permit", second, "--allow", "*"])
    rejected(run(["peer", "permit", second, "--deny", "ping"]), "may send every verb ('*')", "--deny '*' --allow VERB")
    rejected(run("peer permit com.nosuch --allow a"), "no peer com.nosuch in")
    rejected(run(["peer", "permit", make_key(3).reveal(), "--allow", "a"]), "this is a private key")


def test_a_verb_that_looks_like_a_pattern_is_a_warning(run, left):
    warning = "remaphore: warning: deploy* is not a pattern: verbs are compared exactly"
    assert run(["peer", "add", "--verbs", "deploy*,*", RIGHT])[2].startswith(warning)
    assert run(["peer", "permit", "com.right", "--deny", "*,deploy*", "--allow", "ping"])[2].startswith(warning)
    assert [peer.verbs for peer in search.load(str(left), {}).peers] == [{"ping"}]
    said = run(["peer", "permit", "com.right", "--allow", "lock:*,evict:*,lock:d*,db:*"])[2]
    assert [line.split()[2] for line in said.splitlines() if "warning" in line] == ["db:*", "lock:d*"]
    code, _, said = run(["peer", "permit", "com.right", "--deny", "lock:deploy"])
    assert (code, "com.right may send lock:*, so denying lock:deploy would have no effect" in said) == (2, True)


def test_adding_the_node_itself_is_reported(run, left):
    _, own, _ = run("peer show")
    code, _, said = run("peer add --verbs ping -", own)
    assert code == 0
    assert "com.left is this node itself" in said
    assert "this node itself" not in run("peer add --verbs ping -", RIGHT)[2]


def test_adding_prompts_for_the_peer_line_on_a_terminal(run, left, monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr(io, "TextIOWrapper", Terminal)
    code, _, err = run("peer add --verbs ping", RIGHT)
    assert code == 0
    assert "paste the peer line of the other node, then press Enter and Ctrl-D" in err.splitlines()[0]


def test_adding_with_a_closed_stdin_is_an_error(run, left, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["peer", "add", "--verbs", "ping"]) == 2
    assert "stdin: peer lines: stdin is closed\nremaphore: hint: name a file" in capsys.readouterr().err


def test_an_endless_stdin_is_rejected_and_does_not_fill_the_memory(run, left, monkeypatch):
    monkeypatch.setattr(secrets, "MAX_FILE_BYTES", 4096)
    rejected(run("peer add --verbs ping", "#" * 4097), "stdin: peer lines: larger than 4096 bytes")
    rejected(run("explain -", "#" * 4097), "stdin: message: larger than 4096 bytes")


@pytest.mark.parametrize(
    ("line", "stdin", "part"),
    [
        (["peer", "add", "--verbs", "ping", RIGHT[:40]], "", "the peer line: the peer line has 3 words instead of 4"),
        (["peer", "add", "--verbs", "ping", RIGHT[:-1]], "", "does not match its checksum: it was cut or changed"),
        (["peer", "add", "--verbs", "ping"], "", "no peer line in stdin"),
        (["peer", "add", "--verbs", "ping", "--file", "none"], "", "none: peer lines: no such file"),
        (["peer", "add", "--verbs", "ping"], "\xff\0", "stdin: not a peer line, which begins with"),
        (["peer", "add", "--verbs", "ping", make_key(3).reveal()], "", "this is a private key"),
        (["peer", "remove", make_key(3).reveal()], "", "this is a private key"),
        (["peer", "show", make_key(3).reveal()], "", "this is a private key"),
        (["peer", make_key(3).reveal()], "", "invalid choice: '...'"),
        (["peer", "add", "--verbs", "ping", "--" + make_key(3).reveal()], "", "unrecognized arguments: --..."),
        (["peer", "remove", "com.unknown"], "", "no peer com.unknown in "),
        (["peer", "add", "--verbs", "a,b c,", "--compatibility", "legacy", "com.x"], "", "neither a peer line nor"),
    ],
)
def test_bad_input_is_an_error_of_one_line_and_changes_nothing(run, left, line, stdin, part):
    before = left.read_bytes()
    done = run(line, stdin)
    rejected(done, part)
    assert make_key(3).reveal()[:12] not in done[2]
    assert left.read_bytes() == before


def test_a_legacy_configuration_is_not_edited_and_reported_before_a_line_is_pasted(run, tmp_path):
    (tmp_path / "old.conf").write_text("")
    rejected(run("peer add -c old.conf --verbs ping", RIGHT), "remaphore config convert old.conf")
    rejected(run("peer remove -c old.conf com.a"), "remaphore config convert old.conf")
    rejected(run("peer permit -c old.conf com.a --allow a"), "remaphore config convert old.conf")


def test_the_list_has_a_line_per_peer_with_verbs_and_origin(run, left):
    run(["peer", "add", "--verbs", "ping,deploy", RIGHT])
    run(["peer", "add", "--drop-in", "--compatibility", "legacy", "--verbs", "*", "com.old", make_key(3).public])
    assert run("peer list")[1].splitlines() == [
        "DESTINATION  KEY                                           VERBS        FROM",
        f"com.old      {make_key(3).public}  * (legacy)   {left.parent}/peers.d/com.old.toml: peers[0]",
        f"com.right    {make_key(2).public}  deploy,ping  {left}: peers[0]",
    ]
    assert [json.loads(line) for line in run("peer list --json")[1].splitlines()] == [
        {
            "destination": "com.old",
            "key": make_key(3).public,
            "verbs": ["*"],
            "only": {},
            "compatibility": "legacy",
            "origin": f"{left.parent}/peers.d/com.old.toml: peers[0]",
        },
        {
            "destination": "com.right",
            "key": make_key(2).public,
            "verbs": ["deploy", "ping"],
            "only": {},
            "compatibility": None,
            "origin": f"{left}: peers[0]",
        },
    ]


def test_the_list_and_a_change_of_verbs_name_payload_rules(run, left):
    run(["peer", "add", "--verbs", "ping", RIGHT])
    left.write_text(left.read_text() + "[peers.only.deploy]\npattern = 'v[0-9]+'\n")
    assert "  deploy,ping (payload rules: deploy)  " in run("peer list")[1]
    assert json.loads(run("peer list --json")[1])["only"] == {"deploy": {"pattern": "v[0-9]+", "max_length": 256}}
    assert "may send: deploy,status (payload rules: deploy)" in "".join(
        run("peer permit com.right --allow status --deny ping")[1:]
    ).replace(", ", ",")
    rejected(run("peer permit com.right --deny deploy"), "delete [peers.only.deploy] of")


def test_the_list_is_in_natural_order(run, left):
    for number in (10, 9):
        run(
            [
                "peer",
                "add",
                "--drop-in",
                "--verbs",
                "ping",
                peer_line.write(destination=f"com.web.{number}", key=make_key(number).public),
            ]
        )
    assert [line.split()[0] for line in run("peer list")[1].splitlines()[1:]] == ["com.web.9", "com.web.10"]


def test_a_file_in_place_of_a_peer_line_is_an_error_that_names_the_option(run, left, tmp_path):
    (tmp_path / "right.peer").write_text(RIGHT + "\n")
    code, _, err = run(["peer", "add", "--verbs", "ping", "right.peer"])
    assert (code, "'right.peer' is a file, not a peer line" in err) == (2, True)
    assert "hint: to add the peers in it: --file right.peer" in err
    assert not search.load(str(left), {}).peers


def test_show_prints_a_peer_line_for_each_identity_the_default_one_first_or_for_a_peer(run, left):
    old = search.load(str(left), {}).default_identity
    new = run("identity add")[1].split()[2]
    run(["identity", "default", new])
    run(["peer", "add", "--verbs", "ping", RIGHT])
    lines = [peer_line.write(destination="com.left", key=key) + "\n" for key in (new, old)]
    assert run("peer show")[1] == "".join(lines)
    assert run("peer show com.left")[1] == "".join(lines)
    assert run(["peer", "show", old])[1] == lines[1]
    assert run("peer show com.right")[1] == run(["peer", "show", make_key(2).public])[1] == RIGHT + "\n"
    rejected(run("peer show com.unknown"), "no peer com.unknown")


def test_removing_one_of_two_keys_needs_the_key(run, left):
    second = peer_line.write(destination="com.right", key=make_key(3).public)
    run(["peer", "add", "--verbs", "ping", RIGHT])
    rejected(run(["peer", "add", "--verbs", "ping", second]), "com.right is already known with another key", "--rotate")
    assert run(["peer", "add", "--rotate", "--verbs", "ping", second])[0] == 0
    rejected(run("peer remove com.right"), make_key(2).public, make_key(3).public, "--key KEY, or all with --all")
    assert "removed: com.right" in run(["peer", "remove", "com.right", "--key", make_key(2).public])[2]
    assert [peer.key for peer in search.load(str(left), {}).peers] == [make_key(3).public]
    assert run("peer remove com.right --all")[0] == 0
    assert search.load(str(left), {}).peers == ()


def test_a_destination_that_a_shell_would_run_is_a_warning(run, left):
    line = peer_line.write(destination="com.$(reboot)", key=make_key(7).public)
    code, _, err = run("peer add --verbs ping " + line)
    assert code == 0
    assert "warning: the destination contains U+0024 dollar sign" in err
