"""Every finding of `check`: provoked on a valid setup, its hint followed, and then gone."""

import errno
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import time

import pytest

from remaphore.config import search
from remaphore.diagnostics.clock import check_clock
from remaphore.diagnostics.findings import Code, Level, to_line
from remaphore.diagnostics.state import check_state
from remaphore.extras import install_hint
from remaphore.receiving.ledger.batch import Batch, Write
from remaphore.receiving.ledger.statements import RAISE_LOW_WATER_MARK
from remaphore.receiving.ledger.store import Store
from tests.diagnostics import checkup_files, checkup_services
from tests.diagnostics.checkup_files import claim, tls
from tests.harness.factories import make_key
from tests.harness.machine import Machine, assert_hints, bad, days, peer, type_in
from tests.harness.threads import threads_allowed

OTHER_USER = 4242  # the uid of another user


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_valid_setup_has_no_errors_and_no_warnings(machine):
    found = machine.findings()
    assert_hints(found)
    assert bad(found) == []
    assert {finding.code for finding in found if finding.level is Level.OK} >= {
        Code.CONFIGURATION_OK,
        Code.KEY_OK,
        Code.CREDENTIALS_OK,
        Code.PEERS_OK,
        Code.PLUGINS_OK,
        Code.HANDLERS_OK,
        Code.STATE_OK,
        Code.UNIT_OK,
    }


def test_a_node_in_its_own_list_of_peers_is_no_finding(machine):
    """As on every node of a site that distributes one list of peers."""
    before = [finding for finding in machine.findings() if finding.code is not Code.PEERS_OK]
    machine.append(peer("com.one", make_key(1)))
    after = machine.findings()
    assert [finding for finding in after if finding.code is not Code.PEERS_OK] == before
    assert [finding.what for finding in after if finding.code is Code.PEERS_OK] == ["peers: 2"]


def test_the_number_of_peers_with_payload_rules_is_reported(machine):
    machine.append(peer("com.three", make_key(3)) + "[peers.only.deploy]\npayloads = ['stop']\n")
    assert "peers: 2 (1 with payload rules)" in [each.what for each in machine.findings()]


def test_checking_changes_nothing(machine):
    machine.findings()
    before = {path: path.stat().st_mtime_ns for path in machine.folder.rglob("*")}
    machine.findings()
    assert {path: path.stat().st_mtime_ns for path in machine.folder.rglob("*")} == before


def test_a_state_directory_below_one_that_our_user_cannot_enter_is_a_finding(machine):
    config = search.load(str(machine.config), {})
    machine.state.parent.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.setresuid(OTHER_USER, OTHER_USER, 0)
        (found,) = check_state(config, machine.state, now=machine.now)
    finally:
        if root:
            os.setresuid(0, 0, 0)
        machine.state.parent.chmod(0o700)
    assert (found.level, found.code) == (Level.ERROR, Code.STATE_UNUSABLE)
    assert found.what.startswith("cannot be created in ")


CASES = [*checkup_files.CASES, *checkup_services.CASES]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.code}-{number}" for number, case in enumerate(CASES)])
def test_each_finding_is_gone_once_its_hint_is_followed(machine, case):
    case.provoke(machine)
    found = machine.found(case.code)
    assert found, machine.findings()
    assert found[0].level is case.level
    assert case.text in to_line(found[0])
    assert_hints(found)
    if case.hint is None:
        type_in(found[0].hint)
    else:
        case.hint(machine)
    assert machine.found(case.code) == []
    assert bad(machine.findings()) == []


@pytest.mark.parametrize("created", [True, False])
def test_missing_locks_and_threads_are_errors(machine, created, monkeypatch):
    def unsupported(*_arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if not created:
        machine.state.rmdir()
    monkeypatch.setattr(fcntl, "lockf", unsupported)
    with threads_allowed(0):
        found = bad(machine.findings())
    assert [(finding.level, finding.code) for finding in found] == [
        (Level.ERROR, Code.LOCKS_UNAVAILABLE),
        (Level.ERROR, Code.THREADS_UNAVAILABLE),
    ]
    assert found[0].where == str(machine.state)
    assert found[0].what.startswith("no locks available on its file system (")
    assert_hints(found)


def test_an_unsynchronized_clock_is_a_note():
    (finding,) = check_clock(False)
    assert (finding.level, finding.code, finding.hint) == (
        Level.NOTE,
        Code.CLOCK_UNSYNCHRONIZED,
        "timedatectl set-ntp true",
    )
    assert [found.code for found in check_clock(True)] == [Code.CLOCK_OK]
    assert list(check_clock(None)) == []


def test_a_plugin_without_its_extra_is_named_with_the_command_that_installs_it(machine, monkeypatch):
    machine.append('[plugins]\nenable = ["metrics"]\n')
    assert machine.found(Code.PLUGIN_UNUSABLE) == []
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "prometheus_client", None)
        patch.delitem(sys.modules, "remaphore_plugins.metrics.collector")
        (finding,) = machine.found(Code.PLUGIN_UNUSABLE)
    assert (finding.where, finding.hint) == ("plugin metrics", install_hint("metrics"))


def test_a_plugin_that_acts_on_a_verb_is_enough(machine):
    machine.edit('"ping"]', '"ping", "permissions"]')
    (finding,) = machine.found(Code.VERB_UNHANDLED)
    assert finding.hint.startswith('write enable = ["permissions"] under [plugins]')
    machine.append('[plugins]\nenable = ["permissions"]\n')
    assert machine.found(Code.VERB_UNHANDLED) == []


def test_a_symbolic_link_is_followed_to_the_writable_directory(machine):
    open_to_all = machine.folder / "open"
    open_to_all.mkdir()
    machine.key.rename(open_to_all / "ops.key")
    machine.key.symlink_to(open_to_all / "ops.key")
    open_to_all.chmod(0o777)
    (finding,) = machine.found(Code.DIRECTORY_WRITABLE)
    assert finding.where == str(open_to_all)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_an_error(machine):
    os.chown(machine.config, OTHER_USER, OTHER_USER)
    (finding,) = machine.found(Code.FILE_WRITABLE)
    assert (finding.level, f"user id {OTHER_USER}" in finding.what) == (Level.ERROR, True)
    assert "look at" in finding.hint
    assert "chown" not in finding.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("made", [True, False], ids=["directory", "missing directory"])
def test_the_state_of_a_daemon_with_another_user_is_not_taken_from_it(machine, made):
    os.chown(machine.state.parent, OTHER_USER, OTHER_USER)
    os.chown(machine.state, OTHER_USER, OTHER_USER)
    if not made:
        machine.state.rmdir()
    (finding,) = machine.found(Code.STATE_UNUSABLE)
    assert (finding.level, f"uid {OTHER_USER}" in finding.what) == (Level.WARNING, True)
    as_user = f"check as that user: setpriv --reuid {OTHER_USER} --regid {OTHER_USER} --clear-groups remaphore check"
    assert finding.hint.startswith(as_user)
    assert "chown" not in finding.hint


@pytest.mark.parametrize(
    ("name", "hint"), [("a\u200b.d", "delete or replace U+200B"), ("~/a.d", "write the full path")]
)
def test_no_hint_creates_a_hook_directory_whose_name_is_a_mistake(machine, name, hint):
    machine.config.write_text(machine.config.read_text().replace("hooks.d", name))
    (finding,) = machine.found(Code.HOOKS_MISSING)
    assert finding.hint.startswith(hint)


def test_the_directory_of_an_enabled_plugin_is_judged_where_it_exists(machine):
    machine.append('[plugins]\nenable = ["permissions"]\n')
    assert bad(machine.findings()) == []
    plugins = machine.state / "plugins"
    path = plugins / "permissions"
    path.mkdir(parents=True, mode=0o700)
    (plugins / "of-no-plugin").touch()
    assert bad(machine.findings()) == []
    for spoil, what in ((path.touch, "Not a directory"), (lambda: path.symlink_to("/etc"), "a symbolic link")):
        path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
        spoil()
        (finding,) = machine.found(Code.STATE_UNUSABLE)
        assert (finding.where, finding.level) == (str(path), Level.ERROR)
        assert what in finding.what
        assert_hints([finding])
    path.unlink()
    plugins.chmod(0o1777)
    (finding,) = machine.found(Code.STATE_UNUSABLE)
    assert (finding.where, "sticky" in finding.what) == (str(plugins), True)


def test_an_empty_ledger_of_a_daemon_without_room_is_not_damaged(machine):
    (machine.state / "ledger.sqlite3").touch(mode=0o600)
    assert machine.found(Code.LEDGER_DAMAGED) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_hint_to_check_as_another_user_gives_it_the_groups_of_that_user(machine):
    """The configuration of a service is often of mode 0750, and readable for its group alone."""
    other = pwd.getpwuid(65534)
    os.chown(machine.state, other.pw_uid, 0)
    (finding,) = machine.found(Code.STATE_UNUSABLE)
    command = finding.hint.partition(": ")[2].partition(" remaphore ")[0].split()
    done = subprocess.run([*command, "id", "-g"], capture_output=True, text=True, check=True)
    assert int(done.stdout) == other.pw_gid


@pytest.mark.parametrize(
    "claims",
    [
        *({name: value} for name in ("exp", "nbf") for value in (-1, 1.5, True, "tomorrow", 2**63, 1e300, [])),
        {"exp": float("nan")},
    ],
    ids=str,
)
def test_a_time_that_the_broker_cannot_read_is_a_finding(machine, claims):
    claim(machine, **claims)
    (finding,) = machine.found(Code.CREDENTIALS_MALFORMED)
    assert f"the claim {next(iter(claims))} " in finding.what


@pytest.mark.parametrize(
    ("claims", "codes"),
    [
        ({"exp": 10**12}, []),
        ({"exp": 2**63 - 1}, []),
        ({"exp": 0, "nbf": 0}, []),
        ({"exp": None}, []),
        ({"nbf": 10**12}, [Code.CREDENTIALS_NOT_YET_VALID]),
        ({"nbf": 2**63 - 1}, [Code.CREDENTIALS_NOT_YET_VALID]),
        ({"exp": 1}, [Code.CREDENTIALS_EXPIRED]),
    ],
    ids=str,
)
def test_a_time_is_read_whatever_its_year(machine, claims, codes):
    claim(machine, **claims)
    assert [finding.code for finding in bad(machine.findings())] == codes


def test_a_ca_that_others_can_change_is_an_error(machine):
    tls(machine)
    assert machine.found(Code.FILE_WRITABLE) == []
    (machine.folder / "ca.pem").chmod(0o666)
    assert [finding.where for finding in machine.found(Code.FILE_WRITABLE)] == [str(machine.folder / "ca.pem")]


def test_a_drop_in_of_the_unit_counts(machine):
    folder = machine.unit.with_name("remaphore.service.d")
    folder.mkdir()
    (folder / "override.conf").write_text("[Service]\nExecStart=\nExecStart=/opt/remaphore run\n")
    (finding,) = machine.found(Code.UNIT_COMMAND)
    assert "/opt/remaphore" in finding.what


def test_a_unit_of_the_administrator_replaces_that_of_the_distribution(machine):
    vendor = machine.root / "usr/lib/systemd/system/remaphore.service"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("[Service]\nExecStart=/gone\n")
    assert bad(machine.findings()) == []
    machine.unit.unlink()
    assert machine.found(Code.UNIT_COMMAND)


def low_water_mark(sender, mark):
    return Batch(writes=[Write((RAISE_LOW_WATER_MARK, (sender, mark)))])


def test_a_ledger_that_is_being_written_is_read_without_disturbing_it(machine):
    store = Store(machine.state / "ledger.sqlite3", now=time.time_ns())
    assert bad(machine.findings()) == []
    store.apply(low_water_mark("k", 1))
    assert bad(machine.findings()) == []
    store.close()


def test_a_ledger_that_a_crash_left_is_read_and_left_as_it_is(machine, tmp_path):
    (tmp_path / "alive").mkdir()
    store = Store(tmp_path / "alive" / "ledger.sqlite3", now=machine.now)
    store.apply(low_water_mark("k", 1))
    for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
        shutil.copy(tmp_path / "alive" / name, machine.state / name)
    store.close()
    before = {path.name: path.read_bytes() for path in machine.state.glob("ledger.sqlite3*")}
    assert bad(machine.findings()) == []
    assert {name: (machine.state / name).read_bytes() for name in before} == before


def test_a_ledger_with_a_low_water_mark_of_one_sender_in_the_future_is_ahead(machine):
    store = Store(machine.state / "ledger.sqlite3", now=machine.now)
    store.apply(low_water_mark("k", machine.now + days(1)))
    store.close()
    assert machine.found(Code.LEDGER_AHEAD)


def test_a_missing_state_directory_is_valid_and_is_not_created(machine):
    shutil.rmtree(machine.folder / "state")
    assert bad(machine.findings()) == []
    assert not (machine.folder / "state").exists()


def test_what_the_daemon_answers_itself_needs_no_handler(machine):
    shutil.rmtree(machine.folder / "hooks.d" / "ping")
    machine.edit('"ping"]', '"ping", "remaphore-status"]')
    assert machine.found(Code.VERB_UNHANDLED) == []


def test_without_hooks_the_hint_names_the_directory_of_the_administrator(machine):
    machine.edit('hooks = ["hooks.d"]\n', "")
    machine.edit('"ping"]', '"ping", "status"]')
    (finding,) = machine.found(Code.VERB_UNHANDLED)
    assert finding.hint.startswith("put an executable into /etc/remaphore/hooks.d/status,")


def test_the_hint_does_not_move_a_directory_only_because_it_is_not_writable(machine, monkeypatch):
    machine.edit('state_dir = "state"', 'state_dir = "/nowhere/state"')
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = machine.found(Code.STATE_UNUSABLE)
    assert (finding.what, finding.hint) == (
        "cannot be created in /",
        "set state_dir to a directory that the daemon's user can write to",
    )


def test_a_user_without_a_home_is_a_finding_until_its_hint_is_followed(machine, monkeypatch):
    machine.edit('state_dir = "state"\n', "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 2**31)  # without an entry in the user database
    monkeypatch.delenv("HOME")
    (finding,) = machine.found(Code.STATE_UNUSABLE)
    assert finding.hint == "set state_dir in the configuration, or HOME"
    monkeypatch.setenv("HOME", str(machine.folder))
    assert [found.hint for found in machine.found(Code.STATE_UNUSABLE)] != [finding.hint]


def test_two_unusable_plugins_are_two_findings_each_with_its_own_hint(machine):
    machine.append('[plugins]\nenable = ["nosuch"]\n[plugins.metrics]\nfoo = 1\n[plugins.log]\nbar = 1\n')
    found = {finding.where: finding for finding in machine.found(Code.PLUGIN_UNUSABLE)}
    assert set(found) == {"plugin nosuch", "plugin metrics", "plugin log"}
    assert "plugins.metrics.foo" in found["plugin metrics"].what
    assert found["plugin metrics"].hint.startswith("known keys: listen ")
    assert "[plugins.log]" in found["plugin log"].hint
