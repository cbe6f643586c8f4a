"""The error or warning for each mistake in a legacy .conf, and that no private key is ever quoted."""

import pytest

from remaphore.config import legacy
from remaphore.errors import ConfigError
from remaphore.protocol.keys import PrivateKey

OURS = PrivateKey(b"\1" * 32)
OTHER = PrivateKey(b"\2" * 32)
HEAD = "server: nats://a:4222\ncredentials: c\ndestination: d\n"
IDENTITIES = f"[ Identities ]\n{OURS.public} {OURS.reveal()} [ping]\n"
MINIMAL = HEAD + IDENTITIES


def read(text):
    return legacy.parse(text, "test.conf")


def rejection(text):
    """Return message and hint of the error that *text* causes."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value), caught.value.hint


NAME_HINT = "use a name such as com.example.us.left"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("", ": no server", "add a line: server: nats://HOST:4222"),
        ("server: nats://a\n", ": no credentials", "add a line: credentials: FILE"),
        ("server: nats://a\ncredentials: c\n", ": no destination", "add a line: destination: NAME"),
        (HEAD, ": no identity", "add below [ Identities ] a line: PUBLICKEY PRIVATEKEY [verb,...]"),
        (
            "server: http://a:4222\n" + MINIMAL,
            ":1: server: the address begins with neither nats:// nor tls://",
            "write nats://HOST:PORT",
        ),
        (
            "\nserver: nats://a:99999\n" + MINIMAL,
            ":2: server: invalid host or port in the address",
            "write nats://HOST:PORT, an IPv6 host in brackets, a port from 1 to 65535",
        ),
        (
            "subject: a.*\n" + MINIMAL,
            ":1: subject: not a NATS subject: it contains a wildcard (* or >)",
            "use words joined by dots, such as remaphore",
        ),
        (
            "allow_skew: 5\n" + MINIMAL,
            ":1: allow_skew: missing unit in duration '5'",
            "add a unit, for example 5s",
        ),
        (
            f"default_identity: {OTHER.public}\n" + MINIMAL,
            ":1: default_identity: no identity has this key",
            "use the key of a line below [ Identities ]",
        ),
        (
            "default_identity: xyz\n" + MINIMAL,
            ":1: default_identity: invalid public key: 3 bytes instead of 32",
            "copy all 32 bytes of the public key in base58",
        ),
        (
            "default_identity: xyz0\n" + MINIMAL,
            ":1: default_identity: invalid public key: not base58 (Bitcoin alphabet)",
            "copy all 32 bytes of the public key in base58",
        ),
        (
            HEAD + f"[Identities]\n{OURS.public} [ping]\n",
            ":5: expected 3 fields, found 2",
            "write PUBLICKEY PRIVATEKEY [verb,...]",
        ),
        (
            HEAD + f"[Identities]\n{OURS.reveal()} {OURS.public} [ping]\n",
            ":5: too long for a public key (is it a private key?)",
            "use the 32 bytes of the public key in base58",
        ),
        (
            HEAD + f"[Identities]\n{OURS.public} {OURS.reveal()[:-1]} [ping]\n",
            ":5: invalid private key: 63 bytes instead of 64",
            "copy all 64 bytes, seed and public key, in base58",
        ),
        (
            HEAD + f"[Identities]\n{OTHER.public} {OURS.reveal()} [ping]\n",
            f":5: the private key belongs to {OURS.public}, not to this identity",
            "pair each public key with its own private key",
        ),
        (
            HEAD + f"[Identities]\n{OURS.public} {OURS.reveal()} ping\n",
            ":5: the verbs are not in brackets",
            "write PUBLICKEY PRIVATEKEY [verb,...]",
        ),
        (
            MINIMAL + f"[Peers]\ncom.a {OTHER.public}\n",
            ":7: expected 3 fields, found 2",
            "write DESTINATION PUBLICKEY [verb,...]",
        ),
        (
            MINIMAL + f"[Peers]\ncom.a {OTHER.public} [\n",
            ":7: the verbs are not in brackets",
            "write DESTINATION PUBLICKEY [verb,...]",
        ),
        (
            MINIMAL + f"[Peers]\ncom.a {OTHER.public[:-2]} [ping]\n",
            ":7: invalid public key: 31 bytes instead of 32",
            "copy all 32 bytes of the public key in base58",
        ),
        (
            MINIMAL + f"[Peers]\ncom.a {OURS.reveal()} [ping]\n",
            ":7: too long for a public key (is it a private key?)",
            "use the 32 bytes of the public key in base58",
        ),
        (
            MINIMAL + "[ Pears ]\nfoo\n",
            ":7: line in an unknown section",
            "move it to [ Identities ] or [ Peers ]",
        ),
        ("destination: Z\udcfcrich\n" + MINIMAL, ":1: not UTF-8", "save the file as UTF-8"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_a_hint(text, what, hint):
    assert rejection(text) == (f"test.conf{what}", hint)


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (
            "colour: blue\n" + MINIMAL,
            ":1: unknown key 'colour' ignored",
            "known keys: server, credentials, subject, default_identity, destination, allow_skew",
        ),
        (
            "hello\n" + MINIMAL,
            ":1: line ignored: not a setting",
            "write key: value, or a section such as [ Identities ]",
        ),
        (
            ": b\n" + MINIMAL,
            ":1: line ignored: not a setting",
            "write key: value, or a section such as [ Identities ]",
        ),
        ("subject:\n" + MINIMAL, ":1: subject is empty and ignored", "write a value or delete the line"),
        (
            "destination: x\n" + MINIMAL,
            ":4: destination overrides line 1",
            "delete one of the two",
        ),
        (
            MINIMAL + f"[Peers]\na {OTHER.public} [a]\nb {OTHER.public} [b]\n",
            ":8: this peer repeats the key of line 7, which takes precedence",
            "delete one of the two",
        ),
        (
            MINIMAL + f"{OURS.public} {OURS.reveal()} [b]\n",
            ":6: this identity repeats the key of line 5, which takes precedence",
            "delete one of the two",
        ),
        (MINIMAL + "[ Pears ]\n", ":6: unknown section 'pears'", "write [ Identities ] or [ Peers ]"),
        (
            MINIMAL.replace("destination: d", "destination: com.*"),
            ":3: a destination cannot contain *; only patterns can",
            NAME_HINT,
        ),
        (
            MINIMAL + f"[Peers]\na,b {OTHER.public} [a]\n",
            ":7: a destination cannot contain a comma",
            NAME_HINT,
        ),
        (
            "allow_skew: -5s\n" + MINIMAL,
            ":1: allow_skew is negative, so every message is dropped",
            "use a value such as 5s",
        ),
    ],
)
def test_a_likely_mistake_that_is_accepted_is_a_warning_with_its_line_and_a_hint(text, what, hint):
    assert read(text).warnings == ((f"test.conf{what}", hint),)


SECRET = OURS.reveal()


@pytest.mark.parametrize(
    "text",
    [
        f"{OURS.public} {SECRET} [ping]\n{MINIMAL}",
        f"{SECRET}: x\n{MINIMAL}",
        f"[ {SECRET} ]\n{MINIMAL}",
        f"default_identity: {SECRET}\n{MINIMAL}",
        f"allow_skew: {SECRET}\n{MINIMAL}",
        f"server: nats://{SECRET}:x\n{MINIMAL}",
        f"subject: {SECRET}..\n{MINIMAL}",
        f"{HEAD}[Identities]\n{SECRET} {OURS.public} [ping]\n",
        f"{HEAD}[Identities]\n{SECRET} {SECRET} [ping]\n",
        f"{HEAD}[Identities]\n{OURS.public} {SECRET}x [ping]\n",
        f"{HEAD}[Identities]\n{OURS.public} {SECRET}\n",
        f"{HEAD}[Identities]\n{OTHER.public} {SECRET} [ping]\n",
        f"{MINIMAL}[Peers]\n{OURS.public} {SECRET} [ping]\n",
        f"{MINIMAL}[Peers]\n{SECRET} {SECRET} [ping]\n",
        f"{MINIMAL}[Other]\n{OURS.public} {SECRET} [ping]\n",
    ],
)
def test_a_private_key_in_a_wrong_place_is_in_no_error_and_no_warning(text):
    try:
        said = "\n".join(line for warning in read(text).warnings for line in warning)
    except ConfigError as error:
        said = f"{error}\n{error.hint}"
    assert said
    for piece in (SECRET, SECRET.lower()):
        assert piece[:20] not in said
