"""docs/hooks.md lists every hook as it is, and its examples are plugins that work."""

import inspect
import logging
import re
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from remaphore import Action, Drop, DropReason, Outcome, PluginError, Receipt, Reply, Step, Summary
from remaphore.cli import collecting
from remaphore.hooks import specs
from remaphore.hooks.dispatch import emit, emit_plain
from remaphore.hooks.manager import GROUP, implemented, load
from remaphore.hooks.settings import build
from remaphore.hooks.specs import HOOKS, PLAIN
from remaphore.hooks.stats import DaemonStats
from remaphore.receiving import daemon, default_reply, execution, processor, receiver, throttle
from remaphore.testing import START_NS, make_config, make_message, make_reply

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"
SECTIONS = dict(re.findall(r"^## `(remaphore_\w+)[^\n]*\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def signature(name):
    """The hook as it is declared; annotations are text there, so their quotes are taken off."""
    return name + str(inspect.signature(getattr(specs, name))).replace("'", "")


def example(name):
    (source,) = re.findall(r"```python\n(.*?)```", SECTIONS[name], re.DOTALL)
    return source


@pytest.mark.places
def test_the_page_lists_every_hook_with_its_exact_signature_in_order_and_no_other():
    expected = [signature(name) for name in HOOKS]
    listed = re.findall(r"^## `(.*)`$", PAGE.read_text(), re.MULTILINE)
    assert listed == expected, (
        f"docs/hooks.md: sections, in this order: {[each for each in expected if each not in listed]}"
    )


@pytest.mark.places
@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_called_plain_on_the_page_exactly_if_it_is(name):
    plain = name in SECTIONS and SECTIONS[name].strip().startswith("Plain.")
    assert plain == (name in PLAIN), (
        f"docs/hooks.md: {name}: begin with 'Plain.' exactly if it is in PLAIN of hooks/specs.py"
    )


def test_every_hook_that_the_page_names_exists():
    assert set(re.findall(r"remaphore_[a-z]+", PAGE.read_text())) == set(HOOKS)


def test_the_limits_on_the_page_are_those_of_the_code():
    limited = {name for name in HOOKS if "5 seconds" in SECTIONS[name]}
    assert limited == {name for name in HOOKS if name not in PLAIN}
    assert {daemon.HOOK_SECONDS, execution.GRACE_SECONDS, daemon.STOP_SECONDS, processor.NOTE_SECONDS} == {5.0}
    assert {receiver.STOP_SECONDS, collecting.HOOK_SECONDS} == {5.0}
    assert f"every {throttle.INTERVAL_SECONDS:.0f}\nseconds" in SECTIONS["remaphore_dropped"]
    assert f"{default_reply.NO_HANDLER}, or -1" in SECTIONS["remaphore_message"]


def summary():
    return Summary(expected=("a", "b"), answered=("a",), failed=(), rejected=(), missing=("b",), dropped=0)


FAILED = Outcome("h", "other", 1.0, error=OSError("x"))
# What each example is called with, and what comes of it: its result, or the line that it logs.
CALLS = {
    "remaphore_configure": (
        lambda: {"config": make_config(), "settings": SimpleNamespace(threshold=3), "options": {}},
        "threshold is 3",
    ),
    "remaphore_startup": (
        lambda: {
            "stats": lambda: DaemonStats(received=3, connected=True),
            "context": SimpleNamespace(instance="main"),
        },
        "main: connected: True, received: 3",
    ),
    "remaphore_reloaded": (lambda: {"config": make_config()}, "1 peers"),
    "remaphore_admitted": (lambda: {"message": make_message("deploy", sender_name="a")}, "deploy from a is waiting"),
    "remaphore_acts": (lambda: {"verb": "note"}, False),
    "remaphore_message": (lambda: {"message": make_message("greet", sender_name="a")}, Reply(0, b"Hello, a")),
    "remaphore_handled": (
        lambda: {"message": make_message("deploy"), "reply": None, "sent": False, "outcomes": (FAILED,)},
        "other failed at deploy: OSError('x')",
    ),
    "remaphore_rejected": (
        lambda: {
            "message": make_message("deploy", sender_name="a", uuid=b"v42"),
            "reason": "expired",
            "detail": "d",
            "count": 1,
        },
        "deploy of a (id v42): expired: d",
    ),
    "remaphore_dropped": (
        lambda: {"drop": Drop(DropReason.BAD_SIGNATURE, subject="s", count=2)},
        "2 forged on s",
    ),
    "remaphore_requested": (
        lambda: {"request": make_message("deploy"), "expected": ("a", "b")},
        "deploy: asked a, b",
    ),
    "remaphore_reply": (
        lambda: {"request": make_message("deploy"), "reply": make_reply(3, peer="a")},
        "deploy: a replied 3",
    ),
    "remaphore_receipt": (
        lambda: {"request": make_message("deploy"), "receipt": Receipt("a", "key", START_NS)},
        "deploy: a has started",
    ),
    "remaphore_finished": (lambda: {"request": make_message("deploy"), "summary": summary()}, "deploy: missing b"),
    "remaphore_plan": (
        lambda: {"message": make_message("note")},
        [Step(action=Action.RUN, name="journal", argv=("logger", "--", "note"))],
    ),
    "remaphore_shutdown": (lambda: {"reason": "stopped"}, "ended: stopped"),
}


class Disk:
    @dataclass(frozen=True)
    class Settings:
        path: Path = Path("/")
        interval: timedelta = timedelta(minutes=1)


def test_the_errors_that_the_page_shows_are_those_of_the_core():
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    made = ""
    for table in ({"paht": "/srv"}, {"interval": 30}):
        with pytest.raises(PluginError) as caught:
            build(Disk, table, name="disk", source="/etc/remaphore/remaphore.toml")
        made += f"remaphore: error: {caught.value}\nremaphore: hint: {caught.value.hint}\n"
    assert shown == made


@pytest.mark.parametrize("name", HOOKS)
async def test_the_example_is_a_plugin_that_the_host_loads_and_does_what_it_says(name, tmp_path, monkeypatch, caplog):
    module = f"example_{name}"
    (tmp_path / f"{module}.py").write_text(example(name))
    monkeypatch.syspath_prepend(tmp_path)
    manager = load(["example"], [EntryPoint("example", f"{module}:Plugin", GROUP)])
    assert name in implemented(manager, "example")
    make_event, expected = CALLS[name]
    hook = getattr(manager.hook, name)
    with caplog.at_level(logging.INFO):
        called = emit_plain(hook, **make_event()) if name in PLAIN else await emit(hook, timeout=5, **make_event())
    (outcome,) = called
    assert outcome.error is None
    assert (caplog.messages[0] if isinstance(expected, str) else outcome.result) == expected


async def test_the_example_of_the_context_and_its_test_work(tmp_path):
    section = PAGE.read_text().partition("## The context of a plugin")[2]
    names = {}
    for source in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(source, names)
    await names["use"](tmp_path)


async def test_the_example_of_configure_refuses_what_it_does_not_know(tmp_path, monkeypatch):
    (tmp_path / "example_strict.py").write_text(example("remaphore_configure"))
    monkeypatch.syspath_prepend(tmp_path)
    plugin = load(["example"], [EntryPoint("example", "example_strict:Plugin", GROUP)]).get_plugin("example")
    for table, error in (
        ({"treshold": 1}, "x.toml: plugins.example.treshold: unknown key"),
        ({"threshold": "1"}, "x.toml: plugins.example.threshold: must be an integer, not a string"),
        ({"threshold": 0}, "x.toml: plugins.example.threshold: must be 1 or more"),
    ):
        with pytest.raises(PluginError) as caught:
            build(plugin, table, name="example", source="x.toml")
        assert str(caught.value) == error
