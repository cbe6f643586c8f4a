"""Options of `broker` that contradict each other, or open it to the network, start nothing and create nothing."""

import base64
import json
import os
from pathlib import Path

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands import broker
from remaphore.embedded.addresses import Address
from remaphore.errors import ConfigError, UsageError

PAIR = ("--tls-cert", "c", "--tls-key", "k")


def settings(*words):
    return broker.make_settings(arguments.read(["broker", "--data", "d", *words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--listen", "0.0.0.0:4222"], "0.0.0.0:4222 is not loopback"),
        (["--listen", ":4222"], "is not loopback"),
        (["--listen", "*:4222", "--tls-ca", "a"], "--tls-ca without --tls-cert"),
        (["--listen", "0.0.0.0:4222", "--tls-cert", "c"], "a certificate needs its private key"),
        (["--tls-key", "k"], "a certificate needs its private key"),
        (["--no-tls", *PAIR], "--no-tls contradicts --tls-cert"),
        (["--listen", "::1"], "--listen: not an address: '::1'"),
        (["--port", "x"], "--port: not a port: 'x'"),
        (["--port", "65536"], "--port: not a port"),
        (["--port", "1", "--listen", "127.0.0.1"], "not allowed with"),
        (["--route", "two", *PAIR], "a cluster needs certificates"),
        (["--route", "two", "--no-tls"], "a cluster needs certificates"),
        (["--route", "10.0.0.2", *PAIR], "--route: not the name of a server"),
        (["--cluster-listen", "127.0.0.1:1", *PAIR], "--cluster-listen without --route"),
        (["--route", "two", "--cluster-listen", ":0", *PAIR, "--tls-ca", "a"], "--cluster-listen: the other servers"),
        (["--creds", "a", "--print-config"], "not allowed with"),
        (["--creds", "a", "--revoke", "a"], "not allowed with"),
        (["--creds", "a", "--subject", "a.>"], "--subject: not a NATS subject: it contains a wildcard"),
        (["--creds", "a", "--subject", ""], "--subject: its value is empty"),
    ],
)
def test_options_that_cannot_be_meant_are_usage_errors(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        broker.run(arguments.read(["broker", "--data", "d", *words]))
    assert message in str(caught.value)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_options_are_the_settings_of_the_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settings().listen == Address("127.0.0.1", 4222)
    assert settings("--port", "0").listen == Address("127.0.0.1", 0)
    assert settings("--listen", ":1", "--no-tls").listen == Address("0.0.0.0", 1)
    made = settings("--listen", "[::]:1", *PAIR, "--tls-ca", "a", "--route", "two", "--route", "three:7")
    assert (made.tls.cert, made.tls.key, made.tls.ca) == (tmp_path / "c", tmp_path / "k", tmp_path / "a")
    assert made.cluster.listen == Address("::", 6222)
    assert made.cluster.routes == (Address("two", 6222), Address("three", 7))


def test_a_site_needs_logins_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["--print-config"], ["--listen", "192.0.2.1:1", "--no-tls"]):
        with pytest.raises(ConfigError, match="no logins") as caught:
            broker.run(arguments.read(["broker", "--data", "d", *words]))
        create, _, copy = caught.value.hint.partition("; on a further server of a cluster, ")
        assert create == "create one for each node: remaphore broker --data d --creds NODE"
        assert copy == "copy login.json of the first one into this directory"


def test_a_broker_that_names_no_directory_has_one_of_its_own(tmp_path, monkeypatch):
    """Not in that of the daemon, whose subdirectories are its instances."""
    system, state = tmp_path / "var" / "remaphore-broker", tmp_path / "state"
    monkeypatch.setattr(broker, "SYSTEM_DIR", str(system))
    assert broker.default_folder({"STATE_DIRECTORY": "/a:/b", "XDG_STATE_HOME": str(state)}) == Path("/a")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert broker.default_folder({}) == system
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert broker.default_folder({"XDG_STATE_HOME": str(state)}) == state / "remaphore-broker"
    system.mkdir(parents=True)
    assert broker.default_folder({"XDG_STATE_HOME": str(state)}) == state / "remaphore-broker"
    monkeypatch.setattr(os, "geteuid", lambda: system.stat().st_uid)
    assert broker.default_folder({"XDG_STATE_HOME": str(state)}) == system


def test_logins_are_for_the_subject_of_the_nodes(tmp_path, monkeypatch):
    def run(*words):
        return broker.run(arguments.read(["broker", "--data", str(tmp_path / "d"), *words]))

    with pytest.raises(ConfigError, match="no logins") as caught:
        run("--subject", "my.ops", "--print-config")
    assert f" --data {tmp_path}/d --subject my.ops --creds NODE;" in caught.value.hint
    run("--subject", "my.ops", "--creds", "a")
    claims = (tmp_path / "d" / "creds" / "a.creds").read_text().split("\n")[1].split(".")[1]
    allowed = json.loads(base64.urlsafe_b64decode(claims + "=="))["nats"]
    others = [subject for subject in allowed["pub"]["allow"] if "my-ops-" not in subject]
    assert (others, allowed["sub"]) == (["my.ops.>"], {"allow": ["my.ops.>"]})
    for words in (["--creds", "b"], ["--revoke", "a"], ["--print-config"]):
        with pytest.raises(ConfigError, match=r"for the subject 'my\.ops', not 'remaphore'") as caught:
            run(*words)
        assert caught.value.hint == "add --subject my.ops, or name another directory"


def test_a_login_is_created_without_a_directory_being_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert broker.run(arguments.read(["broker", "--creds", "a"])) == 0
    assert capsys.readouterr().out == f"credentials: {tmp_path}/state/creds/a.creds\n"


def test_logins_are_created_once_and_their_files_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["--creds", "a"], ["--creds", "a", "--creds", "b"]):
        assert broker.run(arguments.read(["broker", "--data", "d", *words])) == 0
    out, err = capsys.readouterr()
    assert out == "credentials: d/creds/a.creds\ncredentials: d/creds/b.creds\n"
    assert err == "remaphore: d/creds/a.creds exists, and is unchanged\n"
    assert broker.run(arguments.read(["broker", "--data", "d", "--revoke", "a"])) == 0
    assert [path.name for path in (tmp_path / "d" / "creds").iterdir()] == ["b.creds"]
