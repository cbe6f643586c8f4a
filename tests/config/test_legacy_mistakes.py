"""What each mistake in a file of the original's format is told, and that no private key is ever quoted."""

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
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


IDENTITY_FORM = "write PUBLICKEY PRIVATEKEY [verb,...]"
PEER_FORM = "write DESTINATION PUBLICKEY [verb,...]"
TOO_LONG = "too long for a public key (is it a private one?); write the 32 bytes of the public key in base58"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "test.conf: no server; add a line server: nats://HOST:4222"),
        ("server: nats://a\n", "test.conf: no credentials; add a line credentials: FILE"),
        ("server: nats://a\ncredentials: c\n", "test.conf: no destination; add a line destination: NAME"),
        (HEAD, "test.conf: no identity; add under [ Identities ] a line PUBLICKEY PRIVATEKEY [verb,...]"),
        (
            "server: http://a:4222\n" + MINIMAL,
            "test.conf:1: server: the address begins with neither nats:// nor tls://; write nats://HOST:PORT",
        ),
        (
            "\nserver: nats://a:99999\n" + MINIMAL,
            (
                "test.conf:2: server: bad host or port; write nats://HOST:PORT, an IPv6 host in brackets,"
                " the port from 1 to 65535"
            ),
        ),
        (
            "subject: a.*\n" + MINIMAL,
            (
                "test.conf:1: subject: not a NATS subject: it holds a wildcard (* or >);"
                " write words joined by dots, such as remaphore"
            ),
        ),
        (
            "allow_skew: 5\n" + MINIMAL,
            (
                "test.conf:1: allow_skew: missing unit in duration '5' (write for example 5s);"
                " durations look like 5s or 1h30m"
            ),
        ),
        (
            f"default_identity: {OTHER.public}\n" + MINIMAL,
            "test.conf:1: default_identity: no identity has this key; write one of [ Identities ]",
        ),
        (
            "default_identity: xyz\n" + MINIMAL,
            "test.conf:1: default_identity: bad public key: 3 bytes instead of 32; copy all of its 32 bytes in base58",
        ),
        (
            "default_identity: xyz0\n" + MINIMAL,
            (
                "test.conf:1: default_identity: bad public key: not base58 (Bitcoin alphabet);"
                " copy all of its 32 bytes in base58"
            ),
        ),
        (HEAD + f"[Identities]\n{OURS.public} [ping]\n", f"test.conf:5: 2 of 3 fields; {IDENTITY_FORM}"),
        (HEAD + f"[Identities]\n{OURS.reveal()} {OURS.public} [ping]\n", f"test.conf:5: {TOO_LONG}"),
        (
            HEAD + f"[Identities]\n{OURS.public} {OURS.reveal()[:-1]} [ping]\n",
            (
                "test.conf:5: bad private key: 63 bytes instead of 64;"
                " copy all of its 64 bytes, seed and public key, in base58"
            ),
        ),
        (
            HEAD + f"[Identities]\n{OTHER.public} {OURS.reveal()} [ping]\n",
            f"test.conf:5: the private key belongs to {OURS.public}, not to this identity; put the two together",
        ),
        (
            HEAD + f"[Identities]\n{OURS.public} {OURS.reveal()} ping\n",
            f"test.conf:5: the verbs do not stand in brackets; {IDENTITY_FORM}",
        ),
        (
            MINIMAL + f"[Peers]\ncom.a {OTHER.public}\n",
            f"test.conf:7: 2 of 3 fields; {PEER_FORM}",
        ),
        (
            MINIMAL + f"[Peers]\ncom.a {OTHER.public} [\n",
            f"test.conf:7: the verbs do not stand in brackets; {PEER_FORM}",
        ),
        (
            MINIMAL + f"[Peers]\ncom.a {OTHER.public[:-2]} [ping]\n",
            "test.conf:7: bad public key: 31 bytes instead of 32; copy all of its 32 bytes in base58",
        ),
        (MINIMAL + f"[Peers]\ncom.a {OURS.reveal()} [ping]\n", f"test.conf:7: {TOO_LONG}"),
        (
            MINIMAL + "[ Pears ]\nfoo\n",
            "test.conf:7: a line in an unknown section; put it under [ Identities ] or [ Peers ]",
        ),
        ("destination: Z\udcfcrich\n" + MINIMAL, "test.conf:1: not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_mend(text, message):
    assert rejection(text) == message


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "colour: blue\n" + MINIMAL,
            (
                "test.conf:1: unknown key 'colour' is ignored;"
                " known are server, credentials, subject, default_identity, destination, allow_skew"
            ),
        ),
        (
            "hello\n" + MINIMAL,
            "test.conf:1: the line is ignored; write key: value, or a section such as [ Identities ]",
        ),
        (
            ": b\n" + MINIMAL,
            "test.conf:1: the line is ignored; write key: value, or a section such as [ Identities ]",
        ),
        ("subject:\n" + MINIMAL, "test.conf:1: subject is empty and ignored; write a value or delete the line"),
        (
            "destination: x\n" + MINIMAL,
            "test.conf:4: destination stands in line 1 too; this one counts, delete the other",
        ),
        (
            MINIMAL + f"[Peers]\na {OTHER.public} [a]\nb {OTHER.public} [b]\n",
            "test.conf:8: the key of this peer stands in line 7 too, which counts; delete one",
        ),
        (
            MINIMAL + f"{OURS.public} {OURS.reveal()} [b]\n",
            "test.conf:6: the key of this identity stands in line 5 too, which counts; delete one",
        ),
        (MINIMAL + "[ Pears ]\n", "test.conf:6: unknown section 'pears'; write [ Identities ] or [ Peers ]"),
        (
            MINIMAL.replace("destination: d", "destination: com.*"),
            "test.conf:3: a destination holds no *, that is for patterns; write a name such as com.crypto.us.left",
        ),
        (
            MINIMAL + f"[Peers]\na,b {OTHER.public} [a]\n",
            "test.conf:7: a destination holds no comma; write one name such as com.crypto.us.left",
        ),
        (
            "allow_skew: -5s\n" + MINIMAL,
            "test.conf:1: allow_skew is negative, so nothing is ever taken; write for example 5s",
        ),
    ],
)
def test_what_is_odd_but_accepted_is_warned_about_with_its_line_and_mend(text, warning):
    assert read(text).warnings == (warning,)


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
        said = "\n".join(read(text).warnings)
    except ConfigError as error:
        said = str(error)
    assert said
    for piece in (SECRET, SECRET.lower()):
        assert piece[:20] not in said
