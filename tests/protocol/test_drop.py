"""Each reason to drop a message or a reply has all its places: for a new one a failure here names the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remaphore.diagnostics.explain import what_decides
from remaphore.protocol import exchange, rejection
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import CHECKS, Filters
from remaphore.testing import make_config
from remaphore_plugins.log import Log
from tests.mutations.catalogue import mutations

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
    ("warning", "debug"): {
        *(DropReason.UNKNOWN_SENDER, DropReason.VERB_NOT_PERMITTED, DropReason.PAYLOAD_NOT_PERMITTED)
    },
    ("warning", "warning"): {
        *(DropReason.MALFORMED, DropReason.NOT_A_REQUEST, DropReason.OUTSIDE_WINDOW),
        *(DropReason.BAD_SIGNATURE, DropReason.REPLAYED, DropReason.BUSY),
    },
}
# The row of docs/security.md that each check of the gate keeps, by its beginning; empty if it defends nothing.
PROMISES = {
    "shape": "only a message that a known peer has signed",
    "request": "a reply is accepted only from a peer that was asked",
    "destination": "",
    "own-key": "",
    "sender": "only a message that a known peer has signed",
    "verb": "it cannot run a verb that it is not permitted",
    "time": "a message that is held back",
    "filters": "",
    "duplicate": "a daemon starts a message at most once",
    "signature": "only a message that a known peer has signed",
    "payload": "it cannot send a payload that it is not permitted",
    "replay": "a daemon starts a message at most once",
}


@pytest.mark.parametrize("reason", DropReason)
def test_each_reason_is_given_in_one_place(reason: DropReason) -> None:
    checks = [check.name for check in CHECKS if check.reason is reason]
    others = [group for group in (OF_REPLIES, OF_QUEUES) if reason in group]
    assert len(checks) + len(others) == 1, (
        f"{reason} needs one check: in PRECHECKS of remaphore/protocol/gate.py, or in exchange.py and OF_REPLIES here"
    )
    source = Path(exchange.__file__).read_text(encoding="utf-8")
    assert (reason not in OF_REPLIES) or f"DropReason.{reason.name}" in source, f"protocol/exchange.py: no {reason}"


@pytest.mark.parametrize("reason", DropReason)
def test_each_reason_has_its_levels_in_the_log(reason: DropReason, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [levels for levels, reasons in LEVELS.items() if reason in reasons]
    assert len(expected) == 1, (
        f"{reason} needs a level, in plugins/remaphore_plugins/log.py and in LEVELS of {__name__}"
    )
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
    assert check.name in decided, f"{check.name} needs an entry in what_decides of remaphore/diagnostics/explain.py"
    page = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    assert f"| {check.name} | `{check.reason}` |" in page, f"{check.name} needs a row in docs/explain.md"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_each_check_of_the_gate_keeps_a_promise_that_a_mutation_breaks(check: Any) -> None:
    row = "the row of docs/security.md that it keeps (a new one needs a test and a mutation), or an empty text"
    assert check.name in PROMISES, f"tests/protocol/test_drop.py: PROMISES: add {check.name}, with {row}"
    begin = PROMISES[check.name]
    mutated = {each.promise.text for each in mutations() if each.promise.page == "security"}
    assert any(text.startswith(begin) for text in mutated), f"docs/security.md: no row with a mutation begins: {begin}"


@pytest.mark.parametrize("reason", sorted(rejection._REJECTED))
def test_each_reason_that_a_sender_is_told_is_documented(reason: DropReason) -> None:
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    reasons = page.partition("Reasons of rejections:")[2].partition("\n\n")[0]
    assert f"`{reason}`" in reasons, f"docs/running.md: 'Reasons of rejections': add {reason}"
