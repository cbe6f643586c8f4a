"""Every finding of `check`: provoked on a machine that was sound, mended as it says, and then gone."""

import os
import shutil
import sys
import time

import pytest

from remaphore.diagnostics.clock import check_clock
from remaphore.diagnostics.findings import Code, Level, from_error, to_line
from remaphore.errors import ConfigError
from remaphore.receiving.ledger.store import Store
from tests.diagnostics import checkup_files, checkup_services
from tests.support.machine import Machine, bad, days, type_in

STRANGER = 4242  # a uid that is not ours


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_machine_that_is_set_up_has_no_errors_and_no_warnings(machine):
    found = machine.findings()
    assert bad(found) == []
    assert {finding.code for finding in found if finding.level is Level.OK} >= {
        Code.CONFIGURATION_OK,
        Code.KEY_OK,
        Code.LOGIN_OK,
        Code.PEERS_OK,
        Code.PLUGINS_OK,
        Code.HANDLERS_OK,
        Code.STATE_OK,
        Code.UNIT_OK,
    }


def test_nothing_is_changed_by_looking(machine):
    machine.findings()
    before = {path: path.stat().st_mtime_ns for path in machine.folder.rglob("*")}
    machine.findings()
    assert {path: path.stat().st_mtime_ns for path in machine.folder.rglob("*")} == before


CASES = [*checkup_files.CASES, *checkup_services.CASES]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.code}-{number}" for number, case in enumerate(CASES)])
def test_each_finding_is_provoked_mended_as_it_says_and_then_gone(machine, case):
    case.provoke(machine)
    found = machine.found(case.code)
    assert found, machine.findings()
    assert found[0].level is case.level
    assert case.says in to_line(found[0])
    if case.hint is None:
        type_in(found[0].hint)
    else:
        case.hint(machine)
    assert machine.found(case.code) == []
    assert bad(machine.findings()) == []


def test_no_kind_of_finding_goes_unprovoked():
    elsewhere = {Code.CONFIGURATION_UNUSABLE, Code.DAEMON_RUNNING, Code.CLOCK_UNKEPT}  # below, and in tests/e2e
    sound = {code for code in Code if code.endswith("-ok")}
    online = set(list(Code)[list(Code).index(Code.SERVER_UNREACHABLE) :])
    assert {case.code for case in CASES} | elsewhere == set(Code) - sound - online


def test_a_clock_that_no_service_keeps_is_a_note_and_one_that_is_kept_is_none():
    (finding,) = check_clock(False)
    assert (finding.level, finding.code, finding.hint) == (Level.NOTE, Code.CLOCK_UNKEPT, "timedatectl set-ntp true")
    assert [found.code for found in check_clock(True)] == [Code.CLOCK_OK]
    assert list(check_clock(None)) == []


def test_a_plugin_without_its_extra_is_named_with_the_command_that_installs_it(machine, monkeypatch):
    machine.append('[plugins]\nenable = ["metrics"]\n')
    assert machine.found(Code.PLUGIN_UNUSABLE) == []
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "prometheus_client", None)
        patch.delitem(sys.modules, "remaphore_plugins.metrics.collector")
        (finding,) = machine.found(Code.PLUGIN_UNUSABLE)
    assert (finding.where, finding.hint) == ("plugin metrics", "pip install 'remaphore[metrics]'")


def test_a_plugin_that_acts_on_a_verb_is_enough(machine):
    machine.edit('"ping"]', '"ping", "permissions"]')
    (finding,) = machine.found(Code.VERB_UNHANDLED)
    assert finding.hint.startswith('write enable = ["permissions"] under [plugins]')
    machine.append('[plugins]\nenable = ["permissions"]\n')
    assert machine.found(Code.VERB_UNHANDLED) == []


def test_a_link_is_followed_to_the_directory_that_can_be_changed(machine):
    open_to_all = machine.folder / "open"
    open_to_all.mkdir()
    machine.key.rename(open_to_all / "ops.key")
    machine.key.symlink_to(open_to_all / "ops.key")
    open_to_all.chmod(0o777)
    (finding,) = machine.found(Code.DIRECTORY_WRITABLE)
    assert finding.where == str(open_to_all)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_is_an_error(machine):
    os.chown(machine.config, STRANGER, STRANGER)
    (finding,) = machine.found(Code.FILE_WRITABLE)
    assert (finding.level, f"uid {STRANGER}" in finding.what) == (Level.ERROR, True)
    type_in(finding.hint)
    assert machine.found(Code.FILE_WRITABLE) == []


def test_a_drop_in_of_the_unit_counts(machine):
    folder = machine.unit.with_name("remaphore.service.d")
    folder.mkdir()
    (folder / "override.conf").write_text("[Service]\nExecStart=\nExecStart=/opt/remaphore run\n")
    (finding,) = machine.found(Code.UNIT_PATH)
    assert "/opt/remaphore" in finding.what


def test_a_unit_of_the_administrator_hides_the_one_that_came_with_the_system(machine):
    vendor = machine.root / "usr/lib/systemd/system/remaphore.service"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("[Service]\nExecStart=/gone\n")
    assert bad(machine.findings()) == []
    machine.unit.unlink()
    assert machine.found(Code.UNIT_PATH)


def test_a_ledger_that_is_being_written_is_read_without_disturbing_it(machine):
    store = Store(machine.state / "ledger.sqlite3", now=time.time_ns())
    assert bad(machine.findings()) == []
    store.apply([("INSERT INTO senders VALUES ('k', 1)", ())])
    assert bad(machine.findings()) == []
    store.close()


def test_a_ledger_that_a_crash_left_is_read_and_left_as_it_is(machine, tmp_path):
    (tmp_path / "alive").mkdir()
    store = Store(tmp_path / "alive" / "ledger.sqlite3", now=machine.now)
    store.apply([("INSERT INTO senders VALUES ('k', 1)", ())])
    for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
        shutil.copy(tmp_path / "alive" / name, machine.state / name)
    store.close()
    before = {path.name: path.read_bytes() for path in machine.state.glob("ledger.sqlite3*")}
    assert bad(machine.findings()) == []
    assert {name: (machine.state / name).read_bytes() for name in before} == before


def test_a_ledger_that_refuses_one_sender_for_longer_than_the_others_is_ahead(machine):
    store = Store(machine.state / "ledger.sqlite3", now=machine.now)
    store.apply([("INSERT INTO senders VALUES ('k', ?)", (machine.now + days(1),))])
    store.close()
    assert machine.found(Code.LEDGER_AHEAD)


def test_a_state_directory_that_is_not_there_yet_is_fine_and_is_not_made(machine):
    shutil.rmtree(machine.folder / "state")
    assert bad(machine.findings()) == []
    assert not (machine.folder / "state").exists()


def test_a_ping_needs_no_handler(machine):
    shutil.rmtree(machine.folder / "hooks.d" / "ping")
    assert machine.found(Code.VERB_UNHANDLED) == []


def test_without_any_hooks_the_mend_names_the_administrators(machine):
    machine.edit('hooks = ["hooks.d"]\n', "")
    machine.edit('"ping"]', '"ping", "status"]')
    (finding,) = machine.found(Code.VERB_UNHANDLED)
    assert finding.hint.startswith("put an executable into /etc/remaphore/hooks.d/status,")


def test_no_directory_is_to_be_moved_only_because_we_may_not_write_there(machine, monkeypatch):
    machine.edit('state_dir = "state"', 'state_dir = "/nowhere/state"')
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = machine.found(Code.STATE_UNUSABLE)
    assert (finding.what, finding.hint) == ("it cannot be made in /", "set state_dir to a directory that we may write")


def test_a_user_without_a_home_is_a_finding_and_what_it_says_mends_it(machine, monkeypatch):
    machine.edit('state_dir = "state"\n', "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 2**31)  # in no list of users
    monkeypatch.delenv("HOME")
    (finding,) = machine.found(Code.STATE_UNUSABLE)
    assert finding.hint == "set state_dir in the configuration, or HOME"
    monkeypatch.setenv("HOME", str(machine.folder))
    assert [found.hint for found in machine.found(Code.STATE_UNUSABLE)] != [finding.hint]


@pytest.mark.parametrize(
    ("where", "text", "expected"),
    [
        ("f", "f: wrong; hint this; and that", ("f", "wrong", "hint this; and that")),
        ("f", "f:3: not UTF-8; save it", ("f:3", "not UTF-8", "save it")),
        ("f", "f: named by a; b: open; hint: chmod 600 f", ("f", "named by a; b: open", "chmod 600 f")),
        ("f", "fg: wrong", ("f", "fg: wrong", "ours")),
    ],
)
def test_an_error_is_told_once_with_its_place_and_its_mend(where, text, expected):
    finding = from_error(Code.KEY_UNUSABLE, where, ConfigError(text), hint="ours")
    assert (finding.where, finding.what, finding.hint) == expected
