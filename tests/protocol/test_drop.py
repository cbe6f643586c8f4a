"""Each reason to drop a message or a reply has all its places: for a new one a failure here names the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remaphore.diagnostics.explain import what_decides
from remaphore.protocol import exchange
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import CHECKS, Filters
from remaphore.testing import make_config
from remaphore_plugins.log import Log

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.places
# Reasons of the requesting side, and the one that the receiver's queues give.
OF_REPLIES = {DropReason.NOT_A_REPLY, DropReason.NOT_ASKED, DropReason.ANSWERED_ALREADY, DropReason.NOT_BOUND}
OF_QUEUES = {DropReason.BUSY}
# The levels of the log line, for a pattern that is exactly our destination and for others: a warning for what an
# administrator may have to act on.
LEVELS = {
    ("debug", "debug"): {
        *(*OF_REPLIES, DropReason.NOT_ADDRESSED, DropReason.OWN_MESSAGE, DropReason.FILTERED, DropReason.DUPLICATE)
    },
    ("warning", "debug"): {DropReason.UNKNOWN_SENDER, DropReason.VERB_NOT_PERMITTED},
    ("warning", "warning"): {
        *(DropReason.MALFORMED, DropReason.NOT_A_REQUEST, DropReason.OUTSIDE_WINDOW),
        *(DropReason.BAD_SIGNATURE, DropReason.REPLAYED, DropReason.BUSY),
    },
}


@pytest.mark.parametrize("reason", DropReason)
def test_each_reason_is_given_in_one_place(reason: DropReason) -> None:
    checks = [check.name for check in CHECKS if check.reason is reason]
    others = [group for group in (OF_REPLIES, OF_QUEUES) if reason in group]
    assert len(checks) + len(others) == 1, f"{reason} needs one check in CHECKS of protocol/gate.py: {checks}"
    source = Path(exchange.__file__).read_text(encoding="utf-8")
    assert (reason not in OF_REPLIES) or f"DropReason.{reason.name}" in source, f"protocol/exchange.py: no {reason}"


@pytest.mark.parametrize("reason", DropReason)
def test_each_reason_has_its_levels_in_the_log(reason: DropReason, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [levels for levels, reasons in LEVELS.items() if reason in reasons]
    assert len(expected) == 1, f"{reason} needs a level: in LEVELS here, and in plugins/remaphore_plugins/log.py"
    written: list[str] = []

    class Recorder:
        def __getattr__(self, level: str) -> Any:
            return lambda *_, **__: written.append(level)

    log = Log()
    monkeypatch.setattr(log, "_log", Recorder())
    for exact in (True, False):
        log.remaphore_dropped(Drop(reason, exact=exact))
    assert [tuple(written)] == expected


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_each_check_of_the_gate_is_explained_and_documented(check: Any) -> None:
    decided = what_decides(make_config(), Filters(), None)
    assert check.name in decided, f"{check.name} needs an entry in what_decides of diagnostics/explain.py"
    page = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    assert f"| {check.name} | `{check.reason}` |" in page, f"{check.name} needs a row in docs/explain.md"
