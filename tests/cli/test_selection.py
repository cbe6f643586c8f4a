"""The destinations that a command line names, and the mistakes that are errors before anything is sent."""

import io
import sys
from dataclasses import replace

import pytest

from remaphore.cli import arguments
from remaphore.cli.main import main
from remaphore.cli.selection import Selection, addressees
from remaphore.nodeset import MAX_NAMES
from remaphore.requesting.selection import no_receivers
from tests.harness.factories import make_key
from tests.harness.node_files import Entry, write_toml
from tests.harness.nodes import make_config

NAMES = ("com.example.web.10", "com.example.web.2", "com.example.web.1", "com.example.db.1", "org.other", "solo")


@pytest.fixture
def typed(tmp_path, capsys, monkeypatch):
    """Return a function that runs a command line with stdin, and returns its exit code, stdout and stderr.

    No server is running: a command that connects ends with exit code 3, and names the server.
    """
    path = tmp_path / "admin.toml"
    entries = [Entry(name, number, []) for number, name in enumerate(NAMES, 2)]
    write_toml(path, 1, "com.admin", servers=["nats://127.0.0.1:1"], peers=entries, login='auth = "none"\n')
    monkeypatch.chdir(tmp_path)

    def typed(command, *words, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main([command, "-c", str(path), *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return typed


def asked(typed, *words, **options):
    code, out, err = typed("request", "--dry-run", *words, **options)
    assert code == 0, err
    return [line.split()[1].removeprefix("com.example.") for line in out.splitlines() if line.startswith("ask ")]


def test_one_pattern_is_sent_as_it_is_and_several_are_a_selection():
    for command in ("send", "request"):
        for words, to in (([], "**"), (["--to", "com.web.1"], "com.web.1"), (["--to", "com.**"], "com.**")):
            options = arguments.read([command, *words])
            assert (options.to, options.selection) == (to, None)
        for words in (["--to", "a", "--to", "b"], ["--to", "a,b"], ["--to", "a[1]"]):
            assert arguments.read([command, *words]).selection == Selection(to=tuple(words[1::2]))
    options = arguments.read(["request", "--to", "**", "--except", "a", "--except", "b"])
    assert options.selection == Selection(to=("**",), excluded=("a", "b"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--to", "com.example.web.1", "--to", "com.example.db.1"], "db.1 web.1"),
        (["--to", "com.example.web.[1-2,10]"], "web.1 web.2 web.10"),
        (["--to", "com.example.[web,db].1"], None),
        (["--to", "com.example.web.10,com.example.db.1,com.example.web.2"], "db.1 web.2 web.10"),
        (["--to", "com.example.web.*", "--to", "com.example.web.2"], "web.1 web.2 web.10"),
        (["--except", "com.example.web.[1-2]", "--except", "org.**,solo"], "db.1 web.10"),
        (["--to-file", "list"], "db.1 web.2 web.10"),
        (["--to-file", "list", "--to", "solo", "--except", "com.example.db.*"], "web.2 web.10 solo"),
        (["--to-file", "-"], "web.1"),
    ],
)
def test_patterns_sets_and_files_are_added_and_exceptions_subtracted(typed, tmp_path, words, expected):
    (tmp_path / "list").write_text(
        "\ufeff# rack 1\n\ncom.example.web.[2,10]  # the new ones\r\n\tcom.example.db.*\n# com.example.web.1\n"
    )
    stdin = "com.example.web.1\n"
    if expected is None:
        assert typed("request", *words)[0] == 2
    else:
        assert sorted(asked(typed, *words, stdin=stdin)) == sorted(expected.split())


def test_batches_are_in_natural_order(typed):
    assert asked(typed, "--batch", "1") == ["db.1", "web.1", "web.2", "web.10", "org.other", "solo"]
    _, out, err = typed("request", "--dry-run", "--to", "com.example.web.[1-2,10]", "--batch", "60%")
    assert out.splitlines()[:4] == [
        "ask   com.example.web.1  batch 1 of 2",
        "ask   com.example.web.2  batch 1 of 2",
        "ask   com.example.web.10  batch 2 of 2",
        "skip  com.example.db.1: it is not selected",
    ]
    assert err == "remaphore: 3 would be asked, in batches: 2\n"


@pytest.mark.parametrize("command", ["send", "request"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", ""], "argument --to: its value is empty"),
        (["--to", " "], "--to: empty name in ' '"),
        (["--to", "a", "--to", "b,"], "--to: empty name in 'b,'"),
        (["--to", "@list"], "--to: a name cannot begin with @\nremaphore: hint: give a file with --to-file FILE"),
        (["--to", "a", "--to", "@list"], "--to: a name cannot begin with @"),
        (["--to", "a[1-99999999]"], f"--to: 'a[1-99999999]' has 99999999 names; the limit is {MAX_NAMES}"),
        (["--to", f"a[1-{MAX_NAMES}]", "--to", "b"], f"--to: more than {MAX_NAMES} destinations"),
        (["--to-file", "large"], f"--to-file: large:2: 'b[1-999999]' has 999999 names; the limit is {MAX_NAMES}"),
        (["--to", "a[3-1]"], "--to: reversed range '3-1' in 'a[3-1]'"),
        (["--to", "a b"], "--to: white space in 'a b'"),
        (["--to-file", "nosuch"], "--to-file: nosuch: destinations: no such file"),
        (["--to-file", "."], "--to-file: .: destinations: is a directory"),
        (["--to-file", "empty"], "--to-file: empty: no destinations in it"),
        (["--to-file", "-"], "--to-file: stdin: no destinations in it"),
        (["--to-file", "bad"], "--to-file: bad:3: unclosed bracket in 'a[1'"),
        (["--to-file", "deceptive"], "--to-file: deceptive:1: U+200B zero width space at line 1, column 2"),
        (["--to-file", "at"], "--to-file: at:1: a name cannot begin with @"),
        (["--to-file", "binary"], "--to-file: binary: not text"),
        (["--to-file", "-", "-"], "stdin cannot be both the payload and --to-file"),
        (["--to-file", "-", "--to-file", "-"], "--to-file - is given twice"),
    ],
)
def test_a_mistake_is_an_error_before_anything_is_sent(typed, tmp_path, command, words, message):
    files = {
        "empty": b"# none\n\n",
        "bad": b"a\n\na[1\n",
        "deceptive": "a\u200bb\n".encode(),
        "at": b"@a\n",
        "binary": b"\xff\xfe",
        "large": b"a\nb[1-999999]\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, out, err = typed(command, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"remaphore: error: {message}")
    assert "\nremaphore: hint: " in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "solo", "--to", "com.example.wbe.1"], "matches 'com.example.wbe.1'\nremaphore: hint: did you mean"),
        (["--to", "com.example.web.[1-4]"], "matches 'com.example.web.3' or 'com.example.web.4'"),
        (["--to", "com.**", "--except", "solos"], "matches 'solos'\nremaphore: hint: did you mean 'solo'?"),
        (["--to", "solo", "--except", "**"], "all 1 destinations are excluded"),
        (["--to", "web.1"], "matches 'web.1'\nremaphore: hint: did you mean 'com.example.web.1'?"),
        (["--to", "com.**.1"], "hint: 'com.*.*.1' matches com.example.db.1; * stands for text within one level"),
        (["--to", "net.absent"], "hint: remaphore peer list shows the known destinations"),
    ],
)
def test_a_request_to_a_destination_without_peer_is_an_error_that_suggests_one(typed, words, message):
    for dry_run in ([], ["--dry-run"]):
        code, _, err = typed("request", *words, *dry_run)
        assert (code, "remaphore: error: no known receivers: " in err) == (3, True)
        assert message in err


def test_a_node_without_peers_is_told_to_add_one():
    error = no_receivers(replace(make_config(1), peers=()), ["com.example.**"], ())
    assert str(error) == "no known receivers: no peers in node1.toml"
    assert error.hint.startswith("add the first peer: remaphore peer add")


def test_the_other_commands_suggest_as_well(typed):
    for words in (["ping", "web.1"], ["doctor", "--to", "web.1"], ["-r", "-D", "web.1"]):
        code, _, err = typed(*words)
        assert code == 3
        assert "did you mean 'com.example.web.1'?" in err


def test_where_a_pattern_is_wanted_a_node_set_is_explained(typed):
    code, _, err = typed("-r", "-D", "com.example.web.[1-2]")
    assert code == 3
    assert "hint: only ping, status and the --to of send, request, explain and doctor take several destinations" in err


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("com.**",), ("com.**",)),
        (("solo",), ("solo",)),
        (("com.example.web.[1-2]",), ("com.example.web.1", "com.example.web.2")),
        (("org.**", "com.example.d*.*"), ("com.example.db.1", "org.other")),
        (("solo", "com.example.web.*", "com.example.web.2"), (*(f"com.example.web.{n}" for n in (1, 2, 10)), "solo")),
        (("org.other,solo",), ("org.other", "solo")),
    ],
)
def test_ping_and_doctor_send_one_message_to_one_pattern_and_else_one_to_each_destination(texts, expected):
    config = make_config(1)
    peers = tuple(replace(config.peers[0], destination=name, key=make_key(n)) for n, name in enumerate(NAMES, 2))
    assert addressees("NODES", texts, replace(config, peers=peers)) == expected


@pytest.mark.parametrize(("command", "option"), [("ping", "NODES"), ("doctor", "--to")])
@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ("com.example.web.[1-", 2, "remaphore: error: {}: "),
        ("@list", 2, "remaphore: error: {}: a name cannot begin with @\nremaphore: hint: omit the @\n"),
        ("web.1", 3, "did you mean 'com.example.web.1'?"),
    ],
)
def test_each_of_several_destinations_of_ping_and_doctor_has_to_be_known(typed, command, option, wrong, code, message):
    exit_code, out, err = typed(command, *(["solo", wrong] if command == "ping" else ["--to", "solo", "--to", wrong]))
    assert (exit_code, out) == (code, "")
    assert message.format(option) in err


@pytest.mark.parametrize("words", [["--to", "com.**.web"], ["--to", "a", "--to", "*b*"]])
def test_send_rejects_a_pattern_that_no_destination_can_match(typed, words):
    code, out, err = typed("send", *words)
    assert (code, out) == (2, "")
    assert "error: no destination can match '" in err
    assert "hint: * stands for text within one level" in err


def test_send_refuses_exceptions_with_the_reason(typed):
    code, out, err = typed("send", "--to", "com.**", "--except", "com.example.db.1")
    assert (code, out) == (2, "")
    assert "receivers that are not in the configuration would be lost" in err
    assert "--except" not in arguments.make_parser("send").format_help()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["com.example.web.1", "deploy", "v1"], "--to com.example.web.1 --verb deploy v1"),
        (["com.example.web.1"], "--to com.example.web.1"),
        (["solo", "deploy", "two words", "it's"], "--to solo --verb deploy 'two words' 'it'\"'\"'s'"),
        (["com.example.web.*", "deploy"], "--to 'com.example.web.*' --verb deploy"),
        (["com.example.web.[1-2]", "deploy"], "--to 'com.example.web.[1-2]' --verb deploy"),
        (["com.example.web.1,solo", "deploy"], "--to com.example.web.1,solo --verb deploy"),
        (["web.1", "deploy"], "--to com.example.web.1 --verb deploy"),
        (["com.example.web.1.", "deploy"], "--to com.example.web.1 --verb deploy"),
        (["COM.example.web.1", "deploy"], "--to com.example.web.1 --verb deploy"),
        (["com.exmaple.web.10", "deploy"], "--to com.example.web.10 --verb deploy"),
        (["--timeout", "1s", "solo", "deploy"], "--to solo --verb deploy CONFIG --timeout 1s"),
        (["solo", "--id", "solo"], "--to solo CONFIG --id solo"),
        (["--id", "solo", "--subject", "s", "solo"], "--to solo CONFIG --id solo --subject s"),
        (["--", "solo", "deploy", "-n"], "--to solo --verb deploy CONFIG -- -n"),
        (["--to-file", "list", "solo", "deploy"], "--to solo --verb deploy CONFIG --to-file list"),
    ],
)
@pytest.mark.parametrize("command", ["send", "request"])
def test_words_in_the_place_of_options_are_refused_with_the_right_line(typed, tmp_path, command, words, line):
    code, out, err = typed(command, *words)
    assert (code, out) == (2, "")
    config = f"-c {tmp_path / 'admin.toml'}"
    if "CONFIG" not in line:  # all other words have moved
        head, verb, payload = line.partition(" --verb deploy")
        line = f"{head}{verb} CONFIG{payload}"
    line = line.replace("CONFIG", config)
    assert f"\nremaphore: hint: write remaphore {command} {line}; to send this text, add --verb ping\n" in err


def test_exceptions_do_not_hide_words_in_the_place_of_options(typed, tmp_path):
    code, _, err = typed("request", "--except", "com.**", "solo", "deploy", "v1")
    assert code == 2
    assert f"write remaphore request --to solo --verb deploy -c {tmp_path}/admin.toml --except 'com.**' v1; " in err


@pytest.mark.parametrize(
    "words",
    [
        ["--verb", "ping", "com.example.web.1", "deploy"],
        ["--to", "**", "com.example.web.1", "deploy"],
        ["deploy", "com.example.web.1"],
        ["com.example.web.1 deploy"],
        ["v1.2", "x"],
        ["1"],
        ["[", "x"],
        ["@@solo"],
        [],
    ],
)
def test_other_words_are_a_payload(typed, words):
    assert asked(typed, *words)
    assert typed("send", *words, "--timeout", "1ms")[0] == 3  # it has tried to connect


def test_a_request_with_a_payload_and_no_verb_warns_on_a_terminal_that_it_is_a_ping(typed, monkeypatch):
    assert "warning" not in typed("request", "--dry-run", "deploy")[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for words in (["--to", "solo", "deploy", "v42"], ["deploy"]):
        _, _, err = typed("request", "--dry-run", *words)
        assert "warning: the verb is ping, and the payload begins with 'deploy'" in err
        assert "--verb deploy" in err
    for words in (["--to", "solo"], ["--verb", "ping", "deploy"], ["--verb=deploy", "v42"]):
        assert "warning" not in typed("request", "--dry-run", *words)[2]


def test_a_destination_with_brackets_can_be_named(tmp_path, capsys):
    path = tmp_path / "admin.toml"
    write_toml(
        path, 1, "com.admin", servers=["nats://127.0.0.1:1"], peers=[Entry("a[1]", 2, []), Entry("a1", 3, [])],
        login='auth = "none"\n',
    )  # fmt: skip
    assert main(["request", "-c", str(path), "--dry-run", "--to", "a[1]"]) == 0
    assert capsys.readouterr().out.startswith("ask   a[1]\n")
