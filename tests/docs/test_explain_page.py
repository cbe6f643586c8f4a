"""docs/explain.md lists the checks of the gate in order, and the options of the command."""

import re
from pathlib import Path

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.explain import Explain
from remaphore.protocol.gate import CHECKS

PAGE = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][a-z0-9]*")


@pytest.mark.places
def test_the_page_lists_every_check_with_its_reason_in_order():
    documented = re.findall(r"^\| ([\w-]+) \| `([\w-]+)` \|", PAGE, re.MULTILINE)
    expected = [(check.name, check.reason) for check in CHECKS]
    rows = "\n".join(f"| {name} | `{reason}` | ... |" for name, reason in expected)
    assert documented == expected, f"docs/explain.md: The checks: write these rows:\n{rows}"


def test_the_pages_command_is_read():
    (command,) = re.findall(r"\$ remaphore (explain .*)", PAGE)
    options = arguments.read(command.split())
    assert isinstance(options, Explain)
    assert (options.sender, options.verb, options.to) == ("com.example.one", "reboot", ("**",))


def test_every_option_of_the_page_exists(capsys):
    with pytest.raises(SystemExit):
        arguments.read(["explain", "--help"])
    existing = set(OPTION.findall(capsys.readouterr().out))
    ours = re.sub(r"^nats .*?$|<!--.*?-->", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    named = set(OPTION.findall(ours))
    assert named <= existing
    assert existing - named == {"-h", "--help", "--config"}
