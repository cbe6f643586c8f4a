"""What a shell offers at TAB, in the shells themselves if they are installed; bash always is."""

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.extras import install_hint
from tests.docs.pages import ROOT
from tests.harness.factories import make_key

BIN = Path(sys.executable).parent
ONE, TWO = make_key(1).public, make_key(2).public
CONFIG = f"""
destination = "com.example.one"
servers = ["nats://127.0.0.1:4222"]
auth = "none"
hooks = ["hooks.d"]
[[identities]]
key = "{ONE}"
private_key_file = "one.key"
verbs = ["ping", "deploy"]
[[peers]]
destination = "com.example.us.two"
key = "{TWO}"
verbs = ["status"]
"""
# Calls the function that was registered, as bash does at TAB.
BASH = """
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete remaphore
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
autoload -U compinit && compinit -u -D
source <(remaphore completion zsh)
_describe() { printf '%s\\n' ${(P)2} }
BUFFER=$1 CURSOR=${#1} words=(remaphore)
_python_argcomplete
"""
FISH = """
remaphore completion fish | source
complete --do-complete $argv[1]
"""

SHELLS = {
    "bash": (["bash", "-c", "source <(remaphore completion bash)\n" + BASH, "bash"], TWO),
    "zsh": (["zsh", "-f", "-c", ZSH, "zsh"], f"{TWO}:com.example.us.two"),
    "fish": (["fish", "--no-config", "-c", FISH], f"{TWO}\tcom.example.us.two"),
}
WITHOUT = "import sys; sys.modules['argcomplete'] = None; from remaphore.cli import main; "


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hooks.d" / "restart").mkdir(parents=True)
    (tmp_path / "one.toml").write_text(CONFIG)
    (tmp_path / "one.toml").chmod(0o600)
    return tmp_path


def environment(folder, **variables):
    ours = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "REMAPHORE_CONFIG": str(folder / "one.toml")}
    return {**os.environ, **ours, **variables}


def typed(command, folder, **variables):
    env = environment(folder, **variables)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def script():
    """Return what `remaphore completion bash` prints."""
    command = [sys.executable, "-m", "remaphore", "completion", "bash"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def offered(folder, script):
    def offered(line, **variables):
        answer = typed(["bash", "-c", script + BASH, "bash", line], folder, **variables)
        return {word.strip().replace("\\", "") for word in answer.splitlines() if word.strip()}

    return offered


# What the words of a line offer next.
OFFERS = {
    "remaphore re": {"request", "receive"},
    "remaphore completion ": {"bash", "zsh", "fish"},
    "remaphore ver": {"version"},
    "remaphore help req": {"request"},
    "remaphore help pe": {"peer"},
    "remaphore help peer ": {"add", "permit", "remove", "list", "show"},
    "remaphore help config c": {"convert"},
    "remaphore help send ": set(),
    "remaphore run --lo": {"--log-format"},
    "remaphore send --verb ": {"ping", "deploy"},
    "remaphore receive --verb ": {"ping", "deploy", "status", "restart"},
    "remaphore receive --verb ping,st": {"ping,status"},
    "remaphore hooks re": {"restart"},
    "remaphore request --to com.example.": {"com.example.**", "com.example.us.two", "com.example.us.**"},
    "remaphore send --to com.a,com.example.us.t": {"com.a,com.example.us.two"},
    "remaphore request --except com.example.us.t": {"com.example.us.two"},
    "remaphore request --to com.[1,": set(),
    "remaphore request --retry o": {"one.toml", "one.key"},
    "remaphore request --save one.k": {"one.key"},
    "remaphore send --to-file one.k": {"one.key"},
    "remaphore send --from ": {ONE},
    "remaphore receive --from ": {TWO},
    "remaphore wait --from com.example.": {"com.example.us.two", "com.example.us.**", "com.example.**"},
    "remaphore wait --verb ping,re": {"ping,restart"},
    "remaphore wait --count ": {"all"},
    "remaphore request --require a": {"all"},
    "remaphore request --batch ": set(),
    "remaphore wait --timeout ": set(),
    "remaphore explain --from ": {TWO, "com.example.us.two"},
    "remaphore send --config o": {"one.toml", "one.key"},
    "remaphore run --hooks h": {"hooks.d/"},
    "remaphore -s -v ": {"ping", "deploy"},
    "remaphore -r -D com.example.u": {"com.example.us.two", "com.example.us.**"},
    "remaphore -s -p ": {ONE},
    "remaphore -p ": {TWO},
    "remaphore -c one.t": {"one.toml"},
    "remaphore peer ": {"add", "permit", "remove", "list", "show"},
    "remaphore peer permit com.example.us.two --allow ping,re": {"ping,restart"},
    "remaphore identity default ": {ONE},
    "remaphore peer remove com": {"com.example.us.two"},
    "remaphore peer add --verbs ping,re": {"ping,restart"},
    "remaphore ping com.example.us.t": {"com.example.us.two"},
    "remaphore config convert one.k": {"one.key"},
    "remaphore send --timeout ": set(),
}


@pytest.mark.parametrize(
    "line", ["remaphore re", "remaphore request --to com.[1,", "remaphore -s -v ", "remaphore send --config o"]
)
def test_bash_offers_what_can_come_next(line, offered, folder):
    (folder / "one.key").touch()
    assert offered(line) == OFFERS[line]


# One process for all lines: each is completed in a copy of it, in which all modules have been imported.
COMPLETE_EACH = """
import os, sys
import argcomplete
from remaphore.cli import arguments, completers
from remaphore.cli.commands import completion
from remaphore.cli.legacy import description
completers.attach(arguments.make_tree())
completers.load(None, os.environ)
for number, line in enumerate(sys.argv[1:]):
    if not os.fork():
        os.environ |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": f"{number}.out"}
        completion.complete()
    os.wait()
"""


def test_each_place_of_a_line_offers_what_can_come_next(folder):
    (folder / "one.key").touch()
    shell = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "bash", "IFS": "\013"}
    typed([sys.executable, "-c", COMPLETE_EACH, *OFFERS], folder, **shell)
    said = [(folder / f"{number}.out").read_text() for number in range(len(OFFERS))]
    words = [{word.strip().replace("\\", "") for word in text.split("\013") if word.strip()} for text in said]
    assert dict(zip(OFFERS, words, strict=True)) == OFFERS


def until(terminal, wanted):
    """Read the output of the terminal until *wanted* is in it."""
    seen = b""
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], 50)
        assert ready, f"no {wanted!r} after {seen!r}"
        seen += os.read(terminal, 4096)


def test_the_tab_key_in_a_terminal_completes_the_line(folder):
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=folder,
        env=environment(folder, TERM="dumb", PS1="> "),
        start_new_session=True,
    )
    try:
        os.close(inside)
        os.write(terminal, b"source <(remaphore completion bash); echo so''urced\n")
        until(terminal, b"sourced")
        os.write(terminal, b"remaphore request --to com.example.us.t\t")
        until(terminal, b"com.example.us.two ")
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def test_the_configuration_of_the_line_overrides_that_of_the_environment(offered, folder):
    (folder / "other.toml").write_text(CONFIG.replace("deploy", "wipe"))
    (folder / "other.toml").chmod(0o600)
    assert offered("remaphore send --config other.toml --verb ") == {"ping", "wipe"}
    assert offered("remaphore -s -c other.toml -v ") == {"ping", "wipe"}


def test_an_unusable_configuration_offers_nothing_and_prints_nothing(offered, folder):
    assert offered("remaphore send --to ", REMAPHORE_CONFIG=str(folder / "nosuch.toml")) == set()
    assert offered("remaphore sen", REMAPHORE_CONFIG=str(folder / "nosuch.toml")) == {"send"}


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shutil.which(shell)])  # .ci/run installs them all
def test_each_shell_offers_a_key_and_if_it_can_the_name_of_its_owner(shell, folder):
    command, expected = SHELLS[shell]
    assert typed([*command, "remaphore receive --from "], folder).strip() == expected


def test_the_line_that_a_shell_completes_is_not_run_without_the_library():
    asked = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": "remaphore --help"}
    code = WITHOUT + "sys.argv = ['remaphore', '--help']; main.command()"
    ran = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, b"")


def test_without_the_library_the_error_names_the_extra():
    code = WITHOUT + "sys.exit(main.main(['completion', 'bash']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[-1] == f"remaphore: hint: {install_hint('operator')}"


def test_the_marker_for_global_completion_is_at_the_start_of_the_script():
    # activate-global-python-argcomplete reads it
    assert "PYTHON_ARGCOMPLETE_OK" in (ROOT / "bin" / "remaphore").read_text()[:1024]
