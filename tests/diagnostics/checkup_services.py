"""Cases of `check` about peers, plugins, handlers, the ledger and systemd units. For test_checkup.py."""

import shutil
import sqlite3

from remaphore.config import peer_line
from remaphore.diagnostics.findings import Code, Level
from remaphore.receiving.ledger.store import Store
from tests.harness.factories import make_key
from tests.harness.machine import (
    UNIT,
    Case,
    appended,
    days,
    deleted,
    edited,
    legacy_format,
    mode,
    peer,
    type_in,
    written,
)

ANOTHER = make_key(3)
WITHOUT_PEERS = peer("com.two", make_key(2))
PING = '"com.two"\nkey = "' + make_key(2).public + '"\nverbs = ["ping"]'
UNPERMITTED = PING.replace('"ping"', "")


def ledger(machine, *, now=None, version=None):
    path = machine.state / "ledger.sqlite3"
    Store(path, now=machine.now if now is None else now).close()
    if version is not None:
        database = sqlite3.connect(path)
        database.execute(f"PRAGMA user_version = {version}")
        database.close()


def blocked_state(machine):
    shutil.rmtree(machine.folder / "state")
    (machine.folder / "state").write_text("not a directory")


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
    machine.unit.unlink()  # as `systemctl unmask` does, which would change the system that the tests run on


def add_peer(machine):
    line = peer_line.write(destination="com.two", key=make_key(2).public)
    type_in(f"remaphore peer add -c {machine.config} --verbs ping '{line}'")


def convert(machine):
    machine.config.with_suffix(".toml").unlink()
    command = machine.found(Code.PEERS_LEGACY)[0].hint.partition(",")[0]
    type_in(f"cd {machine.folder} && {command}")
    machine.config = machine.config.with_suffix(".toml")
    machine.edit('compatibility = "legacy"\n', "")


CASES = [
    Case(
        Code.NO_PEERS,
        Level.WARNING,
        edited(WITHOUT_PEERS, ""),
        add_peer,
        "no peers configured: every message is dropped and requests have no recipients; hint: remaphore peer add -c ",
    ),
    Case(
        Code.NO_PEERS,
        Level.WARNING,
        lambda machine: (legacy_format(machine), machine.edit(f"com.two {make_key(2).public} [ping]\n", "")),
        appended(f"com.two {make_key(2).public} [ping]\n"),
        "add a line DESTINATION PUBLICKEY [verb,...] under [ Peers ]",
    ),
    Case(
        Code.NO_PERMITTED_VERBS,
        Level.WARNING,
        edited(PING, UNPERMITTED),
        edited(UNPERMITTED, PING),
        "no peer is permitted any verb: every message is dropped",
    ),
    Case(
        Code.PEER_HAS_OUR_KEY,
        Level.ERROR,
        appended(peer("com.three", make_key(1))),
        edited(peer("com.three", make_key(1)), peer("com.three", ANOTHER)),
        "peers[1]: com.three has our own key",
    ),
    Case(
        Code.PEER_SEVERAL_KEYS,
        Level.NOTE,
        appended(peer("com.two", ANOTHER)),
        edited(peer("com.two", ANOTHER), ""),
        "peers[1]: com.two has 2 keys",
    ),
    Case(
        Code.PEERS_LEGACY,
        Level.NOTE,
        edited(PING, PING + '\ncompatibility = "legacy"'),
        edited('\ncompatibility = "legacy"', ""),
        "run the Go implementation, so their replies need not name the request: com.two",
    ),
    Case(
        Code.PEERS_LEGACY,
        Level.NOTE,
        legacy_format,
        convert,
        "legacy .conf format: all peers count as running the Go implementation",
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
        "plugins.metrics.listen: not an IP address and a port; hint: write an address such as 127.0.0.1:9617",
    ),
    Case(
        Code.PLUGIN_UNUSABLE,
        Level.ERROR,
        appended("[plugins.nosuch]\n"),
        edited("[plugins.nosuch]\n", ""),
        "plugin nosuch: plugin 'nosuch' is not installed",
    ),
    Case(
        Code.PLUGIN_UNUSABLE,
        Level.ERROR,
        appended("[plugins.metrics]\nfoo = 1\n"),
        edited("foo = 1\n", ""),
        ": plugins.metrics.foo: unknown key; hint: known keys: listen ",
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
        "and then: chmod go-w",
    ),
    Case(
        Code.HANDLER_CANNOT_START,
        Level.ERROR,
        written(lambda machine: machine.handler, "#!/bin/sh\r\n"),
        None,
        "ping: 10-hello: its lines end in CR LF",
    ),
    Case(
        Code.HANDLER_SKIPPED,
        Level.WARNING,
        written(lambda machine: machine.handler.with_name("20-more"), "#!/bin/sh\n", 0o644),
        None,
        "ping: 20-more: not executable; hint: chmod +x",
    ),
    Case(
        Code.HANDLER_MASKED,
        Level.NOTE,
        written(lambda machine: machine.handler.with_name("20-more"), ""),
        deleted(lambda machine: machine.handler.with_name("20-more")),
        "ping: 20-more: masks",
    ),
    Case(
        Code.VERB_DIRECTORY_IDLE,
        Level.WARNING,
        lambda machine: (machine.folder / "hooks.d" / "deploy").mkdir(mode=0o755),
        written(lambda machine: machine.folder / "hooks.d" / "deploy" / "10-go", "#!/bin/sh\n"),
        "deploy: its directory contains no handler that would run",
    ),
    Case(
        Code.VERB_UNHANDLED,
        Level.NOTE,
        edited('"ping"]', '"ping", "status"]'),
        written(lambda machine: machine.folder / "hooks.d" / "status" / "10-go", "#!/bin/sh\n"),
        "status: peers may send this verb, but it has no handler: requests are answered with 127",
    ),
    Case(
        Code.STATE_UNUSABLE,
        Level.ERROR,
        mode(lambda machine: machine.state.parent, 0o777),
        None,
        "state: writable by others; hint: look at ",
    ),
    Case(
        Code.STATE_UNUSABLE,
        Level.ERROR,
        lambda machine: (machine.state.rmdir(), machine.state.write_text("")),
        None,
        "state/main: not a directory; hint: mv",
    ),
    Case(
        Code.STATE_UNUSABLE,
        Level.ERROR,
        blocked_state,
        lambda machine: machine.edit('state_dir = "state"', 'state_dir = "elsewhere"'),
        "cannot be created in",
    ),
    Case(
        Code.LEDGER_DAMAGED,
        Level.ERROR,
        lambda machine: (machine.state / "ledger.sqlite3").write_bytes(b"no ledger" * 1000),
        lambda machine: type_in(machine.found(Code.LEDGER_DAMAGED)[0].hint.partition("run: ")[2]),
        "file is not a database",
    ),
    Case(
        Code.LEDGER_NEWER,
        Level.ERROR,
        lambda machine: ledger(machine, version=99),
        lambda machine: type_in(machine.found(Code.LEDGER_NEWER)[0].hint.partition("run: ")[2]),
        "created by a newer remaphore (schema 99",
    ),
    Case(
        Code.LEDGER_AHEAD,
        Level.ERROR,
        lambda machine: ledger(machine, now=machine.now + days(1)),
        lambda machine: setattr(machine, "now", machine.now + days(1)),
        "drops messages signed within the next 86400 s: this clock is behind, or was ahead; hint: set the clock",
    ),
    Case(Code.UNIT_MASKED, Level.NOTE, mask, unmask, "masked: systemd does not start it; hint: systemctl unmask"),
    Case(
        Code.UNIT_UNREADABLE,
        Level.ERROR,
        lambda machine: machine.unit.write_bytes(b"[Unit]\nDescription=\xff\n"),
        lambda machine: machine.unit.write_text(UNIT.read_text(encoding="utf-8"), encoding="utf-8"),
        "not UTF-8; hint: save it as UTF-8",
    ),
    Case(
        Code.UNIT_COMMAND,
        Level.ERROR,
        unit("/usr/bin/remaphore", "/opt/remaphore/bin/remaphore"),
        unit("/opt/remaphore/bin/remaphore", "/usr/bin/remaphore"),
        "ExecStart names /opt/remaphore/bin/remaphore, which does not exist",
    ),
    Case(
        Code.UNIT_COMMAND,
        Level.ERROR,
        unit("remaphore run", "remaphore run -c /etc/remaphore/other.toml --hooks=/srv/hooks.d"),
        unit("-c /etc/remaphore/other.toml --hooks=/srv/hooks.d", ""),
        "ExecStart names /etc/remaphore/other.toml, which does not exist",
    ),
    Case(
        Code.UNIT_COMMAND,
        Level.ERROR,
        unit("remaphore run", "remaphore broker --tls-key=/etc/remaphore-broker/tls.key"),
        unit("remaphore broker --tls-key=/etc/remaphore-broker/tls.key", "remaphore run"),
        "ExecStart names /etc/remaphore-broker/tls.key, which does not exist",
    ),
    Case(
        Code.UNIT_COMMAND,
        Level.ERROR,
        unit("ExecStart=", "#ExecStart="),
        unit("#ExecStart=", "ExecStart="),
        "no ExecStart: it starts nothing",
    ),
    Case(
        Code.UNIT_TYPE,
        Level.WARNING,
        unit("Type=notify", "Type=simple"),
        unit("Type=simple", "Type=notify"),
        "no Type=notify: systemd considers it started even if it fails",
    ),
]
