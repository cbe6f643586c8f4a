"""Command lines that begin with a command: how they are read, and that the flags of Go mean the same."""

import argparse
import re

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.broker import Broker
from remaphore.cli.commands.demo import Demo
from remaphore.cli.commands.receive import Receive
from remaphore.cli.commands.request import Request
from remaphore.cli.commands.send import Send
from remaphore.cli.legacy import flags
from remaphore.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "legacy"),
    [
        ("send", "-s"),
        (
            "send --to com.* --verb deploy --id x --from K --config f --subject b a b",
            "-s -D com.* -v deploy -u x -p K -c f -S b a b",
        ),
        ("request --no-check --timeout 5s --verb status", "-r -t 5s -v status"),
        ("request --no-check --timeout 0", "-r"),
        ("receive", ""),
        ("receive --verb a,b --id x --from K --timeout 1m", "-v a,b -u x -p K -t 1m"),
        ("receive --to com.**", "-D com.**"),
        ("receive --any-destination --once", "-d -o"),
        ("receive --verb a --verb b ./script --to x -- y", "-v a,b ./script --to x -- y"),
        ("receive -- send", "-- send"),
    ],
)
def test_both_syntaxes_give_the_same_options(typed, legacy):
    assert arguments.read(typed.split()) == flags.read(legacy.split())


def test_a_request_has_a_limit_of_30_seconds():
    assert arguments.read(["request"]) == Request(timeout=30.0, check=True)


def test_a_request_is_verbose_only_with_the_option():
    assert arguments.read(["request", "--verbose"]) == Request(timeout=30.0, check=True, verbose=True)
    with pytest.raises(UsageError):
        arguments.read(["send", "--verbose"])


def test_send_can_limit_the_time_to_connect():
    assert arguments.read(["send", "--timeout", "2s"]) == Send(timeout=2.0)


def test_the_log_format_is_an_option():
    assert arguments.read(["receive", "--log-format", "json"]) == Receive(log_format="json")


def test_the_broker_has_a_directory_and_a_port():
    assert arguments.read(["broker", "--data", "d"]) == Broker(data="d")
    assert arguments.read(["broker", "--data", "d", "--port", "0"]) == Broker(data="d", port="0")
    assert arguments.read(["demo"]) == Demo()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("send --nosuch", r"^unrecognized arguments: --nosuch$"),
        ("receive --to x --any-destination", "not allowed with"),
        ("broker --data", "--data: expected one argument"),
        ("receive --log-format xml", "invalid choice"),
    ],
)
def test_mistakes_are_usage_errors_whose_hint_names_the_help_of_the_command(typed, message):
    with pytest.raises(UsageError, match=message) as caught:
        arguments.read(typed.split())
    assert caught.value.hint == f"remaphore {typed.split()[0]} --help lists the options"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("ping com.a --count 1 com.b", "NODES"),
        ("request a --to com.a b", "PAYLOAD"),
        ("peer add a --verbs x b", "LINE"),
    ],
)
def test_words_that_options_separate_get_a_hint(typed, words):
    with pytest.raises(UsageError, match=f"^unrecognized arguments: {typed.split()[-1]}$") as caught:
        arguments.read(typed.split())
    assert caught.value.hint == f"write {words} in one place, before or after the options"


def test_the_hint_is_that_of_the_argument_if_it_has_one():
    for typed, message, hint in (
        ("request --timeout 5", "missing unit in duration '5'", "add a unit, for example 5s"),
        ("explain --at x", "'x' is not a Unix time", "write 1700000000, 1700000000.5 or nanoseconds"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            arguments.read(typed.split())
        assert caught.value.hint == hint


def test_the_hint_names_the_action_too():
    with pytest.raises(UsageError) as caught:
        arguments.read(["peer", "remove", "--nosuch", "d"])
    assert caught.value.hint == "remaphore peer remove --help lists the options"
    with pytest.raises(UsageError) as caught:
        arguments.read(["peer", "remove"])
    assert caught.value.hint == "remaphore peer remove --help lists the options"


def all_commands(parser):
    """Yield the name and parser of each command, and of each action beneath one."""
    for action in parser._actions:
        for name, inner in action.choices.items() if isinstance(action, argparse._SubParsersAction) else ():
            yield name, inner
            yield from ((f"{name} {nested}", parser) for nested, parser in all_commands(inner))


TREE = dict(all_commands(arguments.make_tree()))


@pytest.mark.parametrize("name", TREE)
def test_no_option_with_one_value_has_two_or_an_empty_one(name):
    found = 0
    for action in TREE[name]._actions:
        if not action.option_strings or action.nargs == 0:
            continue
        option = action.option_strings[-1]
        with pytest.raises(UsageError, match="its value is empty") as caught:
            arguments.read([*name.split(), option, ""])
        assert caught.value.hint == "write its value, or omit the option"
        if isinstance(action, argparse._StoreAction):
            found += 1
            value = next(iter(action.choices or ("1",)))
            value = "1s" if action.metavar == "TIME" and option != "--at" else value
            with pytest.raises(UsageError, match="given twice"):
                arguments.read([*name.split(), option, value, f"{option}={value}"])
    assert found or name not in ("send", "request", "receive", "explain", "doctor", "init", "peer add")


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("name", TREE)
def test_the_help_fits_a_screen_wraps_at_the_terminal_and_ends_with_examples_that_can_be_pasted(
    name, columns, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as caught:
        arguments.read([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert text.startswith(f"usage: remaphore {name}")
    rest, _, examples = text.partition("\nexamples:\n")
    if columns == 80:
        assert len(text.splitlines()) <= 48
    assert max(map(len, rest.splitlines())) <= columns
    assert examples == "".join(f"  {line}\n" for line in TREE[name].example.splitlines())
    assert max(map(len, examples.splitlines())) <= 80
    for line in examples.splitlines():
        assert re.search(rf"\bremaphore {name}\b", line)


def test_a_default_is_named_in_parentheses():
    shown = {5.0: "5s", 30.0: "30s", 1.0: "1s", "**": "**"}
    for name, parser in TREE.items():
        for action in parser._actions:
            if action.default not in (None, False, "", [], argparse.SUPPRESS) and action.nargs not in (0, "*"):
                assert f"(default: {shown.get(action.default, action.default)}" in action.help, (name, action)


@pytest.mark.parametrize("words", ["peer list", "identity list", "config show", "peer permit a --allow b"])
def test_the_configuration_is_named_before_or_after_the_action(words):
    command, action, *rest = words.split()
    for before, after in ((["-c", "F"], []), ([], ["-c", "F"]), (["--config=F"], [])):
        assert arguments.read([command, *before, action, *after, *rest]).config == "F"
    assert arguments.read([command, action, *rest]).config is None
    with pytest.raises(UsageError, match="given twice"):
        arguments.read([command, "-c", "F", action, "-c", "G", *rest])
    assert arguments.typed_paths([command, "-c", "F", action, *rest]) == ["F"]


def test_an_action_without_a_configuration_takes_none():
    with pytest.raises(UsageError, match="reads no configuration"):
        arguments.read(["config", "-c", "F", "convert", "G"])
