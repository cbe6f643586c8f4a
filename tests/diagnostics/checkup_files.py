"""What `check` finds in files: the configuration, keys, logins, TLS. For test_checkup.py."""

import base64
import json
import shutil

from remaphore.diagnostics.findings import Code, Level
from tests.factories import make_key
from tests.support.machine import Case, Machine, appended, away, days, edited, mode, original_format, peer, put
from tests.support.nats_server import TLS_FILES, write_private

ANOTHER = make_key(3)
EXPIRED_END = 1580515200  # of tests/support/tls/expired-ca.pem, 2020-02-01


def tls(machine, name="ca.pem"):
    shutil.copy(TLS_FILES / name, machine.folder / "ca.pem")
    machine.append('[tls]\nca_file = "ca.pem"\n')


def exposed_certificate(machine):
    for name in ("client.pem", "client.key"):
        shutil.copy(TLS_FILES / name, machine.folder / name)
    (machine.folder / "client.key").chmod(0o644)
    machine.append('[tls]\ncert_file = "client.pem"\nkey_file = "client.key"\n')


def new_ca(machine):
    shutil.copy(TLS_FILES / "ca.pem", machine.folder / "ca.pem")


def expired_ca(machine, *, before_end=0):
    tls(machine, "expired-ca.pem")
    machine.now = EXPIRED_END * 10**9 - before_end


def claim(machine, **claims):
    """Change what the JWT of the credentials says; nobody looks at its signature before the broker does."""
    text = machine.creds.read_text()
    token = text.splitlines()[1]
    head, body, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    machine.creds.write_text(text.replace(token, f"{head}.{forged}.{signature}"))


def garble(machine):
    text = machine.creds.read_text()
    machine.creds.write_text(text.replace(text.splitlines()[1].split(".")[1], "abcd"))


def exposed_login(machine):
    original_format(machine)
    machine.creds.chmod(0o644)


def password(machine):
    write_private(machine.folder / "password", "secret")
    machine.edit('credentials = "remaphore.creds"', "")
    machine.edit("nats://127.0.0.1:1", "nats://broker.example:4222")
    machine.append('[auth]\nuser = "ops"\npassword_file = "password"\n')


CASES = [
    Case(
        Code.CONFIGURATION_ODD,
        Level.WARNING,
        appended(peer("com.three", make_key(2))),
        edited(peer("com.three", make_key(2)), ""),
        "peers[1].key: the same as peers[0].key, which counts; hint: delete one",
    ),
    Case(
        Code.FILE_WRITABLE,
        Level.ERROR,
        mode(lambda machine: machine.config, 0o646),
        None,
        "everybody can change what is there (mode 0646); hint: chmod go-w",
    ),
    Case(
        Code.FILE_WRITABLE,
        Level.WARNING,
        mode(lambda machine: machine.config, 0o664),
        None,
        "can change what is there (mode 0664); hint: chmod g-w",
    ),
    Case(
        Code.FILE_WRITABLE,
        Level.ERROR,
        put(lambda machine: machine.folder / "peers.d" / "three.toml", peer("com.three", ANOTHER), 0o666),
        None,
        "three.toml: everybody can change what is there",
    ),
    Case(
        Code.DIRECTORY_WRITABLE,
        Level.ERROR,
        mode(lambda machine: machine.folder, 0o757),
        None,
        "everybody can change what is there (mode 0757); hint: chmod go-w",
    ),
    Case(
        Code.KEY_UNUSABLE,
        Level.ERROR,
        mode(lambda machine: machine.key, 0o644),
        None,
        "others can read it (mode 0644); hint: chmod go-w,o-r",
    ),
    Case(
        Code.KEY_UNUSABLE,
        Level.ERROR,
        away(lambda machine: machine.key),
        lambda machine: write_private(machine.key, make_key(1).reveal()),
        "no such file; hint: check the name, or write the file",
    ),
    Case(
        Code.KEY_UNUSABLE,
        Level.ERROR,
        lambda machine: write_private(machine.key, ANOTHER.reveal()),
        lambda machine: machine.edit(make_key(1).public, ANOTHER.public),
        f"the private key belongs to {ANOTHER.public}, not to this identity; hint: put the two together",
    ),
    Case(
        Code.LOGIN_NONE,
        Level.NOTE,
        edited('credentials = "remaphore.creds"', 'auth = "none"'),
        edited('auth = "none"', 'credentials = "remaphore.creds"'),
        "without a login",
    ),
    Case(
        Code.LOGIN_UNUSABLE,
        Level.ERROR,
        mode(lambda machine: machine.creds, 0o604),
        None,
        "others can read it (mode 0604); hint: chmod go-w,o-r",
    ),
    Case(
        Code.LOGIN_UNUSABLE,
        Level.ERROR,
        lambda machine: machine.creds.write_text("no creds\n"),
        Machine.login,
        "not a credentials file: no line BEGIN NATS USER JWT; hint: get a new credentials file",
    ),
    Case(Code.LOGIN_EXPOSED, Level.WARNING, exposed_login, None, "others can read it (mode 0644); hint: chmod"),
    Case(Code.LOGIN_GARBLED, Level.ERROR, garble, Machine.login, "its JWT cannot be read; hint: get new credentials"),
    Case(
        Code.LOGIN_MISMATCH,
        Level.ERROR,
        lambda machine: claim(machine, sub="UABC"),
        Machine.login,
        "its JWT is of another user than its seed",
    ),
    Case(
        Code.LOGIN_EXPIRED,
        Level.ERROR,
        lambda machine: machine.login(expires=1_700_000_000),
        Machine.login,
        "the login expired at 2023-11-14 22:13 UTC; hint: get new credentials",
    ),
    Case(
        Code.LOGIN_EXPIRES_SOON,
        Level.WARNING,
        lambda machine: machine.login(expires=(machine.now + days(3)) // 10**9),
        lambda machine: machine.login(expires=(machine.now + days(90)) // 10**9),
        "in 3.0 days",
    ),
    Case(
        Code.LOGIN_TOO_EARLY,
        Level.ERROR,
        lambda machine: claim(machine, nbf=2_000_000_000),
        lambda machine: setattr(machine, "now", 2_000_000_000 * 10**9),
        "not valid before the Unix time 2000000000; hint: wait, or set this machine's clock",
    ),
    Case(
        Code.LOGIN_CLEAR_TEXT,
        Level.WARNING,
        password,
        edited("nats://broker.example", "tls://broker.example"),
        "the password may go over the network in clear text; hint: write tls://",
    ),
    Case(
        Code.TLS_UNUSABLE,
        Level.ERROR,
        appended('[tls]\nca_file = "ca.pem"\n'),
        new_ca,
        "tls.ca_file",
    ),
    Case(
        Code.TLS_UNUSABLE,
        Level.ERROR,
        exposed_certificate,
        None,
        "tls.key_file: others can read it (mode 0644); hint: chmod go-w,o-r",
    ),
    Case(Code.TLS_EXPIRED, Level.ERROR, expired_ca, new_ca, "the CA expired at 2020-02-01 00:00 UTC"),
    Case(
        Code.TLS_EXPIRES_SOON,
        Level.WARNING,
        lambda machine: expired_ca(machine, before_end=days(2)),
        new_ca,
        "the CA expires at 2020-02-01 00:00 UTC, in 2.0 days",
    ),
]
