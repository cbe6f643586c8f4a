"""The reference of remaphore.toml has the keys that the parser knows, and its example is valid."""

import inspect
import re
from dataclasses import fields

import pytest
import tomli

from docs.generate import configuration
from remaphore.config import agent, payload_rules, show, toml
from remaphore.config.settings import DEFAULT_VERB_SETTINGS, VerbSettings
from tests.harness.factories import make_key

TABLES = {table.name: table for table in configuration.TABLES}
# Keys that are tables of their own.
NESTED = {"tls", "identities", "peers", "verbs", "plugins", "agent"}


@pytest.mark.places
@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("Top of the file", set(toml._TOP) - NESTED),
        ("[auth]", set(toml._AUTH)),
        ("[tls]", set(toml._TLS)),
        ("[[identities]]", set(toml._IDENTITY)),
        ("[[peers]]", set(toml._PEER)),
        ("[peers.only.VERB]", set(payload_rules.KEYS)),
        ("[verbs.NAME]", set(toml._VERB)),
        ("[agent]", set(agent._AGENT) - {"allow"}),
        ("[[agent.allow]]", set(agent._RULE)),
        ("[plugins]", {"enable"}),
    ],
)
def test_each_key_that_is_read_is_described_and_no_other(table, keys):
    described = {key.name for key in TABLES[table].keys}
    assert described == keys, (
        f"docs/generate/configuration.py: {table}: add {keys - described}, drop {described - keys}"
    )


@pytest.mark.places
def test_each_key_of_a_verb_sets_a_field():
    keys, known = {field for field, _ in toml._VERB.values()}, {field.name for field in fields(VerbSettings)}
    assert keys == known, f"config/settings.py: VerbSettings, and _VERB of config/toml.py: {keys ^ known}"


@pytest.mark.places
@pytest.mark.parametrize("key", toml._TOP)
def test_each_key_is_shown(key):
    shown = re.search(rf'"{key}[".\[]', inspect.getsource(show))
    assert shown, f"config/show.py: settings: yield a Setting of {key}, which `remaphore config show` lists"


@pytest.mark.places
def test_every_table_is_described():
    assert {name.strip("[]").partition(".")[0] for name in TABLES} - {"Top of the file"} == {"auth", *NESTED}


def test_the_example_is_a_configuration(tmp_path):
    text = configuration.EXAMPLE
    for number, placeholder in enumerate(("<our public key>", "<its public key>"), 1):
        text = text.replace(placeholder, make_key(number).public)
    config = toml.parse(text, "remaphore.toml", tmp_path)
    assert config.warnings == ()
    assert config.verb("deploy").exit_on_error
    assert config.verb("other") == DEFAULT_VERB_SETTINGS
    assert set(tomli.loads(text)) <= set(toml._TOP)
