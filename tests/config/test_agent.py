"""The table `[agent]`."""

from __future__ import annotations

from pathlib import Path

import pytest

from remaphore.config.search import load
from remaphore.errors import ConfigError
from tests.harness.factories import make_key
from tests.harness.node_files import write_toml

RULE = {"user": '"ci"', "do": '["send"]', "verbs": '["Deploy"]', "to": '["com.example.web*"]'}


def loaded(tmp_path, **keys):
    rule = {**RULE, **keys}
    lines = "".join(f"{key} = {value}\n" for key, value in rule.items() if value is not None)
    return load(str(write_toml(tmp_path / "a.toml", 1, "com.example.a", tables=f"[[agent.allow]]\n{lines}")), {})


def test_without_a_table_nothing_is_permitted(tmp_path):
    config = load(str(write_toml(tmp_path / "a.toml", 1, "com.example.a")), {})
    assert (config.agent.socket, config.agent.allow) == (None, ())


def test_a_rule_is_read(tmp_path):
    own = make_key(1).public
    config = loaded(tmp_path, identity=f'"{own}"', payloads='["v1"]', pattern='"v[0-9]"', max_length=20)
    (rule,) = config.agent.allow
    assert (rule.user, rule.group, rule.path, rule.identity) == ("ci", "", "agent.allow[0]", own)
    assert (rule.do, rule.verbs, rule.to) == ({"send"}, {"deploy"}, ("com.example.web*",))
    assert rule.payload is not None
    assert [rule.payload.permits(each) for each in (b"v1", b"v2", b"v22", b"")] == [True, True, False, False]
    (numbered,) = loaded(tmp_path, user=None, group=0, do='["receive"]', to=None).agent.allow
    assert (numbered.group, numbered.payload) == ("0", None)


def test_the_socket_is_relative_to_the_file(tmp_path):
    file = write_toml(tmp_path / "a.toml", 1, "com.example.a", tables='[agent]\nsocket = "run/a.sock"\n')
    assert load(str(file), {}).agent.socket == tmp_path / "run/a.sock"


@pytest.mark.parametrize(
    ("keys", "where", "what", "hint"),
    [
        ({"user": None}, "agent.allow[0]", "exactly one of user and group", "write user"),
        ({"group": "7"}, "agent.allow[0]", "exactly one of user and group", "write user"),
        ({"user": '"*"'}, "agent.allow[0].user", "every user", "a group"),
        ({"user": "-1"}, "agent.allow[0].user", "not the number", "0 to 4294967294"),
        ({"user": "true"}, "agent.allow[0].user", "must be an integer", ""),
        ({"do": '["sned"]'}, "agent.allow[0].do[0]", "unknown operation", "did you mean send?"),
        ({"do": None}, "agent.allow[0].do", "missing", "do ="),
        ({"verbs": None}, "agent.allow[0].verbs", "missing", "verbs ="),
        ({"to": None}, "agent.allow[0].to", "missing", "to ="),
        ({"to": '["com.**.a"]'}, "agent.allow[0].to[0]", "matches no destination", "com.example.**"),
        ({"to": '["com.a,com.b"]'}, "agent.allow[0].to[0]", "comma", "["),
        ({"to": '["com. a"]'}, "agent.allow[0].to[0]", "its character 5", "pattern"),
        ({"verbs": '["a,b"]'}, "agent.allow[0].verbs[0]", "comma", "["),
        ({"identity": '"4wE"'}, "agent.allow[0].identity", "no identity has this key", "[[identities]]"),
        ({"verb": '["a"]'}, "agent.allow[0].verb", "unknown key", "did you mean verbs?"),
        ({"pattern": '".*"'}, "agent.allow[0].pattern", "dot", "write"),
        ({"max_length": "0"}, "agent.allow[0].max_length", "1 or more", "1 or more"),
        ({"payloads": '["a"]', "max_length": "3"}, "agent.allow[0].max_length", "no effect", "delete"),
    ],
)
def test_a_mistake_names_its_place_and_how_to_fix_it(tmp_path, keys, where, what, hint):
    with pytest.raises(ConfigError, match="agent") as error:
        loaded(tmp_path, **keys)
    text = str(error.value)
    assert f": {where}: " in text, text
    assert what in text
    assert hint in error.value.hint


def test_an_unknown_key_of_the_table_is_an_error(tmp_path):
    file = write_toml(tmp_path / "a.toml", 1, "com.example.a", tables='[agent]\nsokcet = "/x"\n')
    with pytest.raises(ConfigError, match=r"agent\.sokcet: unknown key") as error:
        load(str(file), {})
    assert "did you mean socket?" in error.value.hint


def test_files_may_be_credentials_of_the_service(tmp_path, monkeypatch):
    """LoadCredential= of systemd puts them into a directory that only the service has."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    name = "$CREDENTIALS_DIRECTORY/node.key"
    file = write_toml(tmp_path / "a.toml", 1, "com.example.a", key_file=tmp_path / "node.key")
    file.write_text(file.read_text().replace(str(tmp_path / "node.key"), name))
    (tmp_path / "node.key").rename(folder / "node.key")
    with pytest.raises(ConfigError, match="no such file") as error:
        load(str(file), {}).identity().load()
    assert "LoadCredential=" in error.value.hint
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    config = load(str(file), {})
    assert config.identity().file == folder / "node.key"
    assert config.identity().load().public == make_key(1).public
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "relative")
    assert load(str(file), {}).identity().file == Path(tmp_path, name)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "0.0.0.0:9618", "[::1]:9618", "[::]:65535"])
def test_the_address_of_the_metrics_is_read(tmp_path, address):
    file = write_toml(tmp_path / "a.toml", 1, "com.example.a", tables=f'[agent]\nmetrics = "{address}"\n')
    assert load(str(file), {}).agent.metrics == address


@pytest.mark.parametrize(
    "address", ["9618", ":9618", "localhost:9618", "127.1:9618", "::1:9618", "[x]:1", "1.2.3.4:65536"]
)
def test_another_address_of_the_metrics_is_refused(tmp_path, address):
    file = write_toml(tmp_path / "a.toml", 1, "com.example.a", tables=f'[agent]\nmetrics = "{address}"\n')
    with pytest.raises(ConfigError, match="metrics: not an IP address and a port") as caught:
        load(str(file), {})
    assert "127.0.0.1:9618" in caught.value.hint
