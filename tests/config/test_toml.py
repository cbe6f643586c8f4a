"""The reader of our own format: the documented example, and what it means."""

from dataclasses import replace
from pathlib import Path

import pytest

from remaphore.config import toml
from remaphore.config.settings import Auth, Tls, VerbSettings
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.peers import Peer

OURS = PrivateKey(b"\1" * 32)
OTHER = PrivateKey(b"\2" * 32)
TOP = 'destination = "d"\nservers = ["nats://a:4222"]\n'
AUTH = 'auth = "none"\n'
IDENTITY = f'[[identities]]\nkey = "{OURS.public}"\nprivate_key_file = "ops.key"\nverbs = ["ping"]\n'
PEER = f'[[peers]]\ndestination = "com.a"\nkey = "{OTHER.public}"\nverbs = ["ping"]\n'
MINIMAL = TOP + AUTH + IDENTITY
BASE = Path("/etc/remaphore")

DOCUMENTED = f"""
destination = "com.crypto.us.left"
servers = ["nats://broker:4222"]                # several: failover
credentials = "nats.creds"
subject = "remaphore"
allow_skew = "5s"
default_identity = "{OURS.public}"
state_dir = "/var/lib/remaphore"
hooks = ["/etc/remaphore/hooks.d"]
[[identities]]
key = "{OURS.public}"
private_key_file = "ops.key"
verbs = ["*"]
[[peers]]                                       # one table a line of the original
destination = "com.crypto.us.right"
key = "{OTHER.public}"
verbs = ["ping", "deploy"]
[verbs.deploy]
timeout = "10m"
[plugins]
enable = ["metrics"]                            # added to the bundled ones
[plugins.metrics]
listen = "127.0.0.1:9617"
"""


def read(text, base=BASE):
    return toml.parse(text, "remaphore.toml", base)


def test_the_documented_example_is_read_in_full():
    config = read(DOCUMENTED)
    assert config.destination == "com.crypto.us.left"
    assert config.servers == ("nats://broker:4222",)
    assert config.auth == Auth(kind="credentials", file=BASE / "nats.creds")
    assert config.tls == Tls()
    assert config.subject == "remaphore"
    assert config.allow_skew_ns == 5 * duration.SECOND
    assert config.default_identity == OURS.public
    assert config.state_dir == Path("/var/lib/remaphore")
    assert config.hooks == (Path("/etc/remaphore/hooks.d"),)
    assert [(identity.key, identity.verbs) for identity in config.identities] == [(OURS.public, {"*"})]
    assert config.peers == (
        Peer(destination="com.crypto.us.right", key=OTHER.public, verbs=frozenset({"ping", "deploy"})),
    )
    assert config.verbs == {"deploy": VerbSettings(timeout_seconds=600.0)}
    assert config.enabled_plugins == ("metrics",)
    assert config.plugins == {"metrics": {"listen": "127.0.0.1:9617"}}
    assert config.warnings == ()
    assert not config.legacy


def test_defaults_are_legacy():
    config = read(MINIMAL)
    assert (config.subject, config.allow_skew_ns, config.default_identity) == ("remaphore", 3 * 10**9, OURS.public)
    assert (config.peers, config.hooks, config.state_dir, config.verbs, config.plugins) == ((), (), None, {}, {})


@pytest.mark.parametrize(
    ("text", "auth"),
    [
        ('credentials = "c"\n', Auth(kind="credentials", file=BASE / "c")),
        ('auth = "none"\n', Auth(kind="none")),
        ('auth.nkey_seed_file = "s"\n', Auth(kind="nkey", file=BASE / "s")),
        ('auth.token_file = "/t"\n', Auth(kind="token", file=Path("/t"))),
        ('[auth]\nuser = "u"\npassword_file = "p"\n', Auth(kind="password", file=BASE / "p", user="u")),
    ],
)
def test_each_way_to_authenticate_is_read_strictly(text, auth):
    assert read(TOP + text + IDENTITY).auth == auth


def test_tls_files_count_from_the_configuration():
    config = read(MINIMAL + '[tls]\nca_file = "ca.pem"\ncert_file = "/c.pem"\nkey_file = "k.pem"\n')
    assert config.tls == Tls(ca_file=BASE / "ca.pem", cert_file=Path("/c.pem"), key_file=BASE / "k.pem")


def test_handshake_first_is_a_boolean_and_false_unless_set():
    assert read(MINIMAL + "[tls]\nhandshake_first = true\n").tls == Tls(handshake_first=True)
    assert read(MINIMAL + "[tls]\nhandshake_first = false\n").tls == Tls()


def test_a_verbs_settings_are_read_and_what_is_not_said_is_as_for_all():
    settings = (
        '[verbs.deploy]\ntimeout = "1.5h"\nconcurrency = 2\nqueue = 10\nmax_wait = "1m30s"\nexit_on_error = true\n'
        'cap = 4096\npayload = "stdin"\nuser = "deploy"\n[verbs.ping]\nqueue = 7\n'
    )
    config = read(MINIMAL + settings)
    assert config.verb("deploy") == VerbSettings(
        timeout_seconds=5400.0,
        concurrency=2,
        queue=10,
        max_wait_seconds=90.0,
        exit_on_error=True,
        cap=4096,
        payload="stdin",
        user="deploy",
    )
    assert config.verb("ping") == replace(VerbSettings(), queue=7)
    assert config.verb("status") == VerbSettings()


def test_permitted_verbs_are_lower_cased_as_in_the_original():
    assert read(MINIMAL.replace('"ping"', '"PING", "Up"')).identities[0].verbs == {"ping", "up"}


def test_a_peer_says_itself_that_it_runs_the_original():
    config = read(MINIMAL + PEER + 'compatibility = "legacy"\n' + PEER.replace(OTHER.public, OURS.public))
    assert [peer.legacy for peer in config.peers] == [True, False]


def test_a_private_key_is_read_when_first_needed_and_then_kept(tmp_path):
    identity = read(MINIMAL, tmp_path).identities[0]
    file = tmp_path / "ops.key"
    file.write_text(f"\n {OURS.reveal()} \n")
    file.chmod(0o600)
    first = identity.load()
    assert first.public == OURS.public
    file.unlink()
    assert identity.load() is first
    assert OURS.reveal() not in repr(identity)


def test_a_missing_private_key_names_the_file_and_the_key_path(tmp_path):
    identity = read(MINIMAL, tmp_path).identities[0]
    with pytest.raises(ConfigError) as caught:
        identity.load()
    assert f"{caught.value}; hint: {caught.value.hint}" == (
        f"{tmp_path}/ops.key: private key, named by identities[0].private_key_file of remaphore.toml:"
        " no such file; hint: check the name of the file"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            OTHER.reveal(),
            (
                f"the private key belongs to {OTHER.public}, not to this identity;"
                " hint: pair each public key with its own private key"
            ),
        ),
        (
            OURS.reveal()[:-1],
            "invalid private key: 63 bytes instead of 64; hint: copy all 64 bytes, seed and public key, in base58",
        ),
        (
            f"{OURS.public} {OURS.reveal()}",
            (
                "invalid private key: not base58 (Bitcoin alphabet);"
                " hint: copy all 64 bytes, seed and public key, in base58"
            ),
        ),
    ],
)
def test_a_private_key_that_is_not_the_identitys_is_refused_and_not_quoted(tmp_path, content, problem):
    file = tmp_path / "ops.key"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read(MINIMAL, tmp_path).identities[0].load()
    assert f"{caught.value}; hint: {caught.value.hint}" == (
        f"{file}: private key, named by identities[0].private_key_file of remaphore.toml: {problem}"
    )
