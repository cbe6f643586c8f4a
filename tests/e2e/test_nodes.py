"""Bad surroundings: a full disk, a read-only folder, a kill in between, a pipe without a reader.

Whatever happens, there is one line of error, and each file is as it was or as it should be.
"""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.cli.main import EXIT_PIPE, main
from remaphore.config import peer_line, search
from tests.harness.factories import make_key
from tests.harness.fleet import SECONDS

RIGHT = peer_line.write(destination="com.right", key=make_key(2).public)
ADD = ["peer", "add", "--verbs", "ping", *RIGHT.split()]
CONF = (
    "server: nats://a:4222\ncredentials: c\ndestination: d\n"
    f"[Identities]\n{make_key(1).public} {make_key(1).reveal()} [ping]\n"
)


@pytest.fixture
def left(tmp_path, monkeypatch, capsys):
    """The configuration of com.left; the folder is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMAPHORE_CONFIG", str(tmp_path / "left.toml"))
    assert main(["init", "--destination", "com.left"]) == 0
    capsys.readouterr()
    yield tmp_path / "left.toml"
    for folder in (tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())):
        folder.chmod(0o700)


def run(words, *, program=("-m", "remaphore"), **options):
    done = subprocess.run(
        [sys.executable, *program, *words],
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options},
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rejected(done, *parts, code=2):
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("remaphore: error: ", "remaphore: hint: "))]
    assert [line.split(": ")[1] for line in lines] in (["error"], ["error", "hint"]), done.stderr
    for part in parts:
        assert any(part in line for line in lines)


# What a process does to itself before it becomes the command: see `run`.
THEN = "os.execv(sys.executable, [sys.executable, '-m', 'remaphore', *sys.argv[1:]])"
FULL_DISK = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40)); {THEN}"
# Modes hold for root, too: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH are removed from what an exec can grant.
UNPRIVILEGED = f"""import ctypes, os, sys
for capability in (1, 2) if os.geteuid() == 0 else ():
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
{THEN}"""


@pytest.mark.parametrize(
    "words",
    [
        ADD,
        [*ADD, "--drop-in"],
        ["identity", "add"],
        ["init", "-c", "new.toml", "--destination", "com.new"],
        ["init", "-c", "deep/new.toml", "--destination", "com.new"],
        ["keygen", "new.key"],
        ["config", "convert", "old.conf"],
    ],
    ids=" ".join,
)
def test_a_disk_that_is_full_changes_nothing(left, words):
    (left.parent / "old.conf").write_text(CONF)
    before = contents(left.parent)
    rejected(run(words, program=("-c", FULL_DISK)), "cannot be written: File too large", "hint: nothing was changed")
    assert contents(left.parent) == before
    assert not (left.parent / "deep").exists()


@pytest.mark.parametrize(
    "words",
    [ADD, ["identity", "add"], ["init", "-c", "new.toml", "--destination", "com.new"], ["keygen", "new.key"]],
    ids=" ".join,
)
def test_a_folder_that_is_read_only_is_named(left, words):
    before = contents(left.parent)
    left.parent.chmod(0o555)
    rejected(
        run(words, program=("-c", UNPRIVILEGED)),
        str(left.parent) if words[0] != "keygen" else "new.key",
        "Permission denied",
    )
    left.parent.chmod(0o755)
    assert contents(left.parent) == before


def test_a_drop_in_that_we_may_not_read_is_named(left):
    (left.parent / "peers.d").mkdir()
    (left.parent / "peers.d" / "a.toml").touch(mode=0)
    rejected(
        run(["peer", "list"], program=("-c", UNPRIVILEGED)),
        f"{left.parent}/peers.d/a.toml: peers: cannot be read: Permiss",
    )
    (left.parent / "peers.d").chmod(0)
    rejected(
        run(["peer", "list"], program=("-c", UNPRIVILEGED)), f"{left.parent}/peers.d: peers: cannot be read: Permission"
    )


def test_edits_at_the_same_time_are_all_made(left):
    lines = [peer_line.write(destination=f"com.new{number}", key=make_key(number).public) for number in (5, 6)]
    started = [
        subprocess.Popen([sys.executable, "-m", "remaphore", *words], stdout=subprocess.DEVNULL)
        for words in (*(["peer", "add", "--verbs", "ping", line] for line in lines), ["identity", "add"])
    ]
    assert [process.wait(SECONDS) for process in started] == [0, 0, 0]
    config = search.load(str(left), {})
    assert {peer.destination for peer in config.peers} == {"com.new5", "com.new6"}
    assert len(config.identities) == 2


@pytest.mark.parametrize(
    "words", [ADD, ["peer", "remove", "com.old"], ["peer", "permit", "com.old", "--allow", "status"]], ids=" ".join
)
def test_a_kill_before_the_rename_leaves_the_old_file(left, words, capsys):
    assert main(["peer", "add", "--compatibility", "legacy", "--verbs", "ping", "com.old", make_key(3).public]) == 0
    before = left.read_bytes()
    kill = "import os, signal, sys; os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    done = run(words, program=("-c", f"{kill}; from remaphore.cli.main import main; main(sys.argv[1:])"))
    assert done.returncode == -signal.SIGKILL
    assert left.read_bytes() == before
    assert run(words).returncode == 0
    assert left.read_bytes() != before


def test_init_continues_after_a_kill_between_its_files(left, capsys):
    kill = (
        "import os, signal, sys; link = os.link\n"
        "os.link = lambda a, b: link(a, b) if b.suffix == '.key' else os.kill(os.getpid(), signal.SIGKILL)\n"
        "from remaphore.cli.main import main; main(sys.argv[1:])"
    )
    words = ["init", "-c", "new.toml", "--destination", "com.new"]
    assert run(words, program=("-c", kill)).returncode == -signal.SIGKILL
    assert not (left.parent / "new.toml").exists()
    assert "already existed, and is used" in run(words).stderr
    assert search.load("new.toml", {}).identity().load()


@pytest.mark.parametrize(
    "words", [["peer", "list"], ["peer", "show"], ["config", "show"], ["keygen", "x.key"]], ids=" ".join
)
def test_a_closed_pipe_ends_the_command_as_it_ends_others(left, words):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(words, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (EXIT_PIPE, "")


@pytest.mark.parametrize("words", [["peer", "list"], ["--help"], ["peer", "--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_an_error(left, words):
    with Path("/dev/full").open("w") as full:
        rejected(run(words, stdout=full), "cannot write output: No space left on device", code=3)


def test_a_peer_line_is_pasted_at_a_terminal_and_ended_by_control_d(left):
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "remaphore", "peer", "add", "--verbs", "ping"], stdin=theirs, stderr=subprocess.PIPE
        )
        assert b"paste the peer line" in process.stderr.readline()
        os.write(ours, f"{RIGHT}\n\x04".encode())
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(SECONDS) == 0, said
    finally:
        os.close(ours)
        os.close(theirs)
    assert [peer.destination for peer in search.load(str(left), {}).peers] == ["com.right"]


def test_a_daemon_keeps_its_peers_if_a_drop_in_is_invalid_and_applies_it_once_it_is_fixed(fleet):
    config = fleet.config("one", extra="[plugins]\n", peers=[])
    config.write_text('state_dir = "state"\n' + config.read_text())
    (fleet.folder / "peers.d").mkdir()
    drop_in = fleet.folder / "peers.d" / "two.toml"
    daemon = fleet.start("run", "-c", config, "--hooks", fleet.folder / "hooks.d")
    drop_in.write_text("[[peers]]\n")
    daemon.popen.send_signal(signal.SIGHUP)
    assert f"{drop_in}: peers[0].destination: missing" in daemon.wait_for("reload_rejected")
    drop_in.write_text(f'[[peers]]\ndestination = "com.example.two"\nkey = "{make_key(2).public}"\nverbs = ["ping"]\n')
    daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for("reloaded peers=1")
    asked = fleet.run("-r", "-c", fleet.config("two"), "-D", "com.example.one", "-t", "20s")
    assert asked.stdout.startswith("com.example.one,0,remaphore ")
    assert daemon.stop()[0] == 0
