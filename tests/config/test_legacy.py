"""The reader of a legacy .conf: what the Go implementation really accepted, and a warning for what it ignores."""

import json
from pathlib import Path

import pytest

from remaphore.config import legacy
from remaphore.config.settings import Auth
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.protocol.keys import PrivateKey

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "original.json").read_text())["legacy_configs"]
OURS = PrivateKey(b"\1" * 32)
OTHER = PrivateKey(b"\2" * 32)
HEAD = "server: nats://a:4222\ncredentials: c\ndestination: d\n"
IDENTITIES = f"[ Identities ]\n{OURS.public} {OURS.reveal()} [ping]\n"
MINIMAL = HEAD + IDENTITIES


def read(text):
    return legacy.parse(text, "test.conf")


def rejection(text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_accepts_and_refuses_what_the_vectors_say(vector):
    if vector["expected"] == "error":
        assert rejection(vector["text"]).startswith("test.conf:")
        return
    config = read(vector["text"])
    assert bool(config.warnings) or not vector.get("expected_warning", False)
    if not vector["ok"]:
        return
    assert {
        "servers": list(config.servers),
        "credentials": str(config.auth.file),
        "subject": config.subject,
        "destination": config.destination,
        "default_identity": config.default_identity,
        "allow_skew_ns": str(config.allow_skew_ns),
        "identities": [
            {"public_key": identity.key, "private_key": identity.load().reveal(), "verbs": sorted(identity.verbs)}
            for identity in config.identities
        ],
        "peers": [
            {"destination": peer.destination, "public_key": peer.key, "verbs": sorted(peer.verbs)}
            for peer in config.peers
        ],
    } == {
        key: vector[key]
        for key in (
            *("servers", "credentials", "subject", "destination", "default_identity", "allow_skew_ns"),
            *("identities", "peers"),
        )
    }


def test_all_vectors_are_there():
    assert len(VECTORS) == 27


def test_marks_everything_as_legacy():
    config = read(f"{MINIMAL}[ Peers ]\ncom.a {OTHER.public} [ping]\n")
    assert config.legacy
    assert config.peers[0].legacy
    assert config.auth == Auth(kind="credentials", file=Path("c"), lenient=True)
    assert config.source == "test.conf"
    assert config.warnings == ()


def test_fields_may_be_apart_by_any_white_space_and_be_commented():
    config = read(f"{MINIMAL}[Peers] # all\n com.a \t {OTHER.public}   [ping, ,Up Date,] # ours\n")
    assert config.peers[0].verbs == {"ping", "up date"}


def test_settings_in_any_case_and_values_with_colons():
    config = read(f"SERVER : nats://[::1]:4222\nCredentials:c:d\nDESTINATION: d\n{IDENTITIES}")
    assert config.servers == ("nats://[::1]:4222",)
    assert config.auth.file == Path("c:d")


def test_a_list_of_servers_and_an_address_without_scheme_mean_what_legacy_client_made_of_them():
    config = read("server: a:4222, tls://b\nserver: c\n" + MINIMAL)
    assert config.servers == ("nats://a:4222", "tls://b", "nats://c", "nats://a:4222")


def test_a_password_in_an_address_is_left_out_and_warned_about():
    config = read("server: nats://me:hunter2@b:4222\n" + MINIMAL)
    assert config.servers[0] == "nats://b:4222"
    assert config.warnings == (
        (
            "test.conf:1: the user and password in the address are ignored, the credentials are used",
            "remove them from the address",
        ),
    )
    assert "hunter2" not in repr(config)


def test_bytes_that_are_not_utf8_do_no_harm_in_a_comment():
    assert read("# Gr\udcfc\udcdfe\n" + MINIMAL).warnings == ()


def test_a_skew_of_0_is_the_default():
    assert read("allow_skew: 0\n" + MINIMAL).allow_skew_ns == 3 * duration.SECOND


def test_the_private_key_is_in_no_repr():
    config = read(MINIMAL)
    assert OURS.reveal() not in repr(config)
    assert "load=" not in repr(config)
    assert OURS.reveal() not in repr(config.identities[0].load())


def test_the_example_parses_back_and_is_new_each_time():
    text = legacy.example()
    config = read(text)
    public = config.identities[0].key
    assert text.splitlines() == [
        "server: nats://natsserver:4222",
        "credentials: /path/to/credentials/file",
        "subject: remaphore",
        f"default_identity: {public}",
        "destination: all",
        "allow_skew: 5s",
        "",
        "[ Identities ]",
        f"{public} {config.identities[0].load().reveal()} [ping]",
        "",
        "[ Peers ]",
    ]
    assert (config.warnings, config.allow_skew_ns, config.peers) == ((), 5 * duration.SECOND, ())
    assert read(legacy.example()).identities[0].key != public


def test_the_last_of_a_repeated_setting_counts():
    assert read("destination: first\nsubject: one\nsubject: two\n" + MINIMAL).destination == "d"
    assert read("subject: one\nsubject: two\n" + MINIMAL).subject == "two"


def test_a_line_ends_at_a_newline_and_nowhere_else():
    config = read(MINIMAL.replace("credentials: c", "credentials: c\x0bd\u2028e"))
    assert config.auth.file == Path("c\x0bd\u2028e")
