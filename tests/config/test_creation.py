"""A node's first configuration: it loads, nothing is overwritten, and a failure leaves nothing behind."""

import os
import re
import stat

import pytest

from remaphore.config import creation, files, search
from remaphore.config.creation import NewNode
from remaphore.errors import ConfigError, UsageError
from remaphore.protocol.keys import PrivateKey
from tests.harness.factories import make_key


def node(folder, **changes):
    values = {
        "config": folder / "etc" / "left.toml",
        "destination": "com.example.us.left",
        "state_dir": folder / "var" / "state",
        "state_in_config": True,
    }
    return NewNode(**{**values, **changes})


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def rejected(kind, folder, wanted, part):
    before = tree(folder)
    with pytest.raises(kind) as caught:
        creation.create_node(wanted)
    assert tree(folder) == before
    assert part in f"{caught.value}; hint: {caught.value.hint}"
    assert "\n" not in str(caught.value)


def test_what_is_made_loads_and_its_modes_are_tight(tmp_path):
    public, there = creation.create_node(node(tmp_path, servers=["tls://a", "nats://b:4222"], credentials="/c.creds"))
    config = search.load(str(tmp_path / "etc" / "left.toml"), {})
    assert (config.destination, config.servers) == ("com.example.us.left", ("tls://a", "nats://b:4222"))
    assert (str(config.auth.file), config.state_dir) == ("/c.creds", tmp_path / "var" / "state")
    assert config.identity().load().public == config.default_identity == public
    assert config.identity().verbs == {"*"}
    assert (config.peers, config.warnings, there) == ((), (), False)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("etc/left.key", "var/state")}
    assert modes == {"etc/left.key": 0o600, "var/state": 0o700}
    assert tree(tmp_path) == ["etc", "etc/left.key", "etc/left.toml", "var", "var/state"]


def test_what_nobody_has_said_is_a_place_to_fill_in(tmp_path):
    creation.create_node(node(tmp_path, state_in_config=False))
    text = (tmp_path / "etc" / "left.toml").read_text()
    config = search.load(str(tmp_path / "etc" / "left.toml"), {})
    assert config.servers == ("nats://localhost:4222",)
    assert config.auth.file == tmp_path / "etc" / "nats.creds"
    assert (config.state_dir, config.tls.ca_file) == (None, None)
    assert f'\n#state_dir = "{tmp_path}/var/state"\n' in text


def test_the_rules_of_the_agent_are_commented_out_and_valid_without_the_comments(tmp_path):
    creation.create_node(node(tmp_path))
    path = tmp_path / "etc" / "left.toml"
    text = path.read_text()
    assert search.load(str(path), {}).agent.allow == ()
    commented = re.compile(r"^#(?=\[\[agent\.allow|(user|group|do|verbs|to|pattern) = )", re.MULTILINE)
    path.write_text(commented.sub("", text))
    root, deploy = search.load(str(path), {}).agent.allow
    assert (root.user, root.verbs, deploy.group, deploy.to) == ("root", {"*"}, "deploy", ("com.example.web.*",))
    assert deploy.payload.permits(b"v42")


def test_a_state_directory_beside_the_configuration_can_be_moved_with_it(tmp_path):
    creation.create_node(node(tmp_path, state_dir=tmp_path / "etc" / "left.state"))
    (tmp_path / "etc").rename(tmp_path / "elsewhere")
    config = search.load(str(tmp_path / "elsewhere" / "left.toml"), {})
    assert config.state_dir == tmp_path / "elsewhere" / "left.state"
    assert config.identity().load()


def test_two_nodes_have_two_keys(tmp_path):
    first, _ = creation.create_node(node(tmp_path))
    second, _ = creation.create_node(node(tmp_path, config=tmp_path / "etc" / "right.toml"))
    assert first != second


def test_a_configuration_that_is_there_is_not_overwritten_and_the_way_on_is_reported(tmp_path):
    creation.create_node(node(tmp_path))
    text = (tmp_path / "etc" / "left.toml").read_text()
    rejected(ConfigError, tmp_path, node(tmp_path), "left.toml: already exists; hint: print this node's peer line")
    assert (tmp_path / "etc" / "left.toml").read_text() == text
    (tmp_path / "etc" / "link.toml").symlink_to("nowhere")
    rejected(ConfigError, tmp_path, node(tmp_path, config=tmp_path / "etc" / "link.toml"), "exists")


def test_a_configuration_of_the_legacy_format_is_not_pushed_aside(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "left.conf").write_text("")
    rejected(ConfigError, tmp_path, node(tmp_path), "hint: convert it to TOML: remaphore config convert")


def test_a_good_key_that_is_there_is_used_as_after_a_kill(tmp_path):
    public, _ = creation.create_node(node(tmp_path))
    (tmp_path / "etc" / "left.toml").unlink()
    assert creation.create_node(node(tmp_path)) == (public, True)


@pytest.mark.parametrize(
    ("text", "mode", "part"),
    [
        ("garbage", 0o600, "left.key: private key: invalid private key"),
        ("", 0o600, "left.key: private key: empty file"),
        (make_key(1).reveal(), 0o644, "others can read it (mode 0644); hint: chmod"),
    ],
)
def test_a_bad_key_that_is_there_is_reported_and_stays(tmp_path, text, mode, part):
    (tmp_path / "etc").mkdir()
    key = tmp_path / "etc" / "left.key"
    key.write_text(text)
    key.chmod(mode)
    rejected(ConfigError, tmp_path, node(tmp_path), part)
    assert key.read_text() == text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"destination": "com.*"}, "--destination: a destination cannot contain *"),
        ({"destination": "a b"}, "--destination: a destination cannot contain U+0020 space"),
        ({"servers": ["a:4222"]}, "--server: the address begins with neither"),
        ({"servers": ["nats://me:hunter2@a"]}, "--server: the address contains a user or password"),
    ],
)
def test_what_the_configuration_could_not_hold_is_refused_first(tmp_path, changes, part):
    rejected(UsageError, tmp_path, node(tmp_path, **changes), part)


def test_a_name_that_toml_cannot_hold_is_reported_and_nothing_is_made(tmp_path):
    rejected(ConfigError, tmp_path, node(tmp_path, config=tmp_path / "etc" / "\udcff.toml"), "is not valid UTF-8")


def test_a_name_that_would_be_read_as_the_legacy_format_is_refused(tmp_path):
    rejected(UsageError, tmp_path, node(tmp_path, config=tmp_path / "left.conf"), "must end in .toml; hint: add .toml")


def test_a_failure_leaves_neither_files_nor_folders(tmp_path, monkeypatch):
    really_link = os.link

    def link(source, target):
        if target.suffix == ".toml":
            raise OSError(28, "No space left on device")
        really_link(source, target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ConfigError, match=r"left.toml: cannot be written: No space left on device$"):
        creation.create_node(node(tmp_path, state_dir=tmp_path / "etc" / "left.state"))
    assert tree(tmp_path) == []


def test_the_key_gets_its_name_before_the_configuration_that_names_it(tmp_path, monkeypatch):
    order = []
    really_create = files.create_all
    monkeypatch.setattr(files, "create_all", lambda wanted: (order.extend(wanted), really_create(wanted)))
    creation.create_node(node(tmp_path))
    assert [new.path.suffix for new in order] == [".key", ".toml"]


@pytest.mark.parametrize(
    ("host", "destination"),
    [
        ("left.us.example.com", "com.example.us.left"),
        ("LEFT.Example.COM.", "com.example.left"),
        ("left", "left"),
        ("WEB_1.my-host.raspberrypi.", "raspberrypi.my-host.web_1"),
        ("10-0-0-1.ec2.internal", "internal.ec2.10-0-0-1"),
    ],
)
def test_a_hosts_name_is_reversed_in_lower_case(host, destination):
    assert creation.destination_of(host) == destination


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "localhost.localdomain",
            "localhost4.localdomain4",
            "localhost6",
            "ip6-localhost",
            "ip6-loopback",
        ),
        *("LocalHost.", "localhost.example.com", "localdomain"),
        *("", ".", "...", "foo..bar", ".foo", "10.0.0.1", "2001:db8::1", "(none)", "*", "a b", "-a", "a-"),
        *("z\u00fcrich", "a\u200b", "\udcff", "a" * 64, f"{'b' * 70}.example.com"),
    ],
)
def test_a_host_without_a_name_of_its_own_must_be_given_one(host):
    with pytest.raises(UsageError, match=r"no destination can be derived from the host name ") as caught:
        creation.destination_of(host)
    assert caught.value.hint == "add --destination com.example.host"
    assert creation.destination_of(host, "web") == "web"


def test_a_host_without_any_name_must_be_given_one():
    with pytest.raises(UsageError, match=r"from the host name \(unknown\)$"):
        creation.destination_of()


def test_a_key_pair_is_made_and_never_overwrites(tmp_path):
    public = creation.create_key(tmp_path / "ops.key")
    assert PrivateKey.from_text((tmp_path / "ops.key").read_text().strip()).public == public
    assert stat.S_IMODE((tmp_path / "ops.key").stat().st_mode) == 0o600
    text = (tmp_path / "ops.key").read_text()
    with pytest.raises(ConfigError, match=r"already exists$"):
        creation.create_key(tmp_path / "ops.key")
    assert (tmp_path / "ops.key").read_text() == text
