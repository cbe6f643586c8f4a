"""A first word that is no command is the script of a receiver, if it can be one, and otherwise a typing mistake."""

import os
import subprocess
import sys

import pytest

from remaphore.cli import first_word
from remaphore.cli.commands import COMMANDS
from remaphore.cli.main import main
from remaphore.errors import UsageError
from tests.harness.factories import make_key


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, and in PATH a directory with a program, a file and a directory."""
    programs = tmp_path / "bin"
    (programs / "folder").mkdir(parents=True)
    (programs / "program").touch(mode=0o755)
    (programs / "file").touch(mode=0o644)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("requst --to com.x", "request"),
        ("requst --help", "request"),
        ("recieve --verb x ./y", "receive"),
        ("rn", "run"),
        ("Request", "request"),
        ("HELP", "help"),
        ("versoin", "version"),
        ("docter", "doctor"),
        ("demos", "demo"),
        ("confg show", "config"),
    ],
)
def test_a_mistyped_command_is_an_error_that_names_the_command(here, capsys, typed, meant):
    assert main(typed.split()) == 2
    word = typed.split()[0]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"remaphore: error: '{word}' is neither a command nor a program in PATH\n"
        f"remaphore: hint: did you mean remaphore {meant}?"
        f" (to wait with a script that is not in PATH yet: remaphore -- {word})\n"
    )


@pytest.mark.parametrize("word", ["xyzzy", "-", "", "file", "folder", "a b", "\x1b[2J"])
def test_a_word_that_is_like_no_command_is_an_error_too(here, word, capsys):
    assert main([word]) == 2
    _, err = capsys.readouterr()
    assert "is neither a command nor a program in PATH" in err
    assert "hint: remaphore --help lists the commands" in err
    assert "\x1b" not in err


def test_a_file_of_that_name_in_the_current_directory_is_not_run_and_the_hint_is_how_to(here):
    (here / "requst").touch(mode=0o755)
    with pytest.raises(UsageError, match="'requst' is neither") as caught:
        first_word.check("requst")
    assert (
        caught.value.hint == "did you mean remaphore request? (to run the file in this directory: remaphore ./requst)"
    )


@pytest.mark.parametrize("word", ["program", "./missing", "/nonexistent/script", "folder/x", *COMMANDS])
def test_commands_paths_and_programs_in_path_are_left_alone(here, word):
    first_word.check(word)


@pytest.mark.parametrize("path", ["", None])
def test_without_path_the_usual_directories_are_searched_as_for_the_script(here, monkeypatch, path):
    monkeypatch.setenv("PATH", path) if path is not None else monkeypatch.delenv("PATH")
    first_word.check("sh")
    with pytest.raises(UsageError):
        first_word.check("program")


def test_an_empty_part_of_path_is_the_current_directory_as_for_the_script(here, monkeypatch):
    (here / "requst").touch(mode=0o755)
    monkeypatch.setenv("PATH", ":/usr/bin")
    first_word.check("requst")


def test_a_private_key_is_not_repeated(here, capsys):
    assert main([make_key(3).reveal()]) == 2
    assert make_key(3).reveal() not in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed",
    [["-o", "requst"], ["--", "requst"], ["--", "help"], ["-v", "deploy", "requst"], ["./requst"], ["sh"], []],
)
def test_after_a_flag_or_a_slash_every_word_is_a_script_as_in_the_go_program(here, typed, capsys, monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    assert main(["-c", "/nonexistent/x.conf", *typed] if typed[:1] != ["--"] else typed) == 2
    err = capsys.readouterr().err
    assert "x.conf" in err or "configuration" in err  # it has come as far as to read it
    assert "neither" not in err


def test_a_line_of_flags_imports_nothing_for_this():
    code = (
        "import sys; from remaphore.cli.main import main; main(['-s', '-c', '/nonexistent/x.toml', 'requst']);"
        "print({'difflib', 'shutil', 'remaphore.cli.first_word'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
