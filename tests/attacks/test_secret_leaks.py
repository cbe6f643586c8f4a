"""Getting at a private key through what the programs say: errors, warnings, logs, reprs, pickles, arguments.

Attacker: a local user who sees the terminal, the journal or the process list; a peer who sees replies; anyone who gets
a report of a defect. What must happen: whatever goes wrong, no form of a seed (base58, hexadecimal, base64, an nkey),
and no password, is in any output. Not promised: processes of the daemon's user can read its files and its memory.
"""

import base64
import copy
import dataclasses
import json
import logging
import pickle
import traceback
from pathlib import Path

import pytest
import structlog

from remaphore import logs
from remaphore.cli.main import main
from remaphore.config import legacy, search, toml
from remaphore.config.settings import Auth
from remaphore.errors import ConfigError, RemaphoreError
from remaphore.messaging.signer import Signer
from remaphore.node import connect
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.keys import NatsKey, PrivateKey
from remaphore.protocol.message import Reply
from remaphore.transport import credentials
from tests.harness.factories import make_key, make_message, make_peer, make_seed

KEY = make_key(1)
NKEY = NatsKey("user")
PASSWORD = "correct-horse-battery-staple"
BOTH = bytes(make_seed(1)) + wire.keys.decode_public(KEY.public)


def forms(raw):
    encoded = base64.b64encode(raw).decode()
    return {raw.hex(), raw.hex().upper(), encoded[:40], base64.urlsafe_b64encode(raw).decode()[:40], repr(raw)[2:40]}


# Whole, and the halves: a part of a seed in an error reveals enough. The public key is not secret.
SECRETS = forms(make_seed(1)) | {KEY.reveal()[:20], KEY.reveal()[10:40], NKEY.seed[:20], NKEY.seed[20:40], PASSWORD}


def leaked(text):
    return sorted(secret for secret in SECRETS if secret in text)


def test_the_search_itself_finds_every_form():
    assert leaked(KEY.reveal()) == sorted({KEY.reveal()[:20], KEY.reveal()[10:40]})
    assert leaked(f"x {NKEY.seed} y {PASSWORD}") == sorted({NKEY.seed[:20], NKEY.seed[20:40], PASSWORD})
    for text in (BOTH.hex(), base64.b64encode(BOTH).decode(), repr(make_seed(1))):
        assert leaked(text)


CONF = """server: nats://a:4222
credentials: c
subject: remaphore
default_identity: {public}
destination: com.a
allow_skew: 5s
[ Identities ]
{public} {secret} [ping]
[ Peers ]
com.b {other} [ping]
"""
TOML = """destination = "com.a"
servers = ["nats://a:4222"]
credentials = "c"
subject = "remaphore"
allow_skew = "5s"
default_identity = "{public}"
state_dir = "s"
hooks = ["h"]
notify_rejections = true
[[identities]]
key = "{public}"
private_key_file = "k"
verbs = ["ping"]
[[peers]]
destination = "com.b"
key = "{other}"
verbs = ["ping"]
compatibility = "legacy"
[verbs.deploy]
timeout = "1m"
concurrency = 2
payload = "stdin"
[plugins]
enable = ["metrics"]
[plugins.metrics]
listen = "127.0.0.1:0"
"""


def misplaced(form):
    """Yield configurations with a secret in place of, before and after each word, and for a key of its own."""
    text = form.format(public=KEY.public, secret=KEY.reveal(), other=make_key(2).public)
    lines = text.splitlines()
    # No password: it has no form that distinguishes it from a mistyped word, and none belongs here.
    for secret in (KEY.reveal(), KEY.reveal()[:44], NKEY.seed):
        for number, line in enumerate(lines):
            for word in line.split():
                for new in (secret, f"{secret}{word}", f"{word} {secret}", f'"{secret}"', f"{secret}: x"):
                    yield "\n".join([*lines[:number], line.replace(word, new), *lines[number + 1 :]])
            yield "\n".join([*lines[:number], secret, f'{secret} = "{secret}"', f"[{secret}]", *lines[number:]])


@pytest.mark.parametrize(("form", "name"), [(CONF, "f.conf"), (TOML, "f.toml")])
def test_a_secret_in_any_wrong_place_of_a_configuration_is_in_no_error_and_no_warning(form, name, tmp_path):
    read = (
        (lambda text: legacy.parse(text, name)) if name == "f.conf" else lambda text: toml.parse(text, name, tmp_path)
    )
    said = {text: complaints(read, text) for text in misplaced(form)}
    assert [text for text, words in said.items() if leaked(words)] == []
    assert len([words for words in said.values() if "Traceback" in words]) > 100


def complaints(read, text):
    """Return all that is said about a configuration: the error with its traceback, or the warnings."""
    try:
        return "".join(part for warning in read(text).warnings for part in warning)
    except ConfigError as error:
        return "".join((*traceback.format_exception(error), error.hint))


SECRET_FILES = {
    "others can read it": (KEY.reveal(), 0o644),
    "of another identity": (make_key(1).reveal(), 0o600),
    "cut short": (KEY.reveal()[:-1], 0o600),
    "with something behind it": (KEY.reveal() + "\nand more", 0o600),
    "twice": (f"{KEY.reveal()}\n{KEY.reveal()}", 0o600),
    "wrong alphabet": (KEY.reveal()[:-1] + "0", 0o600),
    "the seed in hexadecimal": (make_seed(1).hex(), 0o600),
    "an nkey": (NKEY.seed, 0o600),
}


@pytest.mark.parametrize("case", SECRET_FILES)
def test_a_private_key_file_that_is_refused_is_not_quoted(tmp_path, case):
    text, mode = SECRET_FILES[case]
    public = make_key(2).public if case == "of another identity" else KEY.public
    file = tmp_path / "k"
    file.write_text(text)
    file.chmod(mode)
    config = toml.parse(TOML.format(public=public, other=make_key(3).public, secret=""), "f.toml", tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.identity().load()
    assert not leaked("".join(traceback.format_exception(caught.value)))


LOGINS = {
    "no jwt": ("credentials", f"-----BEGIN USER NKEY SEED-----\n{NKEY.seed}\n------END USER NKEY SEED------\n"),
    "bare seed as creds": ("credentials", NKEY.seed),
    "bad seed as creds": (
        "credentials",
        f"-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\n{NKEY.seed}x",
    ),
    "bad seed": ("nkey", NKEY.seed[:-2] + "!!"),
    "long seed": ("nkey", NKEY.seed * 2),
    "password with lines": ("password", f"{PASSWORD}\n{PASSWORD}"),
}


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("case", LOGINS)
def test_a_login_that_is_refused_is_not_quoted(tmp_path, case, mode):
    kind, text = LOGINS[case]
    file = tmp_path / "login"
    file.write_text(text)
    file.chmod(mode)
    said = []
    for lenient in (False, True):
        try:
            credentials.login(Auth(kind=kind, file=file, user="u", lenient=lenient), warn=said.extend)
        except ConfigError as error:
            said += [*traceback.format_exception(error), error.hint]
    assert not leaked("".join(said))


async def test_a_broker_that_refuses_the_login_makes_no_error_quote_it(server, tmp_path, capsys):
    logs.configure("console", level=logging.DEBUG)
    text = TOML.format(public=KEY.public, other=make_key(3).public, secret="").replace("nats://a:4222", server.url)
    logins = {
        "password": (PASSWORD, 'user = "u"\npassword_file = "p"'),
        "token": (PASSWORD, 'token_file = "p"'),
        "nkey": (NKEY.seed, 'nkey_seed_file = "p"'),
    }
    server.reload("authorization { user: other, password: different }\n")
    said = ""
    for secret, table in logins.values():
        (tmp_path / "p").write_text(secret)
        (tmp_path / "p").chmod(0o600)
        config = toml.parse(text.replace('credentials = "c"\n', "") + f"[auth]\n{table}\n", "f.toml", tmp_path)
        with pytest.raises(RemaphoreError) as caught:
            async with connect(config, timeout=5):
                pass
        said += "".join(traceback.format_exception(caught.value)) + repr(config)
    said += capsys.readouterr().err
    assert "uthorization" in said
    assert not leaked(said)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "f.conf"
    file.write_text(CONF.format(public=KEY.public, secret=KEY.reveal(), other=make_key(2).public))
    return search.load(str(file), {})


def values(config):
    """Return one of each public thing that could hold a secret, or be near one."""
    message = make_message()
    return {
        "key": KEY,
        "nkey": NKEY,
        "config": config,
        "identity": config.identity(),
        "auth": config.auth,
        "peer": make_peer(),
        "message": message,
        "reply": Reply(0, b"x"),
        "drop": Drop(DropReason.MALFORMED),
        "signer": Signer(config),
        "outgoing": Signer(config).compose("ping", to="**", payload=b""),
    }


def test_no_public_value_shows_a_secret_as_text(config):
    for name, value in values(config).items():
        shown = [repr(value), str(value), format(value), repr([value])]
        if dataclasses.is_dataclass(value):
            shown += [repr(dataclasses.replace(value)), repr(dataclasses.fields(value))]
        assert not leaked("".join(shown)), name


def pickled_or_rejected(value):
    try:
        return pickle.dumps(value)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        return str(error).encode()


def test_no_public_value_that_knows_a_key_is_pickled_or_copied_with_it(config):
    for name, value in values(config).items():
        pickled = pickled_or_rejected(value)
        assert not leaked(pickled.decode("latin-1")), name
        assert make_seed(1) not in pickled, name
    for secret in (KEY, NKEY):
        with pytest.raises(TypeError):
            copy.deepcopy(secret)
        with pytest.raises(TypeError):
            json.dumps(secret)


def test_a_traceback_in_the_log_shows_no_local_variable(config, capsys):
    for form in ("console", "json"):
        logs.configure(form, level=logging.DEBUG)
        secret = KEY.reveal()
        key = PrivateKey.from_text(secret)
        try:
            raise ValueError(f"a plugin failed with {key!r} and {config!r}")
        except ValueError:
            logging.getLogger("plugin").exception("it failed")
            structlog.get_logger().error("it_failed", config=config, key=key, exc_info=True)
    shown = capsys.readouterr().err
    assert shown.count("ValueError: a plugin failed") == 4
    assert not leaked(shown)


def test_nothing_that_the_command_line_says_quotes_a_secret(fleet):
    secret, file = KEY.reveal(), fleet.config("one", form="conf")
    said = []
    for word in ("send", "request", "receive", "run", "hooks", "plugins", "explain", "broker", "demo"):
        done = fleet.run(word, "--help")
        said += [done.stdout, done.stderr]
    lines = [
        ("-s", "-c", file, "-p", secret),
        ("-r", "-c", file, "-D", "com.absent"),
        ("-s", "-c", file, "-S", "a b"),
        ("-o", "-t", "10ms", "-c", file),
        ("run", "-c", file, "--check", "--instance", "../x"),
        ("hooks", "-c", file),
        ("plugins", "-c", file),
        ("request", "-c", file, "--to", "com.example.two", "--timeout", "100ms", "--verbose"),
    ]
    for words in lines:
        done = fleet.run(*words)
        said += [done.stdout, done.stderr.replace(secret, "as typed") if secret in words else done.stderr]
    assert not leaked("".join(said))


def test_no_secret_is_in_the_arguments_or_the_environment_of_a_running_process(fleet, nodes):
    for process in (fleet.start("-c", nodes["two"]), fleet.start("-c", fleet.config("three", form="conf"))):
        proc = Path("/proc") / str(process.popen.pid)
        for file in ("cmdline", "environ"):
            assert not leaked((proc / file).read_bytes().decode("latin-1"))


@pytest.mark.parametrize("secret", [KEY.reveal(), NKEY.seed], ids=["private key", "nkey"])
@pytest.mark.parametrize("words", ["-s -p", "-r -p", "-p", "send --from", "request --from", "receive --from"])
def test_a_private_key_given_as_a_public_one_is_not_repeated(words, secret, capsys):
    assert main([*words.split(), secret]) == 2
    shown = capsys.readouterr()
    assert leaked(shown.out + shown.err) == []
    assert "this is a" in shown.err


@pytest.mark.parametrize("words", ["explain --from", "peer show", "peer remove", "identity default", "identity remove"])
def test_a_private_key_given_as_a_peer_or_identity_is_not_repeated(words, tmp_path, capsys):
    config = tmp_path / "remaphore.toml"
    assert main(["init", "-c", str(config), "--destination", "com.example.one"]) == 0
    capsys.readouterr()
    assert main([*words.split(), KEY.reveal(), "-c", str(config)]) == 2
    shown = capsys.readouterr()
    assert leaked(shown.out + shown.err) == []
    assert "this is a private key" in shown.err
