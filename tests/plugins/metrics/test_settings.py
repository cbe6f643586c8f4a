"""The plugin `metrics`: its table, and which verbs get a label of their own."""

from dataclasses import replace

import pytest

from remaphore import PluginError, VerbSettings
from remaphore.diagnostics.findings import Level
from remaphore.diagnostics.handlers import check_plugins
from remaphore.hooks.settings import build
from remaphore.protocol.peers import Peer
from remaphore_plugins.metrics import Metrics
from remaphore_plugins.metrics.collector import VerbLabels
from tests.harness.factories import make_key
from tests.harness.nodes import make_config


def settings_of(table):
    return build(Metrics(), table, name="metrics", source="x.toml")


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ({}, "127.0.0.1:9617"),
        ({"listen": "127.0.0.1:9617"}, "127.0.0.1:9617"),
        ({"listen": "0.0.0.0:1"}, "0.0.0.0:1"),
        ({"listen": "[::1]:0"}, "[::1]:0"),
        ({"listen": "[0:0::1]:65535"}, "[::1]:65535"),
    ],
)
def test_an_address_is_read_and_the_default_is_loopback(table, shown):
    assert str(settings_of(table).address) == shown


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "9617",
            ":9617",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:80 ",
            "1.2.3:80",
        ),
        *("::1:9617", "[::1]", "[127.0.0.1]:1", "[]:1", "localhost:9617", "127.0.0.1:\u0661", "[::1]:80\n"),
    ],
)
def test_a_value_that_is_not_an_address_is_an_error_with_its_key_and_a_hint_that_shows_one(value):
    with pytest.raises(PluginError) as caught:
        settings_of({"listen": value})
    assert str(caught.value) == "x.toml: plugins.metrics.listen: not an IP address and a port"
    assert "127.0.0.1:9617" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "name"), [(9617, "an integer"), (True, "true or false"), (["127.0.0.1:1"], "an array"), ({}, "a table")]
)
def test_a_value_that_is_not_a_string_is_an_error_with_its_key_and_file(value, name):
    with pytest.raises(PluginError) as caught:
        settings_of({"listen": value})
    assert str(caught.value) == f"x.toml: plugins.metrics.listen: must be a string, not {name}"
    assert caught.value.hint == 'write listen = "..."'


@pytest.mark.parametrize(
    ("key", "shown", "hint"),
    [
        ("listn", "listn", "did you mean listen? "),
        ("Port", "Port", "known keys: listen "),
        ("a\nb", '"..."', "delete or replace U+000A"),
        ("k" * 65, '"..."', "known keys: listen "),
    ],
)
def test_an_unknown_setting_is_an_error_with_its_key_and_a_hint_with_the_known_ones(key, shown, hint):
    with pytest.raises(PluginError) as caught:
        settings_of({key: 1, "listen": "127.0.0.1:0"})
    assert str(caught.value) == f"x.toml: plugins.metrics.{shown}: unknown key"
    assert caught.value.hint.startswith(hint)


def test_check_reports_the_unknown_setting_and_its_hint_apart():
    config = replace(make_config(2), plugins={"metrics": {"foo": 1}})
    for names in (["metrics"], []):  # also if the plugin is not enabled
        (finding,) = [finding for finding in check_plugins(config, names) if finding.level is Level.ERROR]
        assert (finding.what, finding.hint) == (
            "node2.toml: plugins.metrics.foo: unknown key",
            "known keys: listen (if a newer version of the plugin knows this key, update this one)",
        )


def test_the_verbs_of_peers_identities_tables_and_directories_are_known(tmp_path):
    for name in ("backup", "a" * 64, "a" * 65, "Upper", "-dash", ".hidden", "dots.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    peer = Peer(destination="com.one", key=make_key(1).public, verbs=frozenset({"of-peer", "*"}))
    config = replace(
        make_config(2, "of-identity", "*", peers=(peer,)),
        verbs={"of-table": VerbSettings()},
        hooks=(tmp_path / "missing", tmp_path),
    )
    expected = {"of-peer", "of-identity", "of-table", "backup", "a" * 64}
    assert VerbLabels().learn(config, {}).known == expected


@pytest.mark.parametrize("verb", ["*", "unheard-of", "", "\udcff", "a\nb"])
def test_any_other_verb_has_the_label_other_also_a_configured_one_that_cannot_be_a_label(verb):
    listed = {} if verb == "unheard-of" else {verb: VerbSettings()}
    labels = VerbLabels().learn(replace(make_config(2), verbs=listed | {"deploy": VerbSettings()}), {})
    assert (labels.of(verb), labels.of("deploy")) == ("other", "deploy")


def test_counts_from_before_a_verb_was_known_stay_with_the_others():
    config = replace(make_config(2), verbs={"a": VerbSettings()})
    labels = VerbLabels().learn(config, {"a": 3, "b": 1})
    assert labels.count({"a": 5, "b": 1}) == {"a": 2, "other": 4}
    again = labels.learn(make_config(2), {"a": 5, "b": 1})
    assert again.count({"a": 5, "b": 1}) == {"a": 2, "other": 4}
