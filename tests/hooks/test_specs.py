"""Every hook is in all places where a hook must be; a missing place is named."""

import inspect
import re
from pathlib import Path

import pytest

import remaphore.testing
from remaphore.hooks import specs
from remaphore.testing import PluginHarness

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hooks.md").read_text()
EXAMPLES = (ROOT / "tests" / "docs" / "test_hooks_page.py").read_text()
CORE = "".join(path.read_text() for path in (ROOT / "remaphore").rglob("*.py") if "testing" not in path.parts)
# The harness calls these on its own: when it is entered and left, and for each message.
IMPLICIT = {"configure": "__aenter__", "startup": "__aenter__", "admitted": "message", "shutdown": "__aexit__"}


def missing(hook, *, page=PAGE, harness=PluginHarness):
    """Return the places where *hook* is missing."""
    event = hook.removeprefix("remaphore_")
    method = getattr(harness, IMPLICIT.get(event, event), None)
    places = {
        "remaphore/hooks/specs.py: a docstring": bool(inspect.getdoc(getattr(specs, hook))),
        "remaphore/: a call with emit, emit_each, emit_plain or PreparedHook": bool(
            re.search(rf"hook\.{hook}\b", CORE)
        ),
        "remaphore/testing/: a method of PluginHarness": method is not None
        and f'"{event}"' in inspect.getsource(method),
        "docs/hooks.md: a section": f"\n## `{hook}(" in page,
        "tests/docs/test_hooks_page.py: a call of the example": f'"{hook}": (' in EXAMPLES,
    }
    return [place for place, found in places.items() if not found]


@pytest.mark.places
@pytest.mark.parametrize("hook", specs.HOOKS)
def test_a_hook_is_in_every_place(hook):
    assert missing(hook) == [], f"{hook} lacks {', '.join(missing(hook))}"


def test_a_missing_place_is_named():
    class Bare:
        pass

    page = PAGE.replace("## `remaphore_dropped(", "## `dropped(")
    assert missing("remaphore_dropped", page=page, harness=Bare) == [
        "remaphore/testing/: a method of PluginHarness",
        "docs/hooks.md: a section",
    ]


@pytest.mark.parametrize(
    ("line", "hook"),
    [
        ("def remaphore_new(): pass", "remaphore_new"),
        ('PLAIN |= {"remaphore_message"}', "remaphore_message"),
        ('WAITING |= {"remaphore_mesage"}', "remaphore_mesage"),
    ],
)
def test_a_hook_that_is_in_neither_set_or_in_both_fails_at_import(line, hook):
    source = Path(specs.__file__).read_text()
    head, loop, rest = source.partition("for _hook in")
    head = head.replace("\nHOOKS = ", f"\n{line}\nHOOKS = ") if line.startswith("def") else head + line + "\n"
    with pytest.raises(
        TypeError, match=f"{hook} must be declared in hooks/specs.py, and be in either PLAIN or WAITING"
    ):
        exec(compile(head + loop + rest, "specs.py", "exec"), {"__name__": "specs"})


@pytest.mark.places
def test_every_argument_of_a_hook_has_a_public_type():
    names = set()
    for hook in specs.HOOKS:
        names |= set(re.findall(r"\b[A-Z]\w+", str(inspect.signature(getattr(specs, hook)))))
    assert names - {"None", "Any", "Mapping", "Callable"} <= {*remaphore.__all__}
