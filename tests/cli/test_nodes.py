"""`init`, `keygen`, `peer`, `config`, as they are typed: what is asked for, what is printed, and where."""

import io
import json
import shlex
import socket
import sys

import pytest

from remaphore.cli import main as cli
from remaphore.cli import words
from remaphore.cli.options.nodes import (
    ConfigConvert,
    ConfigShow,
    Init,
    Keygen,
    PeerAdd,
    PeerList,
    PeerRemove,
    PeerShow,
)
from remaphore.config import peer_line, search, secrets
from remaphore.errors import UsageError
from remaphore.protocol.keys import PrivateKey
from tests.factories import make_key

RIGHT = peer_line.write(destination="com.right", key=make_key(2).public)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Types a command: run(words, stdin) returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMAPHORE_CONFIG", str(tmp_path / "left.toml"))

    def run(line, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = cli.main(line if isinstance(line, list) else line.split())
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def left(run, tmp_path):
    """The configuration of com.left, made by `init`."""
    assert run("init --destination com.left")[0] == 0
    return tmp_path / "left.toml"


def rejected(done, *parts, code=2):
    assert (done[0], done[1]) == (code, "")
    assert [line.split(": ")[1] for line in done[2].splitlines()] in (["error"], ["error", "hint"])
    for part in parts:
        assert part in done[2]


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("init", Init()),
        (
            "init -c f --destination d --server a --server b --credentials c",
            Init(config="f", destination="d", servers=("a", "b"), credentials="c"),
        ),
        ("keygen f", Keygen(file="f")),
        ("peer add --verbs a,b --verbs c -", PeerAdd(line="-", verbs=("a", "b", "c"))),
        ("peer add --verbs * w:1 d k c", PeerAdd(line="w:1 d k c", verbs=("*",))),
        (
            "peer add -c f --file g --verbs a --compatibility legacy --rotate --drop-in",
            PeerAdd(config="f", file="g", verbs=("a",), legacy=True, rotate=True, drop_in=True),
        ),
        ("peer remove d", PeerRemove(peer="d")),
        ("peer remove d --key k", PeerRemove(peer="d", key="k")),
        ("peer remove d --all -c f", PeerRemove(config="f", peer="d", every=True)),
        ("peer list --json", PeerList(json=True)),
        ("peer show", PeerShow()),
        ("peer show d", PeerShow(peer="d")),
        ("config show --json -c f", ConfigShow(config="f", json=True)),
        ("config convert a.conf --output b.toml", ConfigConvert(file="a.conf", output="b.toml")),
    ],
)
def test_words_ask_for(line, options):
    assert words.read(line.split()) == options


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("peer", "required: ACTION"),
        ("config", "required: ACTION"),
        ("keygen", "required: FILE"),
        (
            "peer add --file f",
            r"no verbs for the peer; say what it may send to us: --verbs ping,deploy \(or --verbs '\*'",
        ),
        ("peer add --verbs , x", "no verbs for the peer"),
        ("peer add --verbs a --file f x", "a peer line and --file; give one of the two"),
        ("peer add --verbs a --compatibility new x", "invalid choice"),
        ("peer remove d --key k --all", "not allowed with"),
    ],
)
def test_mistakes_are_usage_errors(line, message):
    with pytest.raises(UsageError, match=message):
        words.read(line.split())


@pytest.mark.parametrize(
    "line", ["peer", "peer add", "peer remove", "peer list", "peer show", "config show", "config convert"]
)
def test_the_help_of_each_action_fits_a_small_screen_and_has_an_example(line, capsys):
    with pytest.raises(SystemExit):
        words.read([*line.split(), "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: remaphore {line}")
    assert "example: remaphore" in text
    assert len(text.splitlines()) <= 32


def test_init_prints_the_peer_line_alone_on_stdout_and_the_rest_on_stderr(run, tmp_path):
    code, out, err = run("init --destination com.left")
    config = search.load(str(tmp_path / "left.toml"), {})
    assert code == 0
    assert out == peer_line.write(destination="com.left", key=config.default_identity) + "\n"
    assert all(line.startswith("remaphore: ") for line in err.splitlines())
    for part in (
        "left.toml",
        "left.key",
        "left.state",
        "set servers and credentials",
        f"peer add --verbs ping,deploy {out}",
    ):
        assert part in err
    assert config.identity().load().reveal() not in out + err
    assert (tmp_path / "left.state").is_dir()


def test_init_takes_the_broker_from_the_command_line_and_asks_no_more_for_it(run, tmp_path):
    _, _, err = run("init --destination com.left --server tls://a --credentials sub/nats.creds")
    config = search.load(str(tmp_path / "left.toml"), {})
    assert (config.servers, config.auth.file) == (("tls://a",), tmp_path / "sub" / "nats.creds")
    assert "set servers" not in err


def test_init_names_the_node_after_its_host_and_says_so(run, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda: "left.us.example.com")
    _, out, err = run("init")
    assert out.split()[1] == "com.example.us.left"
    assert "this node is com.example.us.left, after its host name" in err


def test_init_makes_the_file_that_will_be_found_and_uses_the_usual_state_directory(run, monkeypatch, tmp_path):
    monkeypatch.delenv("REMAPHORE_CONFIG")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "var"))
    place = tmp_path / "config" / "remaphore" / "remaphore.toml"
    monkeypatch.setattr(search, "default_paths", lambda environ, *, user: (str(place),))
    assert run("init --destination com.left")[0] == 0
    assert search.load(None, {}).state_dir is None
    assert (tmp_path / "var").is_dir()
    assert run("peer show")[1].split()[1] == "com.left"


def test_init_on_a_machine_that_has_one_names_it_before_anything_else(run, left, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    rejected(run("init"), f"{left}: exists, and nothing is overwritten", f"remaphore peer show -c {left}")


def test_a_private_key_is_no_name_for_a_node(run, tmp_path):
    rejected(run(["init", "--destination", make_key(3).reveal()]), "--destination: this is a private key")
    assert list(tmp_path.iterdir()) == []


def test_a_mend_can_be_typed_whatever_the_name_of_the_file(run, left, tmp_path):
    odd = tmp_path / "a b; c.toml"
    assert run(["init", "--destination", "com.odd", "-c", str(odd)])[0] == 0
    rejected(run(["init", "-c", str(odd)]), f"remaphore peer show -c '{odd}'")
    rejected(run(["peer", "remove", "-c", str(odd), "com.nobody"]), f"remaphore peer list -c '{odd}'")
    assert run(["peer", "add", "-c", str(odd), "--verbs", "ping", RIGHT])[0] == 0
    hint = f"remaphore peer remove -c '{odd}' {make_key(2).public}"
    rejected(run(["peer", "add", "-c", str(odd), "--verbs", "ping", RIGHT]), hint)
    assert run(shlex.split(hint)[1:])[0] == 0


def test_keygen_prints_the_public_key_alone(run, tmp_path):
    code, out, err = run("keygen ops.key")
    assert (code, err) == (0, "")
    assert out == PrivateKey.from_text((tmp_path / "ops.key").read_text().strip()).public + "\n"
    rejected(run("keygen ops.key"), "ops.key: exists")


def test_two_nodes_get_to_know_each_other_by_their_peer_lines(run, left, tmp_path):
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
def test_a_peer_line_can_be_given_in_many_ways(run, left, tmp_path, way):
    (tmp_path / "right.peer").write_text(RIGHT + "\n")
    given = {"quoted": [RIGHT], "words": RIGHT.split(), "stdin": [], "dash": ["-"], "file": ["--file", "right.peer"]}[
        way
    ]
    code, out, err = run(["peer", "add", "--verbs", "Ping", *given], RIGHT if way in ("stdin", "dash") else "")
    assert (code, out) == (0, "")
    assert f"com.right ({make_key(2).public}) may send: ping" in err
    assert "changed: " in err
    assert [peer.verbs for peer in search.load(str(left), {}).peers] == [{"ping"}]


def test_adding_this_very_node_is_said(run, left):
    _, own, _ = run("peer show")
    code, _, said = run("peer add --verbs ping -", own)
    assert code == 0
    assert "com.left is this node itself" in said
    assert "this node itself" not in run("peer add --verbs ping -", RIGHT)[2]


def test_adding_says_what_it_waits_for_at_a_terminal_and_reads_on(run, left, monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr(io, "TextIOWrapper", Terminal)
    code, _, err = run("peer add --verbs ping", RIGHT)
    assert code == 0
    assert "paste the peer line of the other node, then press Enter and Ctrl-D" in err.splitlines()[0]


def test_adding_without_any_stdin_is_told(run, left, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["peer", "add", "--verbs", "ping"]) == 2
    assert "stdin: peer lines: it is closed; name a file" in capsys.readouterr().err


def test_an_endless_stdin_is_refused_and_does_not_fill_the_memory(run, left, monkeypatch):
    monkeypatch.setattr(secrets, "MAX_FILE_BYTES", 4096)
    rejected(run("peer add --verbs ping", "#" * 4097), "stdin: peer lines: larger than 4096 bytes")
    rejected(run("explain -", "#" * 4097), "stdin: message: larger than 4096 bytes")


@pytest.mark.parametrize(
    ("line", "stdin", "part"),
    [
        (["peer", "add", "--verbs", "ping", RIGHT[:40]], "", "the peer line: the peer line has 3 words instead of 4"),
        (["peer", "add", "--verbs", "ping", RIGHT[:-1]], "", "does not fit its check, so it was cut or changed"),
        (["peer", "add", "--verbs", "ping"], "", "no peer line in stdin"),
        (["peer", "add", "--verbs", "ping", "--file", "none"], "", "none: peer lines: no such file"),
        (["peer", "add", "--verbs", "ping"], "\xff\0", "stdin: no peer line, which begins with"),
        (["peer", "add", "--verbs", "ping", make_key(3).reveal()], "", "this is a private key"),
        (["peer", "remove", make_key(3).reveal()], "", "this is a private key"),
        (["peer", "show", make_key(3).reveal()], "", "this is a private key"),
        (["peer", make_key(3).reveal()], "", "invalid choice: '...'"),
        (["peer", "add", "--verbs", "ping", "--" + make_key(3).reveal()], "", "unrecognized arguments: --..."),
        (["peer", "remove", "com.nobody"], "", "no peer com.nobody in "),
        (["peer", "add", "--verbs", "a,b c,", "--compatibility", "legacy", "com.x"], "", "neither a peer line nor"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(run, left, line, stdin, part):
    before = left.read_bytes()
    done = run(line, stdin)
    rejected(done, part)
    assert make_key(3).reveal()[:12] not in done[2]
    assert left.read_bytes() == before


def test_the_originals_configuration_is_not_edited_and_nobody_pastes_in_vain(run, tmp_path):
    (tmp_path / "old.conf").write_text("")
    rejected(run("peer add -c old.conf --verbs ping", RIGHT), "remaphore config convert old.conf")
    rejected(run("peer remove -c old.conf com.a"), "remaphore config convert old.conf")


def test_a_list_has_a_line_a_peer_with_verbs_and_origin(run, left):
    run(["peer", "add", "--verbs", "ping,deploy", RIGHT])
    run(["peer", "add", "--drop-in", "--compatibility", "legacy", "--verbs", "*", "com.old", make_key(3).public])
    assert run("peer list")[1].splitlines() == [
        "DESTINATION  KEY                                           VERBS        FROM",
        f"com.right    {make_key(2).public}  deploy,ping  {left}: peers[0]",
        f"com.old      {make_key(3).public}  * (legacy)   {left.parent}/peers.d/com.old.toml: peers[0]",
    ]
    assert [json.loads(line) for line in run("peer list --json")[1].splitlines()] == [
        {
            "destination": "com.right",
            "key": make_key(2).public,
            "verbs": ["deploy", "ping"],
            "compatibility": None,
            "origin": f"{left}: peers[0]",
        },
        {
            "destination": "com.old",
            "key": make_key(3).public,
            "verbs": ["*"],
            "compatibility": "legacy",
            "origin": f"{left.parent}/peers.d/com.old.toml: peers[0]",
        },
    ]


def test_a_peer_line_is_shown_for_each_identity_the_default_one_first_or_for_a_peer(run, left):
    old = search.load(str(left), {}).default_identity
    new = run("keygen next.key")[1].strip()
    table = f'\n[[identities]]\nkey = "{new}"\nprivate_key_file = "next.key"\nverbs = []\n'
    left.write_text(left.read_text().replace(f'default_identity = "{old}"', f'default_identity = "{new}"') + table)
    run(["peer", "add", "--verbs", "ping", RIGHT])
    lines = [peer_line.write(destination="com.left", key=key) + "\n" for key in (new, old)]
    assert run("peer show")[1] == "".join(lines)
    assert run("peer show com.left")[1] == "".join(lines)
    assert run(["peer", "show", old])[1] == lines[1]
    assert run("peer show com.right")[1] == run(["peer", "show", make_key(2).public])[1] == RIGHT + "\n"
    rejected(run("peer show com.nobody"), "no peer com.nobody")


def test_removing_one_of_two_keys_must_say_which(run, left):
    second = peer_line.write(destination="com.right", key=make_key(3).public)
    run(["peer", "add", "--verbs", "ping", RIGHT])
    rejected(run(["peer", "add", "--verbs", "ping", second]), "com.right is known with another key", "--rotate")
    assert run(["peer", "add", "--rotate", "--verbs", "ping", second])[0] == 0
    rejected(run("peer remove com.right"), make_key(2).public, make_key(3).public, "--key KEY, or --all")
    assert "removed: com.right" in run(["peer", "remove", "com.right", "--key", make_key(2).public])[2]
    assert [peer.key for peer in search.load(str(left), {}).peers] == [make_key(3).public]
    assert run("peer remove com.right --all")[0] == 0
    assert search.load(str(left), {}).peers == ()


def test_the_configuration_is_shown_with_origins_as_lines_or_as_json(run, left):
    code, out, _ = run("config show")
    assert code == 0
    assert f'destination = "com.left"  # {left}: destination\n' in out
    assert f'subject = "remaphore"  # default, as {left} has no subject\n' in out
    rows = {row["key"]: row for row in map(json.loads, run("config show --json")[1].splitlines())}
    assert rows["destination"] == {"key": "destination", "value": "com.left", "origin": f"{left}: destination"}
    assert rows.keys() == {line.partition(" = ")[0] for line in out.splitlines()}


def test_what_a_configuration_says_reaches_no_terminal_raw(run, left):
    left.write_text('subject = "a"\n' + left.read_text() + '\n[plugins.x]\nnote = "\\u001b[2J\\u202e"\n')
    out = run("config show")[1]
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert all(len(line.split(" = ", 1)) == 2 for line in out.splitlines())


def test_a_conversion_says_what_it_made_and_what_to_do_with_the_old_file(run, tmp_path):
    (tmp_path / "old.conf").write_text(
        f"server: nats://a:4222\ncredentials: c\ndestination: d\ncolour: blue\n"
        f"[Identities]\n{make_key(1).public} {make_key(1).reveal()} [ping]\n"
    )
    code, out, err = run("config convert old.conf")
    assert (code, out) == (0, "")
    for part in ("warning: old.conf:4: unknown key", "made: old.toml, old.key", "check -c old.toml", "delete old.conf"):
        assert part in err
    assert make_key(1).reveal() not in err
    rejected(run("config convert old.conf"), "old.toml: exists")


def test_a_configuration_of_a_newer_remaphore_is_told_so_in_every_command(run, left):
    left.write_text('quorum = "2 of 3"\n' + left.read_text())
    for line in ("peer list", "config show", ["peer", "add", "--verbs", "ping", RIGHT]):
        rejected(run(line), f"{left}: quorum: unknown key;", "(a newer remaphore may know it: then update this one)")
