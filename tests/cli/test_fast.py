"""The fast way means what the full command means, or leaves the line to it; and imports nothing on its way."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remaphore.agent import frames, place
from remaphore.cli import fast
from remaphore.cli.commands.request import Request
from remaphore.cli.commands.send import Send
from remaphore.cli.legacy import flags
from remaphore.errors import RemaphoreError
from remaphore.protocol.message import Reply
from tests.docs.pages import ROOT
from tests.harness.processes import SECONDS

SCRIPT = ROOT / "bin" / "remaphore"
# Modules of the fast way. Those that are built into the interpreter take nothing.
OWN = {"__future__", "_json", "_signal", "_socket", "remaphore", "remaphore.cli", "remaphore.cli.fast", "time"}

SIMPLE = ("-s", "--s", "-r", "-v", "-v=a, b", "-v=", "-D", "-D=com.**", "-u", "-u=", "-t", "-t=5s", "-t=0s", "--t=1m")
OTHERS = ("-s=1", "-t=1h2m", "-t=5", "-t=", "-t=-1s", "-c=x", "-S=x", "-p=x", "-o", "-d", "-C", "--agent=", "--direct")
REST = ("--agent=/a", "--", "-", "", "text", "a b", "-x", "---v", "ä\udcff", "5s", "--help")


@given(st.lists(st.sampled_from((*SIMPLE, *OTHERS, *REST)), max_size=6))
@example(["-s", "-v", "-s", "-t", "5s", "--", "-r"])
@example(["-r", "-t=00000000000000000000005s"])
@example(["-s", "-u", "", "x"])
def test_what_the_fast_way_reads_is_what_the_full_command_reads(arguments) -> None:
    wish = fast.parse(arguments)
    if wish is None:
        return
    options = flags.read(arguments)
    assert isinstance(options, Request | Send)
    limit = options.timeout if isinstance(options, Request) else fast.BROKER_SECONDS
    seconds = fast._seconds(wish["t"]) or None if "r" in wish and "t" in wish else None
    encoded = fast.encode(wish, fast.BROKER_SECONDS if "s" in wish else seconds)
    assert encoded is not None
    (_, head), (_, payload) = frames.Decoder(frames.FROM_CLIENT).feed(encoded)
    assert json.loads(head) == {
        "v": frames.VERSION,
        "op": frames.SEND if isinstance(options, Send) else frames.REQUEST,
        "verb": options.verb,
        "to": options.to,
        "id": options.id,
        "timeout": limit,
    }
    assert payload == options.payload.encode(errors="surrogateescape")
    assert (options.config, options.subject, options.key, options.direct) == (None, "", "", False)
    assert options.agent == wish.get("agent")


@pytest.mark.parametrize("arguments", [["-s", "x"], ["-r", "-t", "5s", "-D", "a.**"], ["--agent=/a", "-s"]])
def test_common_lines_take_the_fast_way(arguments):
    assert fast.parse(arguments) is not None


def test_what_does_not_fit_into_the_frames_is_left_to_the_full_command():
    large = "x" * (frames.MAX_PAYLOAD_BYTES + 1)
    assert fast.encode({"s": "", "payload": large}, 10) is None
    assert fast.encode({"s": "", "payload": "", "u": "x" * frames.MAX_HEAD_BYTES}, 10) is None


USERS = {"root": 0, "we": 12345, "another": 999}


def make_socket(folder, owner, mode):
    """Make `remaphore/agent.sock` in *folder*, and return its path."""
    place = folder / "remaphore"
    place.mkdir(parents=True)
    for each in (place, folder):
        os.chown(each, USERS[owner], -1)
        each.chmod(mode)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place / "agent.sock"))
    return str(place / "agent.sock")


def find(environ, named):
    try:
        return place.find(environ, named=named or None)
    except RemaphoreError:
        return None  # it reports this, and goes no other way


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
def test_the_fast_way_takes_a_socket_where_the_full_command_takes_the_same_and_nowhere_else(tmp_path, monkeypatch):
    modes = (0o755, 0o775, 0o777)
    sockets = [make_socket(tmp_path / f"{owner}-{mode:o}", owner, mode) for owner in USERS for mode in modes]
    own = tmp_path / "own" / ".config" / "remaphore"
    own.mkdir(parents=True)
    (own / "remaphore.toml").touch()
    paths = ("", *sockets, str(tmp_path / "none" / "remaphore" / "agent.sock"))
    monkeypatch.setattr(fast, "connect", lambda path: path if Path(path).exists() else Path(path).stat())
    monkeypatch.setattr(fast, "exchange", lambda path, *_rest, **_options: path)
    taken = set()
    pairs = [*itertools.product(("",), paths, paths), *((named, "", path) for named in paths[1:] for path in paths)]
    homes = (tmp_path, tmp_path / "own")
    for user, (named, variable, below), home in itertools.product(("root", "we"), pairs, homes):
        runtime = below.removesuffix("/remaphore/agent.sock")
        environ = {"HOME": str(home), "REMAPHORE_AGENT": variable, "XDG_RUNTIME_DIR": runtime}
        monkeypatch.setattr(os, "geteuid", lambda user=user: USERS[user])
        quick = fast.run(["-s", *(["--agent", named] if named else [])], environ)
        assert quick == (find(environ, named) if home == tmp_path or user == "root" else None), environ
        taken.add((user, quick is not None))
    assert taken == {("root", True), ("root", False), ("we", True), ("we", False)}


@contextmanager
def answering(*answer: bytes, reads=True):
    """A socket in a directory of root, where each connection gets *answer* and its end. Yields the path."""
    with tempfile.TemporaryDirectory(prefix="answer") as folder, socket.socket(socket.AF_UNIX) as listener:
        Path(folder).chmod(0o755)
        listener.bind(f"{folder}/agent.sock")
        listener.listen(8)

        def answer_all():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while reads and len(list(frames.Decoder(frames.FROM_CLIENT).feed(connection.recv(2**20)))) < 2:
                        pass
                    connection.sendall(b"".join(answer))

        thread = threading.Thread(target=answer_all)
        thread.start()
        try:
            yield f"{folder}/agent.sock"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)


def run(*words, before=(), **options):
    """Run the script with *words* to its end. before: options of the interpreter."""
    given = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    command = [sys.executable, *before, SCRIPT, *words]
    return subprocess.run(command, stderr=subprocess.PIPE, timeout=SECONDS, check=False, **given)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the directory of the socket must be root's")
END = frames.encode_end(0)


@as_root
@pytest.mark.parametrize("way", [("-s", "x"), ("-r", "-t", "5s", "x")])
def test_nothing_is_imported_before_the_answer(way):
    with answering(frames.encode_reply(Reply(0, b"fine", peer="com.example.a")) if "-r" in way else b"", END) as path:
        ran = run("--agent", path, *way, before=("-X", "importtime"))
    assert ran.returncode == 0
    lines = [line for line in ran.stderr.decode().splitlines() if line.startswith("import time:")]
    imported = [line.rpartition("|")[2].strip() for line in lines]
    assert "site" in imported
    assert set(imported[imported.index("site") + 1 :]) <= OWN


@as_root
@pytest.mark.parametrize(
    ("answer", "code", "out", "err"),
    [
        ((frames.encode_reply(Reply(None, b"\xc2\xa0NO_DATA\n", peer="a")), END), 0, b"a,NO_DATA\n", b""),
        ((frames.encode_reply(Reply(3, b" x \x1f\n", peer="a")), END), 0, b"a,3, x \x1f\n", b""),
        ((frames.encode_reply(Reply(0, b"\xff", peer="a"), cut=9), END), 0, b"a,0,\xff\n", b"9 bytes"),
        ((frames.encode(frames.NOTICE, b"away\x1b["), END), 0, b"", b"remaphore: away\\x1b["),
        ((frames.encode_end(1, dropped={"not-bound": 2, "not-asked": 1}),), 1, b"", b"3 replies were dropped"),
        ((frames.encode_end(3, error="no", hint="do"),), 3, b"", b"remaphore: error: no\nremaphore: hint: do\n"),
        ((frames.encode_end(2, error="no", kind="usage"),), 2, b"", b"remaphore: error: no\n"),
        ((), 3, b"", b"may or may not have been sent"),
        ((frames.encode_json(frames.ASKED, {}),), 3, b"", b"the message was sent, later replies are lost"),
        ((END[:-1],), 3, b"", b"may or may not have been sent"),
    ],
)
def test_what_the_agent_answers_is_printed_as_the_full_command_prints_it(answer, code, out, err):
    with answering(*answer) as path:
        ran = run("--agent", path, "-r", "-t", "9s")
    assert (ran.returncode, ran.stdout) == (code, out)
    assert err in ran.stderr
    assert bool(err) == bool(ran.stderr)


@as_root
def test_an_output_of_several_lines_is_framed_by_a_tag_of_this_command():
    reply = frames.encode_reply(Reply(0, b"a\nb", peer="com.a"))
    with answering(reply, reply, END) as path:
        tags = [run("--agent", path, "-r").stdout.split()[1] for _ in range(2)]
        shown = run("--agent", path, "-r").stdout
    tag = shown.split()[1]
    assert len({tag, *tags}) == 3
    assert shown == 2 * (b"--> %b\ncom.a,0,a\nb\n--< %b\n" % (tag, tag))


@as_root
def test_an_agent_that_refuses_before_it_has_read_all_is_heard():
    with answering(frames.encode_end(3, error="too many", kind="busy"), reads=False) as path:
        ran = run("--agent", path, "-s", "x" * 100_000)
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (3, b"remaphore: error: too many")


@as_root
def test_a_stdout_that_cannot_be_written_ends_it_as_it_ends_the_full_command():
    with answering(frames.encode_reply(Reply(0, b"x", peer="a")), END) as path:
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as closed, Path("/dev/full").open("wb") as full:
            ran = run("--agent", path, "-r", stdout=closed)
            assert (ran.returncode, ran.stderr) == (141, b"")
            ran = run("--agent", path, "-r", stdout=full)
    assert ran.returncode == 3
    assert ran.stderr.startswith(b"remaphore: error: cannot write output: No space left")


@as_root
def test_a_stdout_that_is_non_blocking_gets_all():
    output = b"x" * 500_000
    with answering(frames.encode_reply(Reply(0, output, peer="a")), END) as path:
        read, write = os.pipe()
        os.set_blocking(write, False)
        with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb") as writer:
            command = [sys.executable, SCRIPT, "--agent", path, "-r"]
            process = subprocess.Popen(command, stdout=writer, stdin=subprocess.DEVNULL)
            writer.close()
            assert reader.read() == b"a,0," + output + b"\n"
        assert process.wait(SECONDS) == 0


@contextmanager
def asked(*words):
    """Run the command that *words* begin with the script; yield its process, and its connection once it has asked."""
    with tempfile.TemporaryDirectory(prefix="answer") as folder, socket.socket(socket.AF_UNIX) as listener:
        Path(folder).chmod(0o755)
        listener.bind(f"{folder}/agent.sock")
        listener.listen(1)
        command = [*words, sys.executable, SCRIPT, "--agent", f"{folder}/agent.sock", "-r"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(2**20)
            yield process, connection


BLOCK = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [{}]); os.execv(sys.argv[1], sys.argv[1:])"


@as_root
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_exit_code_of_the_full_command_also_if_the_caller_blocks_it(number):
    with asked(sys.executable, "-c", BLOCK.format(int(number))) as (process, _):
        process.send_signal(number)
        assert process.wait(SECONDS) == 128 + number


@as_root
def test_an_ignored_signal_stays_ignored():
    with asked("sh", "-c", 'trap "" INT; exec "$@"', "sh") as (process, connection):
        process.send_signal(signal.SIGINT)
        connection.sendall(END)
        assert process.wait(SECONDS) == 0
