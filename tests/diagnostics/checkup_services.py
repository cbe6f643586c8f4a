"""What `check` finds beside files: peers, plugins, handlers, the ledger, systemd's unit. For test_checkup.py."""

import os
import shutil
import sqlite3

from remaphore.config import peer_line
from remaphore.diagnostics.findings import Code, Level
from remaphore.receiving.ledger.store import Store
from tests.factories import make_key
from tests.support.machine import UNIT, Case, appended, away, days, edited, mode, original_format, peer, put, type_in

ANOTHER = make_key(3)
STRANGER = 4242  # a uid that is not ours
WITHOUT_PEERS = peer("com.two", make_key(2))
PING = '"com.two"\nkey = "' + make_key(2).public + '"\nverbs = ["ping"]'
MUTE = PING.replace('"ping"', "")


def ledger(machine, *, now=None, version=None):
    path = machine.state / "ledger.sqlite3"
    Store(path, now=machine.now if now is None else now).close()
    if version is not None:
        database = sqlite3.connect(path)
        database.execute(f"PRAGMA user_version = {version}")
        database.close()


def not_ours(path):
    """Root may write everywhere, so there it is the owner who is another."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    else:
        path.chmod(0o500)


def unmade_state(machine):
    shutil.rmtree(machine.folder / "state")
    (machine.folder / "state").write_text("in the way")


def unit(old, new):
    def edit(machine):
        text = machine.unit.read_text()
        assert old in text
        machine.unit.write_text(text.replace(old, new))

    return edit


def mask(machine):
    machine.unit.unlink()
    machine.unit.symlink_to("/dev/null")


def unmask(machine):
    machine.unit.unlink()  # what `systemctl unmask` does; the system that it would do it to is not this one


def add_peer(machine):
    line = peer_line.write(destination="com.two", key=make_key(2).public)
    type_in(f"remaphore peer add -c {machine.config} --verbs ping '{line}'")


def convert(machine):
    machine.config.with_suffix(".toml").unlink()
    command = machine.found(Code.PEERS_ORIGINAL)[0].hint.partition(",")[0]
    type_in(f"cd {machine.folder} && {command}")
    machine.config = machine.config.with_suffix(".toml")
    machine.edit('compatibility = "legacy"\n', "")


CASES = [
    Case(
        Code.NOBODY_KNOWN,
        Level.WARNING,
        edited(WITHOUT_PEERS, ""),
        add_peer,
        "nobody is known: no message is taken, and nobody can be asked; hint: remaphore peer add -c ",
    ),
    Case(
        Code.NOBODY_KNOWN,
        Level.WARNING,
        lambda machine: (original_format(machine), machine.edit(f"com.two {make_key(2).public} [ping]\n", "")),
        appended(f"com.two {make_key(2).public} [ping]\n"),
        "add a line DESTINATION PUBLICKEY [verb,...] under [ Peers ]",
    ),
    Case(
        Code.NOBODY_PERMITTED,
        Level.WARNING,
        edited(PING, MUTE),
        edited(MUTE, PING),
        "no peer may send us anything",
    ),
    Case(
        Code.PEER_HAS_OUR_KEY,
        Level.ERROR,
        appended(peer("com.three", make_key(1))),
        edited(peer("com.three", make_key(1)), peer("com.three", ANOTHER)),
        "peers[1]: com.three is listed with our own key",
    ),
    Case(
        Code.PEER_IS_US,
        Level.NOTE,
        appended(peer("com.one", make_key(1))),
        edited(peer("com.one", make_key(1)), ""),
        "this node itself is among its peers",
    ),
    Case(
        Code.PEER_HAS_KEYS,
        Level.NOTE,
        appended(peer("com.two", ANOTHER)),
        edited(peer("com.two", ANOTHER), ""),
        "peers[1]: com.two has 2 keys",
    ),
    Case(
        Code.PEERS_ORIGINAL,
        Level.NOTE,
        edited(PING, PING + '\ncompatibility = "legacy"'),
        edited('\ncompatibility = "legacy"', ""),
        "taken to run the original, so that their replies need not name the request: com.two",
    ),
    Case(
        Code.PEERS_ORIGINAL,
        Level.NOTE,
        original_format,
        convert,
        "in the original's format all peers count as running the original",
    ),
    Case(
        Code.PLUGIN_UNUSABLE,
        Level.ERROR,
        appended('[plugins]\nenable = ["nosuch"]\n'),
        edited('"nosuch"', ""),
        "plugin nosuch: plugin 'nosuch' is not installed (installed: ",
    ),
    Case(
        Code.PLUGIN_UNUSABLE,
        Level.ERROR,
        appended('[plugins]\nenable = ["metrics"]\n[plugins.metrics]\nlisten = "9617"\n'),
        edited('"9617"', '"127.0.0.1:9617"'),
        "listen is not an IP address and a port; hint: write one such as 127.0.0.1:9617",
    ),
    Case(
        Code.HOOKS_MISSING,
        Level.WARNING,
        edited('"hooks.d"', '"hooks.d", "more.d"'),
        None,
        "more.d: no such directory; hint: mkdir -p",
    ),
    Case(
        Code.HANDLER_UNSAFE,
        Level.ERROR,
        mode(lambda machine: machine.handler, 0o777),
        None,
        "hint: chmod go-w",
    ),
    Case(
        Code.HANDLER_SKIPPED,
        Level.WARNING,
        put(lambda machine: machine.handler.with_name("20-more"), "#!/bin/sh\n", 0o644),
        None,
        "ping: 20-more: not executable; hint: chmod +x",
    ),
    Case(
        Code.HANDLER_MASKED,
        Level.NOTE,
        put(lambda machine: machine.handler.with_name("20-more"), ""),
        away(lambda machine: machine.handler.with_name("20-more")),
        "ping: 20-more: masks",
    ),
    Case(
        Code.VERB_WITHOUT_HANDLER,
        Level.WARNING,
        lambda machine: (machine.folder / "hooks.d" / "deploy").mkdir(mode=0o755),
        put(lambda machine: machine.folder / "hooks.d" / "deploy" / "10-go", "#!/bin/sh\n"),
        "deploy: it has a directory, and nothing in it runs",
    ),
    Case(
        Code.VERB_UNHANDLED,
        Level.NOTE,
        edited('"ping"]', '"ping", "status"]'),
        put(lambda machine: machine.folder / "hooks.d" / "status" / "10-go", "#!/bin/sh\n"),
        "status: a peer may send it, and nothing here acts on it: a request is answered with 127",
    ),
    Case(
        Code.STATE_UNUSABLE,
        Level.ERROR,
        lambda machine: not_ours(machine.state),
        None,
        "the state directory is not ours to write; hint: chown -R",
    ),
    Case(
        Code.STATE_UNUSABLE,
        Level.ERROR,
        lambda machine: (machine.state.rmdir(), machine.state.write_text("")),
        None,
        "the state directory is no directory; hint: mv",
    ),
    Case(
        Code.STATE_UNUSABLE,
        Level.ERROR,
        unmade_state,
        lambda machine: machine.edit('state_dir = "state"', 'state_dir = "elsewhere"'),
        "it cannot be made in",
    ),
    Case(
        Code.LEDGER_DAMAGED,
        Level.ERROR,
        lambda machine: (machine.state / "ledger.sqlite3").write_bytes(b"no ledger" * 1000),
        lambda machine: type_in(machine.found(Code.LEDGER_DAMAGED)[0].hint.partition("and: ")[2]),
        "file is not a database",
    ),
    Case(
        Code.LEDGER_NEWER,
        Level.ERROR,
        lambda machine: ledger(machine, version=99),
        lambda machine: type_in(machine.found(Code.LEDGER_NEWER)[0].hint.partition("and: ")[2]),
        "made by a newer remaphore (schema 99",
    ),
    Case(
        Code.LEDGER_AHEAD,
        Level.ERROR,
        lambda machine: ledger(machine, now=machine.now + days(1)),
        lambda machine: setattr(machine, "now", machine.now + days(1)),
        "it rejects what was signed in the next 86400 s: this clock is behind, or was ahead; hint: set the clock",
    ),
    Case(Code.UNIT_MASKED, Level.NOTE, mask, unmask, "masked: it cannot be started; hint: systemctl unmask"),
    Case(
        Code.UNIT_UNREADABLE,
        Level.ERROR,
        lambda machine: machine.unit.write_bytes(b"[Unit]\nDescription=\xff\n"),
        lambda machine: machine.unit.write_text(UNIT.read_text(encoding="utf-8"), encoding="utf-8"),
        "it is not UTF-8; hint: save it as UTF-8",
    ),
    Case(
        Code.UNIT_PATH,
        Level.ERROR,
        unit("/usr/bin/remaphore", "/opt/remaphore/bin/remaphore"),
        unit("/opt/remaphore/bin/remaphore", "/usr/bin/remaphore"),
        "ExecStart names /opt/remaphore/bin/remaphore, which is not there",
    ),
    Case(
        Code.UNIT_PATH,
        Level.ERROR,
        unit("remaphore run", "remaphore run -c /etc/remaphore/other.toml --hooks=/srv/hooks.d"),
        unit("-c /etc/remaphore/other.toml --hooks=/srv/hooks.d", ""),
        "ExecStart names /etc/remaphore/other.toml, which is not there",
    ),
    Case(
        Code.UNIT_PATH,
        Level.ERROR,
        unit("ExecStart=", "#ExecStart="),
        unit("#ExecStart=", "ExecStart="),
        "it has no ExecStart",
    ),
    Case(
        Code.UNIT_TYPE,
        Level.WARNING,
        unit("Type=notify", "Type=simple"),
        unit("Type=simple", "Type=notify"),
        "without Type=notify it counts as started before it receives",
    ),
]
