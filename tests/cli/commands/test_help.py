"""`help` shows what `--help` shows, of remaphore, a command or an action, and names what was meant."""

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands import COMMANDS
from remaphore.cli.main import main
from remaphore.cli.overview import overview


def shown(capsys, *typed):
    try:
        code = main(typed)
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_without_a_word_it_is_the_overview(capsys):
    assert shown(capsys, "help") == (0, overview(), "")


@pytest.mark.parametrize("words", [*([name] for name in COMMANDS), ["peer", "add"], ["config", "show"]])
def test_it_is_the_help_of_the_command_or_action(words, capsys):
    code, out, err = shown(capsys, "help", *words)
    assert (code, err) == (0, "")
    assert out == shown(capsys, *words, "--help")[1]
    assert out.startswith(f"usage: remaphore {' '.join(words)}")


@pytest.mark.parametrize(
    ("typed", "error", "hint"),
    [
        ("nosuch", "remaphore has no command 'nosuch'", "remaphore --help shows what there is"),
        ("requst", "remaphore has no command 'requst'", "did you mean remaphore request?"),
        ("peer ad", "remaphore peer has no command 'ad'", "did you mean remaphore peer add?"),
        ("send now", "remaphore send has no command 'now'", "remaphore send --help shows what there is"),
        ("--nosuch", "unrecognized arguments: --nosuch", "remaphore help --help lists the options"),
    ],
)
def test_an_unknown_word_is_a_usage_error(typed, error, hint, capsys):
    assert shown(capsys, "help", *typed.split()) == (2, "", f"remaphore: error: {error}\nremaphore: hint: {hint}\n")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("send --verbs x", "did you mean --verb?"),
        ("request --tiemout=5s", "did you mean --timeout?"),
        ("receive --verbs x ./y", "did you mean --verb?"),
        ("request -t 5s", "did you mean --timeout?"),  # a flag of the Go program
        ("send -v deploy -D com.x", "did you mean --verb?"),
        ("receive -o", "did you mean --once?"),
        ("ping -o", "remaphore ping --help lists the options"),
        ("send --save x", "remaphore send --help lists the options"),
        ("broker --dta d", "did you mean --data?"),  # which is required
        ("peer permit --alow", "did you mean --allow?"),
        ("config convert --outptu=x", "did you mean --output?"),
        ("peer remove --al com.x", "did you mean --all?"),
        ("peer remove --verbs ping com.x", "remaphore peer remove --help lists the options"),  # an option of add
        ("peer ad x", "did you mean add?"),
        ("config shw", "did you mean show?"),
        ("completion bsh", "did you mean bash?"),
        ("receive --log-format jsn", "did you mean json?"),
        ("--vesion", "did you mean --version?"),
        ("-hlep", "did you mean --help?"),
        ("-x", "remaphore --help lists commands and options"),
    ],
)
def test_a_mistyped_option_or_choice_is_an_error_that_names_what_was_meant(typed, hint, capsys):
    code, out, err = shown(capsys, *typed.split())
    assert (code, out, err.splitlines()[-1]) == (2, "", f"remaphore: hint: {hint}")


def test_the_parser_of_every_command_is_that_of_the_tree():
    tree = arguments.make_tree().commands()
    assert {name: parser.format_help() for name, parser in tree.items()} == {
        name: arguments.make_parser(name).format_help() for name in COMMANDS
    }
