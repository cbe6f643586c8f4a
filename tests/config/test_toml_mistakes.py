"""The error and the hint for each mistake in a TOML configuration."""

from pathlib import Path

import pytest

from remaphore.config import toml
from remaphore.errors import ConfigError
from remaphore.protocol.keys import PrivateKey

OURS = PrivateKey(b"\1" * 32)
OTHER = PrivateKey(b"\2" * 32)
TOP = 'destination = "d"\nservers = ["nats://a:4222"]\n'
AUTH = 'auth = "none"\n'
IDENTITY = f'[[identities]]\nkey = "{OURS.public}"\nprivate_key_file = "ops.key"\nverbs = ["ping"]\n'
PEER = f'[[peers]]\ndestination = "com.a"\nkey = "{OTHER.public}"\nverbs = ["ping"]\n'
MINIMAL = TOP + AUTH + IDENTITY
BASE = Path("/etc/remaphore")


def read(text, base=BASE):
    return toml.parse(text, "remaphore.toml", base)


def rejection(text):
    """Return message and hint of the error that *text* causes."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value), caught.value.hint


MANUAL = "see man remaphore.toml"
AUTH_HINT = (
    'write credentials = "FILE", or a table [auth] with nkey_seed_file, with user and password_file,'
    ' or with token_file, or auth = "none"'
)
IDENTITY_HINT = "add a table [[identities]] with key, private_key_file and verbs"
NEWER = " (if a newer remaphore knows this key, update this one)"
NAME_HINT = "use a name such as com.example.us.left"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("", "destination: missing", 'add destination = "com.example.host"'),
        ('destination = "d"\n', "servers: missing", 'add servers = ["nats://HOST:4222"]'),
        (
            TOP + AUTH,
            "identities: missing",
            IDENTITY_HINT,
        ),
        (
            TOP + AUTH + "identities = []",
            "identities: empty",
            IDENTITY_HINT,
        ),
        ('destinatoin = "d"\n', "destinatoin: unknown key", "did you mean destination?" + NEWER),
        (
            MINIMAL + PEER + PEER + 'verb = ["x"]\n',
            "peers[1].verb: unknown key",
            "did you mean verbs?" + NEWER,
        ),
        (
            MINIMAL + 'hooks = ["x"]\n',
            "identities[0].hooks: unknown key",
            "move hooks to the top of the file, above the first [table]",
        ),
        (
            MINIMAL + "[tls]\nzzz = 1\n",
            "tls.zzz: unknown key",
            "known keys: ca_file, cert_file, key_file, handshake_first" + NEWER,
        ),
        (
            MINIMAL + "[verbs.deploy]\ntimeuot = 1\n",
            "verbs.deploy.timeuot: unknown key",
            "did you mean timeout?" + NEWER,
        ),
        (
            MINIMAL.replace('"d"', '""'),
            "destination: empty",
            "write a value or delete it",
        ),
        (MINIMAL.replace('"d"', "5"), "destination: must be a string, not an integer", MANUAL),
        (
            MINIMAL.replace('"d"', '"com.*"'),
            "destination: a destination cannot contain *; only patterns can",
            NAME_HINT,
        ),
        (
            MINIMAL.replace('"d"', '"a,b"'),
            "destination: a destination cannot contain a comma",
            NAME_HINT,
        ),
        (
            MINIMAL.replace('"d"', '"a\\nb"'),
            "destination: a destination cannot contain U+000A control character, its character 2",
            NAME_HINT,
        ),
        (
            MINIMAL + PEER.replace("com.a", "**"),
            "peers[0].destination: a destination cannot contain *; only patterns can",
            NAME_HINT,
        ),
        (MINIMAL.replace('["nats://a:4222"]', "[]"), "servers: empty", 'write ["nats://HOST:4222"]'),
        (MINIMAL.replace('["nats://a:4222"]', '"nats://a"'), "servers: must be an array, not a string", MANUAL),
        (MINIMAL.replace('"nats://a:4222"', "true"), "servers[0]: must be a string, not true or false", MANUAL),
        (
            MINIMAL.replace("nats://a:4222", "http://a"),
            "servers[0]: the address begins with neither nats:// nor tls://",
            "write nats://HOST:PORT",
        ),
        (
            MINIMAL.replace("nats://a:4222", "nats://me:hunter2@a"),
            "servers[0]: the address contains a user or password",
            "remove it from the address and use [auth]",
        ),
        (TOP + IDENTITY, "auth: missing", AUTH_HINT),
        (TOP + AUTH + 'credentials = "c"\n' + IDENTITY, "auth: set together with credentials", "keep one of the two"),
        (TOP + 'auth = "non"\n' + IDENTITY, "auth: unknown value", AUTH_HINT),
        (TOP + "auth = true\n" + IDENTITY, "auth: must be a table, not true or false", MANUAL),
        (TOP + "[auth]\n" + IDENTITY, "auth: expected exactly one authentication method", AUTH_HINT),
        (TOP + '[auth]\nuser = "u"\n' + IDENTITY, "auth: expected exactly one authentication method", AUTH_HINT),
        (
            TOP + '[auth]\ntoken_file = "t"\nnkey_seed_file = "s"\n' + IDENTITY,
            "auth: expected exactly one authentication method",
            AUTH_HINT,
        ),
        (
            TOP + '[auth]\nuser = "u"\npassword = "hunter2"\n' + IDENTITY,
            "auth.password: unknown key",
            "did you mean password_file?" + NEWER,
        ),
        (
            MINIMAL + '[tls]\nkey_file = "k"\n',
            "tls.cert_file: missing",
            'add cert_file = "FILE", the certificate of this key',
        ),
        (MINIMAL + "[[tls]]\n", "tls: must be a table, not an array", MANUAL),
        (
            'subject = "a b"\n' + MINIMAL,
            "subject: not a NATS subject: it contains white space or a control character",
            "use words joined by dots, such as remaphore",
        ),
        (
            'allow_skew = "5"\n' + MINIMAL,
            "allow_skew: missing unit in duration '5'",
            "add a unit, for example 5s",
        ),
        ("allow_skew = 5\n" + MINIMAL, "allow_skew: must be a string, not an integer", MANUAL),
        ('allow_skew = "0"\n' + MINIMAL, "allow_skew: must be more than 0", "use a value such as 5s"),
        (
            f'default_identity = "{OTHER.public}"\n' + MINIMAL,
            "default_identity: no identity has this key",
            "use the key of one of [[identities]]",
        ),
        (
            'default_identity = "xyz0"\n' + MINIMAL,
            "default_identity: invalid public key: not base58 (Bitcoin alphabet)",
            "copy all 32 bytes of the public key in base58",
        ),
        ('state_dir = ["x"]\n' + MINIMAL, "state_dir: must be a string, not an array", MANUAL),
        ('hooks = ["x", ""]\n' + MINIMAL, "hooks[1]: empty", "write a value or delete it"),
        (MINIMAL.replace("key = ", "#"), "identities[0].key: missing", 'add key = "..."'),
        (
            MINIMAL.replace(OURS.public, OURS.reveal()),
            "identities[0].key: too long for a public key (is it a private key?)",
            "use the 32 bytes of the public key in base58",
        ),
        (
            MINIMAL.replace("private_key_file", "#"),
            "identities[0].private_key_file: missing",
            'add private_key_file = "..."',
        ),
        (MINIMAL.replace("verbs", "#"), "identities[0].verbs: missing", 'add verbs = ["..."]'),
        (
            MINIMAL.replace('"ping"', '"ping,deploy"'),
            "identities[0].verbs[0]: a verb cannot contain a comma",
            'write ["ping", "deploy"]',
        ),
        (MINIMAL + "[peers]\n", "peers: must be an array, not a table", MANUAL),
        (MINIMAL.replace("[[id", "peers = [1]\n[[id"), "peers[0]: must be a table, not an integer", MANUAL),
        (
            MINIMAL + PEER.replace(OTHER.public, OTHER.public[:-2]),
            "peers[0].key: invalid public key: 31 bytes instead of 32",
            "copy all 32 bytes of the public key in base58",
        ),
        (
            MINIMAL + PEER + 'compatibility = "old"\n',
            "peers[0].compatibility: unknown value",
            'write "legacy" or delete it',
        ),
        (
            MINIMAL + '[verbs."../etc"]\n',
            'verbs."...": not a verb that can have handlers',
            "use a to z, 0 to 9, _ and -, at most 64 characters",
        ),
        (
            MINIMAL + '[verbs."deploy/../ping"]\n',
            'verbs."...": not a verb that can have handlers',
            "use a to z, 0 to 9, _ and -, at most 64 characters",
        ),
        (
            MINIMAL + "[verbs.Deploy]\n",
            "verbs.Deploy: not a verb that can have handlers",
            "use a to z, 0 to 9, _ and -, at most 64 characters",
        ),
        (MINIMAL + "[verbs]\ndeploy = 1\n", "verbs.deploy: must be a table, not an integer", MANUAL),
        (
            MINIMAL + '[verbs.deploy]\ntimeout = "10"\n',
            "verbs.deploy.timeout: missing unit in duration '10'",
            "add a unit, for example 10s",
        ),
        (
            MINIMAL + "[verbs.deploy]\nconcurrency = 0\n",
            "verbs.deploy.concurrency: must be 1 or more",
            "use 1 or more, or delete concurrency for the default",
        ),
        (
            MINIMAL + "[verbs.deploy]\nqueue = true\n",
            "verbs.deploy.queue: must be an integer, not true or false",
            MANUAL,
        ),
        (MINIMAL + "[verbs.deploy]\ncap = 1.5\n", "verbs.deploy.cap: must be an integer, not a number", MANUAL),
        (
            MINIMAL + "[verbs.deploy]\nexit_on_error = 1\n",
            "verbs.deploy.exit_on_error: must be true or false, not an integer",
            MANUAL,
        ),
        (
            MINIMAL + '[verbs.deploy]\npayload = "file"\n',
            "verbs.deploy.payload: unknown value",
            'write "argument" or "stdin"',
        ),
        (
            MINIMAL + "[verbs.deploy]\nuser = 1979-05-27\n",
            "verbs.deploy.user: must be a string, not a date or time",
            MANUAL,
        ),
        (MINIMAL + '[plugins]\nenable = ["a", "a"]\n', "plugins.enable[1]: listed twice", "delete one of the two"),
        (
            MINIMAL + '[plugins]\nenabled = ["a"]\n',
            "plugins.enabled: neither enable nor a table",
            "write enable = [...], or a table [plugins.enabled]",
        ),
        (
            MINIMAL + 'compatibility = "legacy"\n',
            "identities[0].compatibility: unknown key",
            "known keys: key, private_key_file, verbs" + NEWER,
        ),
    ],
)
def test_a_mistake_is_reported_with_its_key_path_and_a_hint(text, what, hint):
    assert rejection(text) == (f"remaphore.toml: {what}", hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("destination = com.a\n", "remaphore.toml:1: not TOML: Invalid value"),
        (f"{MINIMAL}[peers\n", "remaphore.toml:8: not TOML: "),
        (f"{MINIMAL}x = [1,", "remaphore.toml"),
        (f"x = {'9' * 5000}\n", "remaphore.toml:1: not TOML: "),
        (f"x = [1,\n  {'9' * 5000}]\n", "remaphore.toml:2: not TOML: a number of more than 4300 digits"),
        (f"x = {'[' * 100_000}", "remaphore.toml: not TOML: nested too deeply"),
    ],
)
def test_what_is_not_toml_is_reported_with_its_line_and_a_hint(text, message):
    what, hint = rejection(text)
    assert what.startswith(message)
    assert "not TOML" in what
    assert hint


@pytest.mark.parametrize("line", [f"# {'_' * 5000}", f"# {'9' * 5000}", f'[plugins.x]\nhash = "{"f" * 5000}"'])
def test_a_long_row_of_digits_that_is_no_number_is_none(line):
    read(f"{MINIMAL}{IDENTITY}{line}\n")


def test_a_key_that_is_listed_twice_is_warned_about():
    config = read(MINIMAL + IDENTITY + PEER + PEER)
    assert config.warnings == (
        (
            "remaphore.toml: identities[1].key: repeats identities[0].key, which takes precedence",
            "delete one of the two",
        ),
        ("remaphore.toml: peers[1].key: repeats peers[0].key, which takes precedence", "delete one of the two"),
    )


@pytest.mark.parametrize(("verb", "number"), [("say ", "0020"), ("say\xa0", "00A0"), ("\u200bsay", "200B")])
@pytest.mark.parametrize("table", [IDENTITY, PEER])
def test_white_space_around_a_verb_or_an_invisible_character_in_it_is_an_error(table, verb, number):
    changed = table.replace('["ping"]', f'["ping", "{verb}"]')
    name = "identities" if table is IDENTITY else "peers"
    with pytest.raises(ConfigError, match=rf"{name}\[0\]\.verbs\[1\]: a verb cannot contain U\+{number}"):
        read((MINIMAL + table).replace(table, changed))


def test_a_space_within_a_verb_is_permitted_as_in_the_go_implementation():
    config = read(MINIMAL + PEER.replace('["ping"]', '["ping", "say hello"]'))
    assert config.peers[0].verbs == {"ping", "say hello"}


@pytest.mark.parametrize(
    "text",
    [
        f'"{OURS.reveal()}" = 1\n{MINIMAL}',
        MINIMAL.replace(OURS.public, OURS.reveal()),
        f'default_identity = "{OURS.reveal()}"\n{MINIMAL}',
        f'allow_skew = "{OURS.reveal()}"\n{MINIMAL}',
        MINIMAL + PEER.replace(OTHER.public, OURS.reveal()),
        f"{MINIMAL}{OURS.reveal()}\n",
        f"key = {OURS.reveal()}\n",
        f'{MINIMAL}[verbs."{OURS.reveal()}"]\n',
    ],
)
def test_a_private_key_in_a_wrong_place_is_in_no_error(text):
    assert OURS.reveal()[:20] not in "".join(rejection(text))
