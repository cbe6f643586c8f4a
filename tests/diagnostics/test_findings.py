"""Findings as values; and each code has all of its places, so that a new one cannot be half added."""

import re
from pathlib import Path

import pytest

from remaphore.diagnostics.findings import Code, Finding, Level, from_error, to_line
from remaphore.errors import ConfigError
from tests.diagnostics import checkup_files, checkup_services, doctor_cases

ROOT = Path(__file__).parents[2]
PAGE = "docs/findings.md"
COORDINATION = "tests/diagnostics/test_coordination.py"
CASES = {
    *(case.code for case in (*checkup_files.CASES, *checkup_services.CASES)),
    *(code for code, *_ in doctor_cases.CASES),
}
# Codes that a test of their own provokes, in place of a case.
TESTS = {
    Code.CONFIGURATION_UNUSABLE: "tests/e2e/test_health.py::test_a_configuration_that_cannot_be_used_is_a_finding",
    Code.DAEMON_RUNNING: (
        "tests/e2e/test_health.py::test_check_says_that_a_daemon_runs_and_looks_at_its_ledger_meanwhile"
    ),
    Code.LOCKS_UNAVAILABLE: "tests/diagnostics/test_checkup.py::test_missing_locks_and_threads_are_errors",
    Code.THREADS_UNAVAILABLE: "tests/diagnostics/test_checkup.py::test_missing_locks_and_threads_are_errors",
    Code.CLOCK_UNSYNCHRONIZED: "tests/diagnostics/test_checkup.py::test_an_unsynchronized_clock_is_a_note",
    Code.SERVER_UNREACHABLE: (
        "tests/diagnostics/test_servers.py::test_an_unreachable_server_is_an_error_until_servers_is_corrected"
    ),
    Code.SERVER_REJECTS: (
        "tests/diagnostics/test_servers.py::test_rejected_credentials_are_an_error_until_they_are_replaced"
    ),
    Code.SERVER_ADDRESS_UNUSABLE: "tests/diagnostics/test_servers.py::test_an_address_of_a_name_that_fails_is_a_note",
    Code.SERVER_CERTIFICATE_EXPIRES_SOON: (
        "tests/diagnostics/test_servers.py::test_a_certificate_that_expires_soon_is_a_warning"
    ),
    Code.SERVER_HANDSHAKE_FIRST: "tests/diagnostics/test_servers.py::test_a_server_that_begins_with_tls_is_a_note",
    Code.SERVERS_SEPARATE: (
        "tests/diagnostics/test_servers.py::test_servers_that_are_no_cluster_are_an_error_until_they_are_one"
    ),
    Code.SERVER_MAX_PAYLOAD: "tests/diagnostics/test_servers.py::test_a_small_max_payload_is_a_note_until_it_is_raised",
    Code.SUBJECT_DENIED: (
        "tests/diagnostics/test_servers.py::test_denied_subjects_are_errors_until_the_credentials_permit_them"
    ),
    Code.SUBJECT_CAPTURED: f"{COORDINATION}::test_a_stream_that_stores_messages_is_an_error_until_it_is_deleted",
    Code.JETSTREAM_OFF: f"{COORDINATION}::test_jetstream_that_is_off_is_an_error",
    Code.COORDINATION_NO_STREAM: f"{COORDINATION}::test_missing_streams_are_an_error_until_they_are_made",
    Code.COORDINATION_DENIED: f"{COORDINATION}::test_each_missing_permission_is_an_error_until_it_is_granted",
    Code.COORDINATION_UNAVAILABLE: f"{COORDINATION}::test_a_broker_that_does_not_answer_is_an_error",
    Code.COORDINATION_SETTINGS: f"{COORDINATION}::test_wrong_settings_are_an_error_until_the_stream_is_corrected",
    Code.COORDINATION_SINGLE_REPLICA: f"{COORDINATION}::test_one_replica_in_a_cluster_is_a_warning",
    Code.COORDINATION_HALF_FULL: (
        f"{COORDINATION}::test_a_stream_that_is_half_full_is_a_warning_until_it_is_made_again"
    ),
    Code.COORDINATION_LOCK_JUNK: (
        f"{COORDINATION}::test_junk_below_one_lock_is_a_warning_until_the_streams_are_made_again"
    ),
    Code.COORDINATION_SET_BACK: (
        f"{COORDINATION}::test_a_restored_backup_is_an_error_until_the_streams_are_made_again"
    ),
    Code.COORDINATION_NOT_REMEMBERED: f"{COORDINATION}::test_that_nothing_can_be_remembered_is_a_note",
    Code.COORDINATION_SERVER_TOO_OLD: f"{COORDINATION}::test_a_server_that_is_too_old_is_an_error",
    Code.LOCK_NAME_INVALID: f"{COORDINATION}::test_a_permission_for_what_is_no_lock_is_a_warning",
    Code.RUNTIME_LIMITED: "tests/diagnostics/test_runtime.py::test_denied_call_is_a_finding",
    Code.AGENT_UNUSABLE: (
        "tests/diagnostics/test_local_agent.py::test_an_agent_that_cannot_be_used_is_an_error_and_never_the_direct_way"
    ),
    Code.AGENT_USED: "tests/diagnostics/test_local_agent.py::test_an_agent_that_answers_is_the_way_that_counts",
    Code.AGENT_NOT_USED: "tests/diagnostics/test_local_agent.py::test_an_agent_that_answers_is_the_way_that_counts",
    Code.AGENT_HAS_KEYS: (
        "tests/diagnostics/test_local_agent.py::test_a_user_without_keys_is_told_of_the_agent_and_root_of_the_keys"
    ),
    Code.AGENT_OTHER_RELEASE: "tests/diagnostics/test_local_agent.py::test_the_answer_of_an_agent_is_judged",
    Code.AGENT_DISCONNECTED: "tests/diagnostics/test_local_agent.py::test_the_answer_of_an_agent_is_judged",
    Code.AGENT_NAMES_NO_RULE: "tests/diagnostics/test_local_agent.py::test_the_answer_of_an_agent_is_judged",
    Code.OWN_CLOCK_SKEW: (
        "tests/diagnostics/test_doctor.py::test_if_all_clocks_differ_in_the_same_direction_ours_is_wrong"
    ),
}


def rows():
    """Return the level and the description of each code on the page of findings."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    return {
        code: (level, text) for code, level, text in re.findall(r"^\| `([a-z-]+)` \| (.*?) \| (.*) \|$", text, re.M)
    }


@pytest.mark.places
@pytest.mark.parametrize("code", [code for code in Code if not code.endswith("-ok")])
def test_each_code_is_provoked_by_a_test(code):
    if code in TESTS:
        file, _, name = TESTS[code].partition("::")
        text = (ROOT / file).read_text(encoding="utf-8").partition(f"def {name}(")[2].partition("\ndef ")[0]
        text = text.partition("\nasync def ")[0]  # the body of that one test
        assert f"Code.{code.name}" in text, f"{TESTS[code]} does not provoke {code}"
    else:
        assert code in CASES, f"add a case for {code} to tests/diagnostics/checkup_*.py or doctor_cases.py"


def test_no_code_is_listed_that_a_case_provokes():
    assert CASES & TESTS.keys() == set()


@pytest.mark.places
@pytest.mark.parametrize("code", Code)
def test_each_code_has_a_row_in_the_documentation(code):
    assert code in rows(), f"add a row for {code} to {PAGE}"
    levels, text = rows()[code]
    assert set(levels.split(", ")) <= set(Level)
    assert text


@pytest.mark.places
def test_the_documentation_has_no_other_codes_and_keeps_their_order():
    assert list(rows()) == list(Code), f"{PAGE}: the rows are in the order of Code: {[*map(str, Code)]}"


@pytest.mark.parametrize("code", Code)
def test_each_code_is_named_as_it_is_written(code):
    assert code.name == code.replace("-", "_").upper()


@pytest.mark.parametrize("case", [*checkup_files.CASES, *checkup_services.CASES], ids=lambda case: case.code)
def test_the_documentation_has_the_level_of_each_case_of_check(case):
    assert case.level in rows()[case.code][0].split(", ")


@pytest.mark.parametrize(("code", "level"), [case[:2] for case in doctor_cases.CASES])
def test_the_documentation_has_the_level_of_each_case_of_doctor(code, level):
    assert level in rows()[code][0].split(", ")


@pytest.mark.parametrize(
    ("where", "message", "expected"),
    [
        ("f", "f: invalid; and more", ("f", "invalid; and more")),
        ("f", "f:3: not UTF-8", ("f:3", "not UTF-8")),
        ("f", "f: named by a; b: open; hint: none", ("f", "named by a; b: open; hint: none")),
        ("f", "fg: invalid", ("f", "fg: invalid")),
    ],
)
def test_an_error_becomes_a_finding_with_its_place_once_and_its_whole_text(where, message, expected):
    finding = from_error(Code.KEY_UNUSABLE, where, ConfigError(message, hint="correct it"))
    assert (finding.where, finding.what, finding.hint) == (*expected, "correct it")


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        ("correct it", "", "correct it"),
        ("correct it", "read the manual", "correct it"),
        ("", "read the manual", "read the manual"),
        ("", "", ConfigError.default_hint),
    ],
)
def test_the_hint_of_an_error_goes_before_that_of_the_place_and_that_before_that_of_its_class(own, default, expected):
    finding = from_error(Code.KEY_UNUSABLE, "f", ConfigError("invalid", hint=own), default_hint=default)
    assert finding.hint == expected


def test_a_line_has_a_hint_only_if_there_is_one():
    assert to_line(Finding(Level.OK, Code.KEY_OK, "f", "valid")) == "ok       f: valid"
    line = to_line(Finding(Level.ERROR, Code.KEY_UNUSABLE, "f", "invalid", "correct it"))
    assert line == "error    f: invalid; hint: correct it"
