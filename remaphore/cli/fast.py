"""The command, and its fast way: `remaphore -s` and `-r` through the local agent, without any other module of ours.

A bare interpreter takes 11 ms, and each of typing, re, json, socket and argparse 4 to 9 more; so none of them is
imported before the answer of the agent. What is not as simple as most command lines are, such as another flag, another
configuration, a terminal, no agent, or one that cannot be reached, is left to the full command, which decides and
reports. Only once the message is written there is no way back: another way could send it twice.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812 - a class
    from collections.abc import Iterator, Mapping
    from types import FrameType
    from typing import NoReturn

    from remaphore.errors import RemaphoreError

# Seconds after its own limit in which the agent is given up: one that is stopped still accepts connections. For the
# broker it has 10 s, where the command line has no limit.
EXTRA_SECONDS = 5.0
BROKER_SECONDS = 10.0

_VERSION = 1  # of the protocol, whose frames are described in `remaphore.agent.frames`
_MAX_HEAD_BYTES, _MAX_PAYLOAD_BYTES, _READ_BYTES = 64 * 1024, 1024 * 1024, 256 * 1024
_KINDS, _MAX_FRAME_BYTES = b"MRNE", 16 * 1024 * 1024  # of frames that answer what is asked here

_BOOLS, _TEXTS = ("r", "s"), ("D", "agent", "t", "u", "v")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# What Go's strings.TrimFunc(unicode.IsSpace) trims, as in `remaphore.protocol.message`.
_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class _Stopped(BaseException):
    """A signal asks this process to end. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def command() -> NoReturn:
    """Run the command line of this process, and end the process.

    Until a way is found, SIGINT ends it as it ends a program in C: Python's traceback would say nothing.
    """
    import _signal  # type: ignore[import-not-found]

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        code = run(sys.argv[1:], os.environ)
    except _Stopped as stopped:
        code = 128 + stopped.number
    except Exception as error:  # noqa: BLE001 - whatever it is
        from remaphore.cli.main import report_defect

        code = report_defect(error)
    if code is None:
        from remaphore.cli.main import command as full

        full()
    os._exit(code)


def run(arguments: list[str], environ: Mapping[str, str]) -> int | None:
    """Return the exit code of *arguments* if they are simple, and an agent accepts the connection; else None."""
    wish = parse(arguments)
    if wish is None or not is_plain(environ) or ("r" in wish and os.isatty(1)):  # a terminal is shown other text
        return None
    seconds = _seconds(wish["t"]) or None if "r" in wish and "t" in wish else None
    if (request := encode(wish, BROKER_SECONDS if "s" in wish else seconds)) is None:
        return None
    connection = None
    for path in socket_paths(environ, os.geteuid(), wish.get("agent", "")):
        try:
            if not is_trusted(path, environ):
                return None
            connection = connect(path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        break
    if connection is None:
        return None
    return exchange(connection, path, request, seconds, waits="r" in wish)


def parse(arguments: list[str]) -> dict[str, str] | None:
    """Return the flags that are given, by name, and the `payload`; None if they are not simple, or not -s or -r."""
    wish: dict[str, str] = {}
    at = 0
    while at < len(arguments) and arguments[at][:1] == "-" and arguments[at] != "-":
        word = arguments[at]
        at += 1
        if word == "--":
            break
        name, equals, value = word[2 if word[:2] == "--" else 1 :].partition("=")
        if name in _BOOLS and not equals:
            wish[name] = ""
            continue
        if name not in _TEXTS or (not equals and at == len(arguments)):
            return None
        if not equals:
            value = arguments[at]
            at += 1
        if name == "t" and _seconds(value) is None:  # also where another one follows, which would count
            return None
        wish[name] = value
    if ("s" in wish) == ("r" in wish) or wish.get("agent") == "":
        return None
    wish["payload"] = " ".join(arguments[at:])
    return wish


def _seconds(text: str) -> float | None:
    """Return the seconds of a duration that is one whole number and a unit; None of another one."""
    number = text.rstrip("hms")
    unit = _UNITS.get(text[len(number) :])
    simple = unit is not None and number.isascii() and number.isdigit() and len(number) < 10
    return int(number) * unit if simple and unit is not None else None


def is_plain(environ: Mapping[str, str]) -> bool:
    """Return whether the environment and the streams make no difference, and no configuration stands before an agent.

    See `remaphore.cli.main` about completion, closed streams and encodings, and `remaphore.config.search` about the
    user's own configuration.
    """
    if "_ARGCOMPLETE" in environ or environ.get("REMAPHORE_CONFIG") or None in (sys.stdin, sys.stdout, sys.stderr):
        return False
    if sys.getfilesystemencoding() != "utf-8" or "remaphore_encoding" in sys._xoptions:  # noqa: SLF001 - documented
        return False
    home = environ.get("HOME", "")
    places = (environ.get("XDG_CONFIG_HOME", ""), home and f"{home}/.config")
    own = next((place for place in places if place[:1] == "/"), "")
    if not own or os.geteuid() == 0:
        return True
    try:
        os.stat(f"{own}/remaphore/remaphore.toml")
    except FileNotFoundError:
        return True
    except OSError:  # the full command knows whether it counts
        pass
    return False


def socket_paths(environ: Mapping[str, str], user: int, named: str = "") -> tuple[str, ...]:
    """Return where the socket of an agent may be; the first that exists counts. *user*: our uid. *named*: by --agent.

    No variable decides what root does. A runtime directory of another user is one that `su` has left in place.
    """
    if named or user == 0:
        return (named or "/run/remaphore/agent.sock",)
    if environ.get("REMAPHORE_AGENT"):
        return (environ["REMAPHORE_AGENT"],)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    try:
        ours = runtime[:1] == "/" and os.stat(runtime).st_uid == user
    except OSError:
        ours = False
    return (*([f"{runtime}/remaphore/agent.sock"] if ours else []), "/run/remaphore/agent.sock")


def is_trusted(path: str, environ: Mapping[str, str]) -> bool:
    """Return whether surely no other user can put a socket at *path*, as `remaphore.agent.place` examines and reports.

    Raise OSError.
    """
    info = os.stat(path.rpartition("/")[0] or ("/" if path[:1] == "/" else "."))
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    ours = info.st_uid == os.geteuid() and runtime[:1] == "/" and path.startswith(runtime + "/") and ".." not in path
    return (info.st_uid == 0 or ours) and not info.st_mode & 0o022


def connect(path: str) -> Socket:
    """Return the connection. Raise OSError; BlockingIOError if too many wait to be accepted for EXTRA_SECONDS."""
    from _socket import AF_UNIX, SOCK_STREAM, socket
    from time import monotonic, sleep

    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.settimeout(EXTRA_SECONDS)
    ends = monotonic() + EXTRA_SECONDS
    while True:
        try:
            connection.connect(path)
        except OSError as error:
            if not isinstance(error, BlockingIOError) or monotonic() > ends:
                connection.close()
                raise
            sleep(0.02)
        else:
            return connection


def encode(wish: dict[str, str], limit: float | None) -> bytes | None:
    """Return the frames that ask for *wish*, with the agent's *limit* in seconds; None if they would be too large."""
    from _json import encode_basestring_ascii as quote

    verb = next(filter(None, map(str.strip, wish.get("v", "").split(","))), "ping")
    head = f'{{"v":{_VERSION},"op":"{"send" if "s" in wish else "request"}","timeout":{limit or "null"}'
    for key, value in (("verb", verb), ("to", wish.get("D") or "**"), ("id", wish.get("u", ""))):
        head += f',"{key}":{quote(value)}'
    body = wish["payload"].encode("utf-8", "surrogateescape")
    if len(head) >= _MAX_HEAD_BYTES or len(body) > _MAX_PAYLOAD_BYTES:
        return None
    first = f"{head}}}".encode()
    return b"H" + len(first).to_bytes(4, "big") + first + b"P" + len(body).to_bytes(4, "big") + body


def exchange(connection: Socket, path: str, request: bytes, seconds: float | None, *, waits: bool) -> int:
    """Write *request*, print the answer, and return the exit code. seconds: the limit of a request that *waits*."""
    try:
        begin_signals()
        limit = BROKER_SECONDS if seconds is None else seconds
        frames = _frames(connection, request, limit + EXTRA_SECONDS, forever=waits and seconds is None)
        tag = b""
        sent = False
        for kind, body in frames:
            if kind == b"M":
                sent = True
            elif kind == b"R":
                tag = tag or os.urandom(16).hex().encode()
                _print_reply(body, tag)
            elif kind == b"N":
                from remaphore.cli.output import notice

                notice(body.decode(errors="replace"))
            elif kind == b"E":
                return _end(body)
        from remaphore.agent import place

        return _report(place.lost(path, place.SENT if sent else place.UNKNOWN))
    except ValueError as error:
        from remaphore.agent import place

        return _report(place.not_understood(path, error))
    except BrokenPipeError:
        return 141  # see `remaphore.cli.main`
    except OSError as error:
        from remaphore.errors import RemaphoreError

        what, hint = f"cannot write output: {error.strerror}", "free some space and run the command again"
        return _report(RemaphoreError(what, hint=hint))
    finally:
        connection.close()


def begin_signals() -> None:
    """Do what `interrupts.begin` does, whose module takes as long to import as the rest of this command takes."""
    import _signal

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Stopped(number)

    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGTERM):
        if number == _signal.SIGTERM or _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, stop)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _frames(connection: Socket, request: bytes, limit: float, *, forever: bool) -> Iterator[tuple[bytes, bytes]]:
    """Write *request*, and yield the frames of the answer, until the agent has gone or *limit* seconds have passed.

    forever: the limit is that of the first frame only. Raise ValueError for what is no frame of an answer.
    """
    from time import monotonic

    ends = monotonic() + limit
    buffer = b""
    try:
        connection.sendall(request)
    except OSError:  # it has gone, or has ended this without reading all, and what it wrote can be read
        pass
    while True:
        while len(buffer) < (end := _end_of_frame(buffer)):
            try:
                connection.settimeout(None if forever and ends == 0 else max(0.001, ends - monotonic()))
                more = connection.recv(_READ_BYTES)
            except OSError:  # the time is up, or the connection was reset
                return
            if not more:
                return
            buffer += more
        kind, body, buffer = buffer[:1], buffer[5:end], buffer[end:]
        if forever:
            ends = 0
        yield kind, body


def _end_of_frame(buffer: bytes) -> int:
    """Return where the first frame of *buffer* ends: after its header at least. Raise ValueError if it is none."""
    size = int.from_bytes(buffer[1:5], "big") if len(buffer) >= 5 else 0
    if buffer[:1] not in _KINDS or size > _MAX_FRAME_BYTES:
        raise ValueError(f"frame {buffer[:5]!r}")
    return 5 + size


def _print_reply(body: bytes, tag: bytes) -> None:
    """Print a reply as `Lines` of the plugin reply-collector does where stdout is no terminal. Raise OSError."""
    code, peer, about, output = body.split(b"\n", 3)
    text = (output if code == b"-" else code + b"," + output).decode(errors="surrogateescape").strip(_GO_SPACE)
    line = peer + b"," + text.encode(errors="surrogateescape")
    _write(b"--> " + tag + b"\n" + line + b"\n--< " + tag + b"\n" if b"\n" in line else line + b"\n")
    if b'"cut":' in about:
        from remaphore.agent import frames, place
        from remaphore.cli.output import notice

        notice(place.describe_cut(peer.decode(), frames.decode_json(about)["cut"]))


def _write(data: bytes) -> None:
    """Write *data* to stdout. Raise OSError."""
    while data:
        try:
            data = data[os.write(1, data) :]
        except BlockingIOError:  # the caller has made it non-blocking
            from select import POLLOUT, poll

            poller = poll()
            poller.register(1, POLLOUT)
            poller.poll()


def _end(body: bytes) -> int:
    """Return the exit code of the last frame, and report its error, or how many replies were dropped."""
    code, newline, about = body.partition(b"\n")
    if not newline or not code.isdigit():
        raise ValueError("an end without an exit code")
    if b'"error":' in about or b'"dropped":' in about:
        from remaphore.agent import frames
        from remaphore.cli.commands.request import notice_dropped
        from remaphore.errors import RemaphoreError

        end = frames.decode_end(body)
        notice_dropped(sum(end.get("dropped", {}).values()), receipts=False)
        if "error" in end:
            return _report(RemaphoreError(end["error"], hint=end.get("hint", "")), int(code))
    return int(code)


def _report(error: RemaphoreError, code: int = 3) -> int:
    from remaphore.cli.main import fail

    return fail(error, code)
