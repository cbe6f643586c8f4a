"""The list of commands, the modules that it names, and what a new one needs."""

import pkgutil
import re
import sys
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from types import ModuleType

import pytest

from docs.generate import man
from remaphore.cli import arguments, commands, completers, main
from remaphore.cli.commands import COMMANDS


@pytest.mark.places
@pytest.mark.parametrize("name", COMMANDS)
def test_a_module_has_what_dispatch_help_and_manual_need(name):
    module = import_module(f"remaphore.cli.commands.{name}")
    assert COMMANDS[name] == module.SUMMARY
    assert all(re.search(rf"\bremaphore {name}\b", line) for line in module.EXAMPLE.splitlines())
    assert module.EXAMPLE
    assert all(isinstance(code, int) and meaning for code, meaning in module.EXIT_CODES.items())
    assert 0 in module.EXIT_CODES


@pytest.mark.places
def test_there_is_no_module_beside_those_of_the_list():
    found = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    assert found == set(COMMANDS), "cli/commands/__init__.py: COMMANDS has one line for each module of cli/commands/"


@pytest.mark.places
@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_are_a_frozen_dataclass_of_the_module(name):
    module = import_module(f"remaphore.cli.commands.{name}")
    own = [kind for kind in vars(module).values() if is_dataclass(kind) and kind.__module__ == module.__name__]
    assert own
    assert all(kind.__dataclass_params__.frozen for kind in own)


@pytest.fixture
def greet(monkeypatch):
    """Add the command `greet`, as a new module and a line in COMMANDS do."""

    @dataclass(frozen=True, kw_only=True)
    class Greet:
        verb: str
        loud: bool = False

    def add_arguments(parser):
        parser.description = "Greet by a verb."
        parser.add_argument("--loud", action="store_true", help="greet in capitals")
        parser.add_argument("verb", metavar="VERB", help="what to greet with")
        parser.set_defaults(options=Greet)

    def run(options):
        sys.stdout.write((options.verb.upper() if options.loud else options.verb) + "\n")
        return 7

    module = ModuleType("remaphore.cli.commands.greet")
    module.SUMMARY = "greet by a verb"
    module.EXAMPLE = "remaphore greet hello"
    module.EXIT_CODES = {7: "greeted"}
    module.add_arguments, module.run = add_arguments, run
    Greet.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "greet", module.SUMMARY)
    return Greet


def test_a_new_command_is_dispatched(greet, capsys):
    assert [field.name for field in fields(greet)] == ["verb", "loud"]
    assert main.main(["greet", "hello", "--loud"]) == 7
    assert capsys.readouterr().out == "HELLO\n"


def test_a_new_command_is_in_the_help(greet, capsys):
    assert main.main(["--help"]) == 0
    assert re.search(r"^  greet +greet by a verb$", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(SystemExit):
        main.main(["greet", "--help"])
    shown = capsys.readouterr().out
    for part in ("--loud", "greet in capitals", "\n  7    greeted\n", "\nexamples:\n  remaphore greet hello\n"):
        assert part in shown


def test_a_new_command_has_a_man_page(greet):
    pages = man.pages("1")
    assert r"\fBremaphore\-greet\fR(1)" in pages["remaphore.1"]
    assert "greet in capitals" in pages["remaphore-greet.1"]


def test_a_new_command_is_completed(greet):
    tree = arguments.make_tree()
    completers.attach(tree)
    (parser,) = [inner for action in tree._actions for name, inner in (action.choices or {}).items() if name == "greet"]
    assert all(callable(action.completer) for action in parser._actions)
