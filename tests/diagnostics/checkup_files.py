"""Cases of `check` about files: the configuration, keys, credentials, TLS. For test_checkup.py."""

import base64
import json
import shutil

from remaphore.diagnostics.findings import Code, Level
from tests.harness.factories import make_key
from tests.harness.machine import Case, Machine, appended, days, deleted, edited, legacy_format, mode, peer, written
from tests.harness.nats_server import TLS_FILES
from tests.harness.node_files import write_private

ANOTHER = make_key(3)
EXPIRED_END = 1580515200  # of tests/harness/tls/expired-ca.pem, 2020-02-01


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
    """Change claims of the JWT of the credentials; only the broker verifies its signature."""
    text = machine.creds.read_text()
    token = text.splitlines()[1]
    head, body, signature = token.split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
    forged = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
    machine.creds.write_text(text.replace(token, f"{head}.{forged}.{signature}"))


def malform(machine):
    text = machine.creds.read_text()
    machine.creds.write_text(text.replace(text.splitlines()[1].split(".")[1], "abcd"))


def exposed_credentials(machine):
    legacy_format(machine)
    machine.creds.chmod(0o644)


def password(machine):
    write_private(machine.folder / "password", "secret")
    machine.edit('credentials = "remaphore.creds"', "")
    machine.edit("nats://127.0.0.1:1", "nats://broker.example.com:4222")
    machine.append('[auth]\nuser = "ops"\npassword_file = "password"\n')


def agent_rule(verbs='["deploy"]', to='["com.two"]', who='user = "daemon"'):
    return f'[[agent.allow]]\n{who}\ndo = ["send"]\nverbs = {verbs}\nto = {to}\n'


CASES = [
    Case(
        Code.AGENT_RULE_BROAD,
        Level.WARNING,
        appended(agent_rule('["*"]', '["**"]')),
        edited('to = ["**"]', 'to = ["com.two.*"]'),
        "agent.allow[0]: user daemon may send every verb to every destination",
    ),
    Case(
        Code.AGENT_RULE_BROAD,
        Level.WARNING,
        appended(agent_rule('["*", "deploy"]', '["com.two", "*.**"]', "group = 0")),
        edited("group = 0", 'user = "root"'),
        "agent.allow[0]: group 0 may send every verb to every destination",
    ),
    Case(
        Code.AGENT_RULE_IDLE,
        Level.WARNING,
        appended(agent_rule(who='group = "no-such-group"')),
        edited('group = "no-such-group"', "group = 7"),
        "no group 'no-such-group' on this machine; the rule permits nothing; hint: create it",
    ),
    Case(
        Code.AGENT_RULE_IDLE,
        Level.WARNING,
        appended(agent_rule(who="user = 65534")),
        edited("user = 65534", "user = 65533"),
        "uid 65534 stands for all that have no mapping",
    ),
    Case(
        Code.AGENT_SOCKET_UNKNOWN,
        Level.ERROR,
        appended('[agent]\nsocket = "/srv/agent.sock"\n' + agent_rule()),
        edited('socket = "/srv/agent.sock"\n', ""),
        "agent.socket: no client looks at /srv/agent.sock",
    ),
    Case(Code.AGENT_OK, Level.OK, appended(agent_rule()), edited(agent_rule(), ""), "agent: rules for local users: 1"),
    Case(
        Code.CONFIGURATION_WARNING,
        Level.WARNING,
        appended(peer("com.three", make_key(2))),
        edited(peer("com.three", make_key(2)), ""),
        "peers[1].key: repeats peers[0].key, which takes precedence; hint: delete one of the two",
    ),
    Case(
        Code.FILE_WRITABLE,
        Level.ERROR,
        mode(lambda machine: machine.config, 0o646),
        None,
        "writable by others; hint: look at ",
    ),
    Case(
        Code.FILE_WRITABLE,
        Level.ERROR,
        mode(lambda machine: machine.config, 0o664),
        None,
        "writable by its group; hint: look at ",
    ),
    Case(
        Code.FILE_WRITABLE,
        Level.ERROR,
        written(lambda machine: machine.folder / "peers.d" / "three.toml", peer("com.three", ANOTHER), 0o666),
        None,
        "three.toml: writable by others",
    ),
    Case(
        Code.DIRECTORY_WRITABLE,
        Level.ERROR,
        mode(lambda machine: machine.folder, 0o757),
        None,
        "writable by others; hint: look at ",
    ),
    Case(
        Code.DIRECTORY_WRITABLE,
        Level.ERROR,
        written(lambda machine: machine.folder / "peers.d" / "three.toml", peer("com.three", ANOTHER), 0o644, 0o1777),
        lambda machine: (machine.folder / "peers.d").chmod(0o755),
        "peers.d: writable by others; hint: look at ",
    ),
    Case(
        Code.FILE_LEFT_BEHIND,
        Level.NOTE,
        lambda machine: (machine.folder / ".remaphore-x.tmp").touch(),
        deleted(lambda machine: machine.folder / ".remaphore-x.tmp"),
        "that was killed while it wrote; hint: if no remaphore command is running: rm ",
    ),
    Case(
        Code.KEY_UNUSABLE,
        Level.ERROR,
        mode(lambda machine: machine.key, 0o644),
        None,
        "others can read it (mode 0644); hint: chmod 0600 ",
    ),
    Case(
        Code.KEY_UNUSABLE,
        Level.ERROR,
        deleted(lambda machine: machine.key),
        lambda machine: write_private(machine.key, make_key(1).reveal()),
        "no such file; hint: check the name of the file",
    ),
    Case(
        Code.KEY_UNUSABLE,
        Level.ERROR,
        lambda machine: write_private(machine.key, ANOTHER.reveal()),
        lambda machine: machine.edit(make_key(1).public, ANOTHER.public),
        f"the private key belongs to {ANOTHER.public}, not to this identity; hint: pair each public key with its own",
    ),
    Case(
        Code.CREDENTIALS_NONE,
        Level.NOTE,
        edited('credentials = "remaphore.creds"', 'auth = "none"'),
        edited('auth = "none"', 'credentials = "remaphore.creds"'),
        "no broker credentials: anyone who can reach the broker can read",
    ),
    Case(
        Code.CREDENTIALS_UNUSABLE,
        Level.ERROR,
        mode(lambda machine: machine.creds, 0o604),
        None,
        "others can read it (mode 0604); hint: chmod 0600 ",
    ),
    Case(
        Code.CREDENTIALS_UNUSABLE,
        Level.ERROR,
        lambda machine: machine.creds.write_text("no creds\n"),
        Machine.login,
        "not a credentials file: no line BEGIN NATS USER JWT; hint: get a new credentials file",
    ),
    Case(
        Code.CREDENTIALS_EXPOSED,
        Level.WARNING,
        exposed_credentials,
        None,
        "others can read it (mode 0644); hint: chmod",
    ),
    Case(
        Code.CREDENTIALS_MALFORMED,
        Level.ERROR,
        malform,
        Machine.login,
        "JWT cannot be decoded; hint: get new credentials",
    ),
    Case(
        Code.CREDENTIALS_MISMATCH,
        Level.ERROR,
        lambda machine: claim(machine, sub="UABC"),
        Machine.login,
        "JWT and seed belong to different users",
    ),
    Case(
        Code.CREDENTIALS_EXPIRED,
        Level.ERROR,
        lambda machine: machine.login(expires=1_700_000_000),
        Machine.login,
        "login expired at 2023-11-14 22:13 UTC; hint: get new credentials",
    ),
    Case(
        Code.CREDENTIALS_EXPIRE_SOON,
        Level.WARNING,
        lambda machine: machine.login(expires=(machine.now + days(3)) // 10**9),
        lambda machine: machine.login(expires=(machine.now + days(90)) // 10**9),
        "in 3.0 days",
    ),
    Case(
        Code.CREDENTIALS_NOT_YET_VALID,
        Level.ERROR,
        lambda machine: claim(machine, nbf=2_000_000_000),
        lambda machine: setattr(machine, "now", 2_000_000_000 * 10**9),
        "login is not valid before 2033-05-18 03:33 UTC; hint: wait, or set this machine's clock",
    ),
    Case(
        Code.CREDENTIALS_CLEAR_TEXT,
        Level.WARNING,
        password,
        edited("nats://broker.example.com", "tls://broker.example.com"),
        "password may be sent in clear text; hint: write tls://",
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
        "tls.key_file: others can read it (mode 0644); hint: chmod 0600 ",
    ),
    Case(Code.TLS_EXPIRED, Level.ERROR, expired_ca, new_ca, "CA certificate expired at 2020-02-01 00:00 UTC"),
    Case(
        Code.TLS_EXPIRES_SOON,
        Level.WARNING,
        lambda machine: expired_ca(machine, before_end=days(2)),
        new_ca,
        "CA certificate expires at 2020-02-01 00:00 UTC, in 2.0 days",
    ),
]
