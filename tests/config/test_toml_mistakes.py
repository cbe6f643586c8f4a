"""What each mistake in a file of our own format is told."""

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
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


MEND_AUTH = (
    'write credentials = "FILE", or a table [auth] with nkey_seed_file, with user and password_file,'
    ' or with token_file, or auth = "none"'
)
TOO_LONG = "too long for a public key (is it a private one?); write the 32 bytes of the public key in base58"
NEWER = " (a newer remaphore may know it: then update this one)"
NAME_MEND = "write a name such as com.crypto.us.left"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'destination: missing; add destination = "com.example.host"'),
        ('destination = "d"\n', 'servers: missing; add servers = ["nats://HOST:4222"]'),
        (
            TOP + AUTH,
            "identities: missing; add a table [[identities]] with key, private_key_file and verbs",
        ),
        (
            TOP + AUTH + "identities = []",
            "identities: empty; add a table [[identities]] with key, private_key_file and verbs",
        ),
        ('destinatoin = "d"\n', "destinatoin: unknown key; did you mean destination?" + NEWER),
        (
            MINIMAL + PEER + PEER + 'verb = ["x"]\n',
            "peers[1].verb: unknown key; did you mean verbs?" + NEWER,
        ),
        (
            MINIMAL + 'hooks = ["x"]\n',
            "identities[0].hooks: unknown key; it belongs at the head of the file, above the first [table]",
        ),
        (MINIMAL + "[tls]\nzzz = 1\n", "tls.zzz: unknown key; known here: ca_file, cert_file, key_file" + NEWER),
        (MINIMAL + "[verbs.deploy]\ntimeuot = 1\n", "verbs.deploy.timeuot: unknown key; did you mean timeout?" + NEWER),
        (
            MINIMAL.replace('"d"', '""'),
            "destination: empty; write a value or delete it",
        ),
        (MINIMAL.replace('"d"', "5"), "destination: an integer instead of a string"),
        (
            MINIMAL.replace('"d"', '"com.*"'),
            f"destination: a destination holds no *, that is for patterns; {NAME_MEND}",
        ),
        (
            MINIMAL.replace('"d"', '"a,b"'),
            "destination: a destination holds no comma; write one name such as com.crypto.us.left",
        ),
        (
            MINIMAL.replace('"d"', '"a\\nb"'),
            f"destination: a destination holds no white space or control character; {NAME_MEND}",
        ),
        (
            MINIMAL + PEER.replace("com.a", "**"),
            f"peers[0].destination: a destination holds no *, that is for patterns; {NAME_MEND}",
        ),
        (MINIMAL.replace('["nats://a:4222"]', "[]"), 'servers: empty; write ["nats://HOST:4222"]'),
        (MINIMAL.replace('["nats://a:4222"]', '"nats://a"'), "servers: a string instead of an array"),
        (MINIMAL.replace('"nats://a:4222"', "true"), "servers[0]: true or false instead of a string"),
        (
            MINIMAL.replace("nats://a:4222", "http://a"),
            "servers[0]: the address begins with neither nats:// nor tls://; write nats://HOST:PORT",
        ),
        (
            MINIMAL.replace("nats://a:4222", "nats://me:hunter2@a"),
            "servers[0]: a user or password stands in the address; take it out and put it under [auth]",
        ),
        (TOP + IDENTITY, f"auth: missing; {MEND_AUTH}"),
        (TOP + AUTH + 'credentials = "c"\n' + IDENTITY, "auth: given beside credentials; keep one of the two"),
        (TOP + 'auth = "non"\n' + IDENTITY, f"auth: unknown; {MEND_AUTH}"),
        (TOP + "auth = true\n" + IDENTITY, "auth: true or false instead of a table"),
        (TOP + "[auth]\n" + IDENTITY, f"auth: not one way to authenticate; {MEND_AUTH}"),
        (TOP + '[auth]\nuser = "u"\n' + IDENTITY, f"auth: not one way to authenticate; {MEND_AUTH}"),
        (
            TOP + '[auth]\ntoken_file = "t"\nnkey_seed_file = "s"\n' + IDENTITY,
            f"auth: not one way to authenticate; {MEND_AUTH}",
        ),
        (
            TOP + '[auth]\nuser = "u"\npassword = "hunter2"\n' + IDENTITY,
            "auth.password: unknown key; did you mean password_file?" + NEWER,
        ),
        (
            MINIMAL + '[tls]\nkey_file = "k"\n',
            'tls.cert_file: missing; add cert_file = "FILE", the certificate of this key',
        ),
        (MINIMAL + "[[tls]]\n", "tls: an array instead of a table"),
        (
            'subject = "a b"\n' + MINIMAL,
            (
                "subject: not a NATS subject: it holds white space or a control character;"
                " write words joined by dots, such as remaphore"
            ),
        ),
        (
            'allow_skew = "5"\n' + MINIMAL,
            "allow_skew: missing unit in duration '5' (write for example 5s); durations look like 5s or 1h30m",
        ),
        ("allow_skew = 5\n" + MINIMAL, "allow_skew: an integer instead of a string"),
        ('allow_skew = "0"\n' + MINIMAL, "allow_skew: not more than 0; write for example 5s"),
        (
            f'default_identity = "{OTHER.public}"\n' + MINIMAL,
            "default_identity: no identity has this key; write the key of one of [[identities]]",
        ),
        (
            'default_identity = "xyz0"\n' + MINIMAL,
            "default_identity: bad public key: not base58 (Bitcoin alphabet); copy all of its 32 bytes in base58",
        ),
        ('state_dir = ["x"]\n' + MINIMAL, "state_dir: an array instead of a string"),
        ('hooks = ["x", ""]\n' + MINIMAL, "hooks[1]: empty; write a value or delete it"),
        (MINIMAL.replace("key = ", "#"), 'identities[0].key: missing; add key = "..."'),
        (MINIMAL.replace(OURS.public, OURS.reveal()), f"identities[0].key: {TOO_LONG}"),
        (
            MINIMAL.replace("private_key_file", "#"),
            'identities[0].private_key_file: missing; add private_key_file = "..."',
        ),
        (MINIMAL.replace("verbs", "#"), 'identities[0].verbs: missing; add verbs = ["..."]'),
        (
            MINIMAL.replace('"ping"', '"ping,deploy"'),
            'identities[0].verbs[0]: a verb holds no comma; write ["ping", "deploy"]',
        ),
        (MINIMAL + "[peers]\n", "peers: a table instead of an array"),
        (MINIMAL.replace("[[id", "peers = [1]\n[[id"), "peers[0]: an integer instead of a table"),
        (
            MINIMAL + PEER.replace(OTHER.public, OTHER.public[:-2]),
            "peers[0].key: bad public key: 31 bytes instead of 32; copy all of its 32 bytes in base58",
        ),
        (
            MINIMAL + PEER + 'compatibility = "old"\n',
            'peers[0].compatibility: unknown; write "legacy" or delete it',
        ),
        (
            MINIMAL + '[verbs."../etc"]\n',
            'verbs."...": no verb that can have handlers; write a to z, 0 to 9, _ and -, at most 64',
        ),
        (
            MINIMAL + '[verbs."deploy/../ping"]\n',
            'verbs."...": no verb that can have handlers; write a to z, 0 to 9, _ and -, at most 64',
        ),
        (
            MINIMAL + "[verbs.Deploy]\n",
            "verbs.Deploy: no verb that can have handlers; write a to z, 0 to 9, _ and -, at most 64",
        ),
        (MINIMAL + "[verbs]\ndeploy = 1\n", "verbs.deploy: an integer instead of a table"),
        (
            MINIMAL + '[verbs.deploy]\ntimeout = "10"\n',
            (
                "verbs.deploy.timeout: missing unit in duration '10' (write for example 10s);"
                " durations look like 5s or 1h30m"
            ),
        ),
        (MINIMAL + "[verbs.deploy]\nconcurrency = 0\n", "verbs.deploy.concurrency: less than 1; write 1 or more"),
        (MINIMAL + "[verbs.deploy]\nqueue = true\n", "verbs.deploy.queue: true or false instead of an integer"),
        (MINIMAL + "[verbs.deploy]\ncap = 1.5\n", "verbs.deploy.cap: a number instead of an integer"),
        (
            MINIMAL + "[verbs.deploy]\nexit_on_error = 1\n",
            "verbs.deploy.exit_on_error: an integer instead of true or false",
        ),
        (
            MINIMAL + '[verbs.deploy]\npayload = "file"\n',
            'verbs.deploy.payload: unknown; write "argument" or "stdin"',
        ),
        (MINIMAL + "[verbs.deploy]\nuser = 1979-05-27\n", "verbs.deploy.user: a date or time instead of a string"),
        (MINIMAL + '[plugins]\nenable = ["a", "a"]\n', "plugins.enable[1]: listed twice; delete one"),
        (
            MINIMAL + '[plugins]\nenabled = ["a"]\n',
            "plugins.enabled: neither enable nor a table; write enable = [...], or [plugins.enabled]",
        ),
        (
            MINIMAL + 'compatibility = "legacy"\n',
            "identities[0].compatibility: unknown key; known here: key, private_key_file, verbs" + NEWER,
        ),
    ],
)
def test_a_mistake_is_told_with_its_key_path_and_mend(text, message):
    assert rejection(text) == f"remaphore.toml: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("destination = com.a\n", "remaphore.toml:1: not TOML: Invalid value;"),
        (f"{MINIMAL}[peers\n", "remaphore.toml:8: not TOML: "),
        (f"{MINIMAL}x = [1,", "remaphore.toml"),
        (f"x = {'9' * 5000}\n", "remaphore.toml: not TOML: "),
        (f"x = [1,\n  {'9' * 5000}]\n", "remaphore.toml: not TOML: line 2 has a number of more than 4300 digits"),
        (f"x = {'[' * 100_000}", "remaphore.toml: not TOML: nested too deeply; flatten it"),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(text, message):
    said = rejection(text)
    assert said.startswith(message)
    assert "not TOML" in said


@pytest.mark.parametrize("line", [f"# {'_' * 5000}", f"# {'9' * 5000}", f'[plugins.x]\nhash = "{"f" * 5000}"'])
def test_a_long_row_of_digits_that_is_no_number_is_none(line):
    read(f"{MINIMAL}{IDENTITY}{line}\n")


def test_a_key_that_is_listed_twice_is_warned_about():
    config = read(MINIMAL + IDENTITY + PEER + PEER)
    assert config.warnings == (
        "remaphore.toml: identities[1].key: the same as identities[0].key, which counts; delete one",
        "remaphore.toml: peers[1].key: the same as peers[0].key, which counts; delete one",
    )


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
    assert OURS.reveal()[:20] not in rejection(text)
