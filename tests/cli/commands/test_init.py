"""What `init` creates, prints and reports."""

import shlex
import socket
import threading

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands import init
from remaphore.cli.commands.init import Init
from remaphore.config import peer_line, search
from tests.cli.commands.typed import RIGHT, rejected
from tests.harness.factories import make_key


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("init", Init()),
        (
            "init -c f --destination d --server a --server b --credentials c --ca-file a",
            Init(config="f", destination="d", servers=("a", "b"), credentials="c", ca_file="a"),
        ),
    ],
)
def test_the_options_are_read(line, options):
    assert arguments.read(line.split()) == options


def test_init_prints_only_the_peer_line_on_stdout_and_the_rest_on_stderr(run, tmp_path):
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


def test_init_accepts_the_broker_on_the_command_line_and_then_does_not_ask_for_it(run, tmp_path):
    _, _, err = run("init --destination com.left --server tls://a --credentials sub/nats.creds --ca-file sub/ca.crt")
    config = search.load(str(tmp_path / "left.toml"), {})
    assert (config.servers, config.auth.file) == (("tls://a",), tmp_path / "sub" / "nats.creds")
    assert config.tls.ca_file == tmp_path / "sub" / "ca.crt"
    assert "set servers" not in err


def test_init_derives_the_destination_from_the_host_name_and_reports_it(run, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda: "left.us.example.com")
    _, out, err = run("init")
    assert out.split()[1] == "com.example.us.left"
    assert "this node is com.example.us.left, from the host name" in err


@pytest.mark.parametrize(
    "fqdn", ["localhost", UnicodeError("label too long"), OSError("no such file"), "hang"], ids=str
)
def test_init_needs_no_resolver(run, monkeypatch, fqdn):
    waiting = threading.Event()

    def ask():
        if fqdn == "hang":
            waiting.wait()
        elif isinstance(fqdn, Exception):
            raise fqdn
        return fqdn

    monkeypatch.setattr(init, "NAME_SECONDS", 0.1 if fqdn == "hang" else 30)
    monkeypatch.setattr(socket, "getfqdn", ask)
    monkeypatch.setattr(socket, "gethostname", lambda: "web")
    _, out, _ = run("init")
    waiting.set()
    assert out.split()[1] == "web"


def test_init_without_any_name_asks_for_one(run, monkeypatch):
    def fail():
        raise OSError

    monkeypatch.setattr(socket, "getfqdn", fail)
    monkeypatch.setattr(socket, "gethostname", fail)
    rejected(run("init"), "no destination can be derived", "add --destination com.example.host")


def test_init_warns_of_a_destination_that_a_shell_would_run(run):
    _, _, err = run("init --destination com.$(reboot)")
    assert "warning: the destination contains U+0024 dollar sign" in err
    assert "peer add --verbs ping,deploy remaphore-peer:1 'com.$(reboot)' " in err


def test_init_creates_the_file_that_commands_find_and_the_default_state_directory(run, monkeypatch, tmp_path):
    monkeypatch.delenv("REMAPHORE_CONFIG")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "var"))
    place = tmp_path / "config" / "remaphore" / "remaphore.toml"
    monkeypatch.setattr(search, "default_paths", lambda environ, *, user: (str(place),))
    assert run("init --destination com.left")[0] == 0
    assert search.load(None, {}).state_dir is None
    assert (tmp_path / "var").is_dir()
    assert run("peer show")[1].split()[1] == "com.left"


def test_init_reports_an_existing_configuration_before_any_other_error(run, left, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    rejected(run("init"), f"{left}: already exists", f"remaphore peer show -c {left}")


def test_a_private_key_as_destination_is_rejected_and_not_printed(run, tmp_path):
    rejected(run(["init", "--destination", make_key(3).reveal()]), "--destination: this is a private key")
    assert list(tmp_path.iterdir()) == []


def test_a_hint_can_be_typed_whatever_the_name_of_the_file(run, left, tmp_path):
    spaced = tmp_path / "a b; c.toml"
    assert run(["init", "--destination", "com.spaced", "-c", str(spaced)])[0] == 0
    rejected(run(["init", "-c", str(spaced)]), f"remaphore peer show -c '{spaced}'")
    rejected(run(["peer", "remove", "-c", str(spaced), "com.unknown"]), f"remaphore peer list -c '{spaced}'")
    assert run(["peer", "add", "-c", str(spaced), "--verbs", "ping", RIGHT])[0] == 0
    hint = f"remaphore peer remove -c '{spaced}' {make_key(2).public}"
    other = peer_line.write(destination="com.other", key=make_key(2).public)
    rejected(run(["peer", "add", "-c", str(spaced), "--verbs", "ping", other]), hint)
    assert run(shlex.split(hint)[1:])[0] == 0
