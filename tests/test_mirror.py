"""The tests mirror the code: `remaphore/protocol/gate.py` is tested by `tests/protocol/test_gate.py`.

A file may have an aspect in its name, such as `test_gate_order.py`. The bundled plugins are mirrored in
`tests/plugins/`. What has no counterpart is listed here with its reason, and only as long as it has none.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PACKAGES = {ROOT / "remaphore": TESTS, ROOT / "plugins" / "remaphore_plugins": TESTS / "plugins"}

# Modules without a test file of their name, and the file that covers them instead.
COVERED_BY = {
    "remaphore/__init__.py": "tests/docs/test_writing_plugins.py",
    "remaphore/__main__.py": "tests/e2e/test_receive.py",
    "remaphore/logs.py": "tests/plugins/test_log.py",
    "remaphore/agent/audit.py": "tests/agent/test_server.py",
    "remaphore/agent/connection.py": "tests/agent/test_client.py",
    "remaphore/agent/feeds.py": "tests/agent/test_server.py",
    "remaphore/agent/head.py": "tests/agent/test_server.py",
    "remaphore/agent/operations.py": "tests/agent/test_server.py",
    "remaphore/agent/receiver.py": "tests/e2e/test_agent.py",
    "remaphore/agent/requests.py": "tests/agent/test_client.py",
    "remaphore/agent/receiving.py": "tests/agent/test_server.py",
    "remaphore/agent/refusal.py": "tests/agent/test_server.py",
    "remaphore/agent/session.py": "tests/agent/test_server.py",
    "remaphore/cli/commands/agent.py": "tests/agent/test_server.py",
    "remaphore/cli/collecting.py": "tests/e2e/test_request_fleet.py",
    "remaphore/cli/commands/demo.py": "tests/test_demo.py",
    "remaphore/cli/commands/explain.py": "tests/e2e/test_explain.py",
    "remaphore/cli/commands/hooks.py": "tests/e2e/test_run.py",
    "remaphore/cli/commands/receive.py": "tests/e2e/test_receive.py",
    "remaphore/cli/commands/lock.py": "tests/e2e/test_lock.py",
    "remaphore/cli/commands/run.py": "tests/e2e/test_run.py",
    "remaphore/cli/commands/semaphore.py": "tests/e2e/test_lock.py",
    "remaphore/cli/commands/wait.py": "tests/e2e/test_wait.py",
    "remaphore/cli/completers.py": "tests/cli/commands/test_completion.py",
    "remaphore/cli/commands/version.py": "tests/cli/test_main.py",
    "remaphore/cli/dry_run.py": "tests/cli/commands/test_request.py",
    "remaphore/cli/configuration.py": "tests/cli/commands/test_config.py",
    "remaphore/cli/holder.py": "tests/e2e/test_lock_faults.py",
    "remaphore/cli/holding.py": "tests/e2e/test_lock.py",
    "remaphore/cli/legacy/example.py": "tests/cli/legacy/test_flags.py",
    "remaphore/cli/route.py": "tests/e2e/test_agent.py",
    "remaphore/connecting.py": "tests/agent/test_client.py",
    "remaphore/cli/sources.py": "tests/cli/test_selection.py",
    "remaphore/cli/overview.py": "tests/cli/test_main.py",
    "remaphore/config/render.py": "tests/config/test_creation.py",
    "remaphore/config/revision.py": "tests/config/test_editing.py",
    "remaphore/config/roundtrip.py": "tests/config/test_editing.py",
    "remaphore/config/tables.py": "tests/config/test_toml_mistakes.py",
    "remaphore/diagnostics/agent.py": "tests/diagnostics/test_checkup.py",
    "remaphore/coordination/command.py": "tests/coordination/test_guardian.py",
    "remaphore/coordination/acquisition.py": "tests/coordination/test_lock.py",
    "remaphore/coordination/holding.py": "tests/coordination/test_lock.py",
    "remaphore/coordination/lock_records.py": "tests/coordination/test_lock.py",
    "remaphore/coordination/streams.py": "tests/coordination/test_setup.py",
    "remaphore/diagnostics/clock.py": "tests/diagnostics/test_checkup.py",
    "remaphore/diagnostics/credentials.py": "tests/diagnostics/test_checkup.py",
    "remaphore/diagnostics/files.py": "tests/diagnostics/test_checkup.py",
    "remaphore/diagnostics/handlers.py": "tests/diagnostics/test_checkup.py",
    "remaphore/diagnostics/machines.py": "tests/diagnostics/test_pinger.py",
    "remaphore/diagnostics/peers.py": "tests/diagnostics/test_checkup.py",
    "remaphore/diagnostics/probe.py": "tests/diagnostics/test_pinger.py",
    "remaphore/diagnostics/replies.py": "tests/diagnostics/test_doctor.py",
    "remaphore/diagnostics/state.py": "tests/diagnostics/test_checkup.py",
    "remaphore/diagnostics/survey.py": "tests/diagnostics/test_doctor.py",
    "remaphore/diagnostics/systemd_units.py": "tests/diagnostics/test_checkup.py",
    "remaphore/embedded/folder.py": "tests/embedded/test_broker.py",
    "remaphore/embedded/jwt.py": "tests/embedded/test_broker.py",
    "remaphore/hooks/context.py": "tests/receiving/test_contexts.py",
    "remaphore/hooks/markers.py": "tests/hooks/test_manager.py",
    "remaphore/hooks/plan.py": "tests/diagnostics/test_explain.py",
    "remaphore/hooks/stats.py": "tests/receiving/test_daemon.py",
    "remaphore/messaging/replier.py": "tests/receiving/test_receiver.py",
    "remaphore/receiving/batches.py": "tests/receiving/test_verifier.py",
    "remaphore/receiving/admission.py": "tests/receiving/test_daemon.py",
    "remaphore/receiving/default_reply.py": "tests/receiving/test_daemon.py",
    "remaphore/receiving/counters.py": "tests/receiving/test_daemon.py",
    "remaphore/proc.py": "tests/plugins/processes/test_tree.py",
    "remaphore/receiving/gates.py": "tests/receiving/test_daemon.py",
    "remaphore/receiving/inline.py": "tests/receiving/test_receiver.py",
    "remaphore/receiving/wait.py": "tests/test_node.py",
    "remaphore/receiving/ledger/batch.py": "tests/receiving/ledger/test_ledger.py",
    "remaphore/receiving/ledger/rows.py": "tests/receiving/ledger/test_store.py",
    "remaphore/receiving/ledger/statements.py": "tests/receiving/ledger/test_store.py",
    "remaphore/receiving/plugin_errors.py": "tests/hooks/test_dispatch_broken_plugins.py",
    "remaphore/receiving/responses.py": "tests/receiving/test_daemon_trust.py",
    "remaphore/testing/clock.py": "tests/test_testing.py",
    "remaphore/testing/factories.py": "tests/test_testing.py",
    "remaphore/testing/node.py": "tests/test_testing.py",
    "remaphore/transport/dialer.py": "tests/transport/test_nats_client_connect.py",
    "remaphore/transport/memory.py": "tests/transport/test_bus_contract.py",
    "remaphore/transport/nats_connection.py": "tests/transport/test_nats_client_reconnect.py",
    "remaphore/transport/nats_reader.py": "tests/transport/test_parser.py",
    "remaphore/transport/outage.py": "tests/transport/test_nats_client_reconnect.py",
    "remaphore/transport/pending.py": "tests/transport/test_nats_client_publish.py",
    "remaphore/transport/round_trip.py": "tests/transport/test_nats_client_publish.py",
    "plugins/remaphore_plugins/hooks_d/__init__.py": "tests/plugins/hooks_d/test_handlers.py",
    "plugins/remaphore_plugins/metrics/collector.py": "tests/plugins/test_metrics.py",
    "plugins/remaphore_plugins/metrics/server.py": "tests/plugins/test_metrics.py",
    "plugins/remaphore_plugins/processes/environment.py": "tests/plugins/hooks_d/test_handlers.py",
    "plugins/remaphore_plugins/reply_collector/json_formats.py": "tests/plugins/reply_collector/test_formats.py",
    "plugins/remaphore_plugins/reply_collector/report.py": "tests/plugins/reply_collector/test_terminal.py",
    "plugins/remaphore_plugins/reply_collector/request_stats.py": "tests/plugins/reply_collector/test_formats.py",
}
# Test files in mirrored folders that test more than one module.
WITHOUT_MODULE = {
    "tests/config/test_robustness.py": "every reader, with texts that no one would write",
    "tests/plugins/test_third_party.py": "a plugin of a distribution of its own, installed in a new environment",
    "tests/plugins/test_recipes.py": "the plugins of docs/howto/plugins.md, installed in the same environment",
    "tests/protocol/test_vectors.py": "the whole package, with messages that the Go implementation signed",
    "tests/test_caller.py": "the tests themselves: the state of the process that they run in",
    "tests/test_mirror.py": "a rule of the repository",
    "tests/test_structure.py": "a rule of the repository",
}


def _only_documents(path: Path) -> bool:
    """Return whether a module consists of docstrings and imports."""
    return all(isinstance(node, ast.Expr | ast.Import | ast.ImportFrom) for node in ast.parse(path.read_text()).body)


def mirrored() -> dict[str, tuple[Path, str]]:
    """Return each module by its path: the folder of its tests, and its name; no packages that only have a docstring."""
    modules = {}
    for package, tests in PACKAGES.items():
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package).with_suffix("").parts
            if parts[-1] == "__init__":
                if _only_documents(path):
                    continue
                parts = parts[:-1] or (package.name,)
            modules[str(path.relative_to(ROOT))] = tests.joinpath(*parts[:-1]), parts[-1]
    return modules


MODULES = mirrored()
FOLDERS = {folder for folder, _ in MODULES.values()}
FILES = [str(path.relative_to(ROOT)) for folder in sorted(FOLDERS) for path in sorted(folder.glob("test_*.py"))]


def files_of(module: str) -> list[Path]:
    """Return the test files that are named after a module."""
    folder, name = MODULES[module]
    return [*folder.glob(f"test_{name}.py"), *folder.glob(f"test_{name}_*.py")]


def has_module(file: str) -> bool:
    """Return whether a test file is named after a module."""
    path = ROOT / file
    return any(path in files_of(module) for module, (folder, _) in MODULES.items() if folder == path.parent)


@pytest.mark.places
@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_test_file_or_a_reason(module: str) -> None:
    if module in COVERED_BY:
        assert not files_of(module), "it has one: take it from the list"
    else:
        assert files_of(module), f"write {MODULES[module][0].relative_to(ROOT)}/test_{MODULES[module][1]}.py"


@pytest.mark.places
@pytest.mark.parametrize("file", FILES)
def test_a_test_file_has_its_module_or_a_reason(file: str) -> None:
    if file in WITHOUT_MODULE:
        assert not has_module(file), "it has one: take it from the list"
    else:
        assert has_module(file), "name it test_MODULE.py or test_MODULE_ASPECT.py"


def test_every_entry_is_about_a_file_that_exists() -> None:
    assert COVERED_BY.keys() - MODULES.keys() == set()
    assert WITHOUT_MODULE.keys() - set(FILES) == set()
    assert [file for file in COVERED_BY.values() if not (ROOT / file).is_file()] == []
