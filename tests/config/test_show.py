"""The effective configuration: every value, where it comes from, and no secret."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from remaphore.config import legacy, show, toml
from remaphore.config.settings import Config
from tests.harness.factories import make_key

CONF = f"""server: nats://a:4222
credentials: /c
destination: com.own
[Identities]
{make_key(1).public} {make_key(1).reveal()} [ping]
[Peers]
com.a {make_key(2).public} [ping]
"""
TOML = f"""destination = "com.own"
servers = ["nats://a:4222", "nats://b"]
allow_skew = "1500ms"
hooks = ["h"]
notify_rejections = false
[auth]
user = "u"
password_file = "p"
[tls]
ca_file = "ca.pem"
[[identities]]
key = "{make_key(1).public}"
private_key_file = "own.key"
verbs = ["ping", "deploy"]
[[peers]]
destination = "com.a"
key = "{make_key(2).public}"
verbs = ["*"]
[verbs.deploy]
timeout = "1m30s"
payload = "stdin"
[agent]
socket = "/srv/agent.sock"
[[agent.allow]]
user = "ci"
do = ["send"]
verbs = ["deploy"]
to = ["com.a"]
pattern = "v[0-9]"
[plugins]
enable = ["chat"]
[plugins.chat]
url = "https://chat"
password = "hunter2"
api_token = "hunter3"
token_file = "t"
[plugins.chat.more]
secrets = ["hunter4"]
key = "hunter5"
"""


def rows(config):
    found = show.settings(config, state_dir=Path("/var/s"), hooks=(Path("/usr/h"),))
    return {row.key: (row.value, row.origin) for row in found}


def of_toml():
    return rows(toml.parse(TOML, "f.toml", Path("/etc/r")))


def test_each_value_of_a_toml_file_names_its_key():
    found = of_toml()
    assert found["destination"] == ("com.own", "f.toml: destination")
    assert found["servers"] == (["nats://a:4222", "nats://b"], "f.toml: servers")
    assert found["allow_skew"] == ("1500000000ns", "f.toml: allow_skew")
    assert found["auth"] == ("password", "f.toml: auth")
    assert found["auth.file"] == ("/etc/r/p", "f.toml: auth")
    assert found["tls.ca_file"] == ("/etc/r/ca.pem", "f.toml: tls")
    assert found["hooks"] == (["/etc/r/h"], "f.toml: hooks")
    assert found["notify_rejections"] == (False, "f.toml: notify_rejections")
    assert found["identities[0]"][0]["private_key_file"] == "/etc/r/own.key"
    assert found["peers[0]"] == (
        {"destination": "com.a", "key": make_key(2).public, "verbs": ["*"]},
        "f.toml: peers[0]",
    )
    assert found["plugins.enable"] == (["chat"], "f.toml: plugins")


def test_what_the_file_does_not_say_is_a_default_and_says_so():
    found = of_toml()
    assert found["subject"] == ("remaphore", "default (subject is not set in f.toml)")
    assert found["state_dir"] == ("/var/s", "default (state_dir is not set in f.toml)")
    assert found["default_identity"] == (make_key(1).public, "default (default_identity is not set in f.toml)")
    assert found["verbs.deploy.timeout"] == ("90s", "f.toml: verbs.deploy.timeout")
    assert found["verbs.deploy.max_wait"] == ("60s", "default (verbs.deploy.max_wait is not set in f.toml)")
    assert found["verbs.deploy.payload"] == ("stdin", "f.toml: verbs.deploy.payload")


def test_a_payload_rule_is_shown_with_its_peer():
    rules = "[peers.only.deploy]\npattern = 'v[0-9]+'\n[peers.only.stop]\npayloads = ['b', 'a']\n"
    text = TOML.replace("[verbs.deploy]\n", f"{rules}[verbs.deploy]\n")
    value, origin = rows(toml.parse(text, "f.toml", Path("/")))["peers[0]"]
    assert value["only"] == {"deploy": {"pattern": "v[0-9]+", "max_length": 256}, "stop": {"payloads": ["a", "b"]}}
    assert origin == "f.toml: peers[0]"


def test_each_value_of_the_legacy_format_names_its_line():
    found = rows(legacy.parse(CONF, "f.conf"))
    assert found["servers"] == (["nats://a:4222"], "f.conf:1")
    assert found["auth.file"] == ("/c", "f.conf:2")
    assert found["identities[0]"][1] == "f.conf:4"
    assert found["peers[0]"] == (
        {"destination": "com.a", "key": make_key(2).public, "compatibility": "legacy", "verbs": ["ping"]},
        "f.conf:7",
    )
    assert found["notify_rejections"] == (False, "f.conf: legacy .conf format")


@pytest.mark.parametrize("config", [legacy.parse(CONF, "f"), toml.parse(TOML, "f", Path("/etc/r"))])
def test_no_secret_is_shown(config):
    text = str(rows(config))
    assert make_key(1).reveal() not in text
    assert "hunter" not in text


def test_only_what_may_be_a_secret_is_hidden_of_a_plugins_table():
    value, origin = of_toml()["plugins.chat"]
    assert value == {
        "url": "https://chat",
        "password": show.HIDDEN,
        "api_token": show.HIDDEN,
        "token_file": "t",
        "more": {"secrets": show.HIDDEN, "key": show.HIDDEN},
    }
    assert origin == "f.toml: plugins"


def test_every_setting_is_shown():
    shown = {key.partition(".")[0].partition("[")[0] for key in of_toml()}
    names = {field.name for field in fields(Config)} - {"source", "warnings", "unsafe", "origins", "legacy"}
    renamed = {"allow_skew_ns": "allow_skew", "enabled_plugins": "plugins"}
    assert {renamed.get(name, name) for name in names} == shown


def test_a_login_without_a_file_has_none():
    config = toml.parse(TOML, "f.toml", Path("/etc/r"))
    found = rows(replace(config, auth=replace(config.auth, kind="none", file=None, user="")))
    assert found["auth"][0] == "none"
    assert "auth.file" not in found
    assert "auth.user" not in found
