"""docs/running.md lists every event of the log of a daemon."""

import re

import pytest

from tests.docs.pages import ROOT

# The first argument of a call of a logger, or of a function that calls one.
EVENT = re.compile(r'log(?:_failure|\.info|\.warning|\.error)?\(\s*(?:outcome, )?"([a-z]+_[a-z_]+|ready|stopped)"')
OF_LOCKS = re.compile(r'report\(\s*"(?:debug|info|warning)",\s*"([a-z]+_[a-z_]+)"')


@pytest.mark.places
def test_every_event_is_on_the_page():
    sources = [*(ROOT / "remaphore").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    texts = [path.read_text() for path in sources]
    events = {event for each in texts for event in (*EVENT.findall(each), *OF_LOCKS.findall(each))}
    assert {"ready", "message_handled", "message_lost", "plugin_blocked", "reload_rejected", "lock_lost"} <= events
    text = (ROOT / "docs" / "running.md").read_text().partition("## Logs")[2].partition("## ")[0]
    missing = {event for event in events if f"`{event}`" not in text}
    assert missing == set(), f"docs/running.md: Logs: add {missing}"
