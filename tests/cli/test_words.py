"""Words and long options give the same commands as the original's flags."""

import argparse
import re

import pytest

from remaphore.cli import original, words
from remaphore.cli.options.local import Broker, Demo
from remaphore.cli.options.receiving import Receive
from remaphore.cli.options.requesting import Request
from remaphore.cli.options.sending import Send
from remaphore.errors import UsageError


@pytest.mark.parametrize(
    ("people", "flags"),
    [
        ("send", "-s"),
        (
            "send --to com.* --verb deploy --id x --from K --config f --subject b a b",
            "-s -D com.* -v deploy -u x -p K -c f -S b a b",
        ),
        ("request --timeout 5s --verb status", "-r -t 5s -v status"),
        ("request --timeout 0", "-r"),
        ("receive", ""),
        ("receive --verb a,b --id x --from K --timeout 1m", "-v a,b -u x -p K -t 1m"),
        ("receive --to com.**", "-D com.**"),
        ("receive --any-destination --once", "-d -o"),
        ("receive --verb a --verb b ./script --to x -- y", "-v a,b ./script --to x -- y"),
        ("receive -- send", "-- send"),
    ],
)
def test_words_and_flags_ask_for_the_same(people, flags):
    assert words.read(people.split()) == original.read(flags.split())


def test_a_request_in_words_has_a_limit_of_30_seconds():
    assert words.read(["request"]) == Request(to="**", timeout=30.0)


def test_a_request_is_verbose_only_if_it_is_asked_to_be():
    assert words.read(["request", "--verbose"]) == Request(to="**", timeout=30.0, verbose=True)
    with pytest.raises(UsageError):
        words.read(["send", "--verbose"])


def test_a_send_in_words_can_limit_the_connecting():
    assert words.read(["send", "--timeout", "2s"]) == Send(to="**", timeout=2.0)


def test_the_log_format_is_chosen_by_a_long_option():
    assert words.read(["receive", "--log-format", "json"]) == Receive(log_format="json")


def test_the_broker_takes_its_folder_and_port():
    assert words.read(["broker", "--data", "d"]) == Broker("d", 4222)
    assert words.read(["broker", "--data", "d", "--port", "0"]) == Broker("d", 0)
    assert words.read(["demo"]) == Demo()


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ("send --nosuch", r"unrecognized arguments: --nosuch \(see remaphore send --help\)"),
        ("request --timeout 5", "missing unit in duration '5'"),
        ("receive --to x --any-destination", "not allowed with"),
        ("broker", "required: --data"),
        ("receive --log-format xml", "invalid choice"),
    ],
)
def test_mistakes_are_usage_errors_that_point_to_the_help(people, message):
    with pytest.raises(UsageError, match=message):
        words.read(people.split())


def with_nested(parser):
    """Each word, and each that stands beneath one."""
    for action in parser._actions:
        for name, inner in action.choices.items() if isinstance(action, argparse._SubParsersAction) else ():
            yield name
            yield from (f"{name} {nested}" for nested in with_nested(inner))


@pytest.mark.parametrize("word", [*with_nested(words.tree())])
def test_the_help_of_each_command_fits_one_screen_and_ends_with_an_example(word, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        words.read([*word.split(), "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert text.startswith(f"usage: remaphore {word}")
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 120
    example = " ".join(text.partition("\nexample: ")[2].split())
    assert re.match(rf"(eval \"\$\()?remaphore {word}\b", example)
