"""docs/running.md lists every event of the log of a daemon."""

import re

import pytest

from tests.docs.pages import ROOT

# The first argument of a call of a logger, or of a function that calls one.
EVENT = re.compile(r'log(?:_failure|\.info|\.warning|\.error)?\(\s*(?:outcome, )?"([a-z]+_[a-z_]+|ready|stopped)"')


@pytest.mark.places
def test_every_event_is_on_the_page():
    sources = [*(ROOT / "remaphore").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    events = {event for path in sources for event in EVENT.findall(path.read_text())}
    assert {"ready", "message_handled", "message_lost", "plugin_blocked", "reload_rejected"} <= events
    text = (ROOT / "docs" / "running.md").read_text().partition("## Logs")[2].partition("## ")[0]
    missing = {event for event in events if f"`{event}`" not in text}
    assert missing == set(), f"docs/running.md: Logs: add {missing}"
