"""Texts that make an expression or a scanner search the same bytes again and again.

Attacker: a responder, by its output; a permitted peer, by verb, destination and time; the broker, by its errors and
INFO; anyone who writes a file that remaphore reads. What must happen: the work is linear in the length of the text, so
that a reply of 240 KB takes milliseconds and not an hour. CPU time is compared at two lengths of the same text.
"""

import ast
import contextlib
import gc
import io
import re
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore import Message, Reply, logs, nodeset
from remaphore import text as shown
from remaphore.cli import arguments, completers, selection
from remaphore.config import checks, creation, editing, identities, legacy, peer_line, roundtrip, show, toml
from remaphore.diagnostics import credentials as jwt
from remaphore.diagnostics import pinger, systemd_units
from remaphore.errors import RemaphoreError
from remaphore.protocol import duration, keys, match, ping, subject, wire
from remaphore.protocol.message import uuid_from_text
from remaphore.protocol.peers import Peer
from remaphore.transport import credentials, nats_reader, servers
from remaphore_plugins.metrics import settings as metrics_settings
from remaphore_plugins.reply_collector import formats, json_formats, request_stats, terminal
from tests.harness.factories import bounded, make_key
from tests.harness.nodes import make_config

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parents[2]
SHORT, TWICE = 128 * 1024, 256 * 1024
MOST = 2.5  # times the work for twice the text
NOTICEABLE = 0.015  # seconds; less than that measures the machine; quadratic work takes longer

KEY = make_key(1)
REQUEST = Message(sender="k", destination="**", verb="v", uuid=b"u", time_ns=0, digest=bytes(32))
HEAD = 'destination="com.a"\nservers=["nats://a"]\nauth="none"\n'
IDENTITY = f'[[identities]]\nkey="{KEY.public}"\nprivate_key_file="a"\nverbs=["a"]\n'
PEER = f'[[peers]]\ndestination="com.a%d"\nkey="{KEY.public}"\nverbs=["a"]\n'
CONF = "server: a\ncredentials: a\ndestination: com.a\n"
CONF_IDENTITY = f"[ Identities ]\n{KEY.public} {KEY.reveal()} [a]\n"


def repeated(piece, head="", tail=""):
    """Return a function that makes a text of a length: *head*, *piece* again and again, *tail*."""

    def make(length):
        if "%d" not in piece:
            return head + (piece * (length // len(piece) + 1))[:length] + tail
        parts, size = [], 0
        for number in count():
            if size >= length:
                return head + "".join(parts) + tail
            parts.append(piece % number)
            size += len(parts[-1])
        return ""

    return make


def octets(text):
    return text.encode(errors="surrogateescape")


def reply(text):
    return Reply.parse(b"1," + octets(text), peer="com.a")


class Tty(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self):
        return True


def shown_folded(text):
    form, counted = formats.Fold(terminal=Tty(), color=True), request_stats.RequestStats(["com.a"])
    counted.requested(["com.a"])
    counted.reply(reply(text))
    form.reply(REQUEST, reply(text))
    form.end(counted)


def as_document(text):
    form = json_formats.Json()
    form.reply(REQUEST, reply(text))
    form.end(request_stats.RequestStats(["com.a"]))


def parse_toml(text):
    return toml.parse(text, "x", Path("/"))


def parse_frame(verb="v", destination="a", time_ns="1", uuid="00"):
    return wire.decode(octets(f"key,signature,{destination},{time_ns},{uuid},{verb},Q,payload"))


def complete(text):
    peers = (Peer(destination=text, key="k", verbs=frozenset()),)
    return list(completers.patterns(completers.Line(replace(make_config(1), peers=peers), sending=True)))


def check_new(text):
    peers = [Peer(destination=name, key=name, verbs=frozenset()) for name in text.split(",")]
    editing._check_new(make_config(1), peers, rotate=False)


def log_line(text):
    for log_format in ("console", "json"):
        event = {"event": "e", "value": text, "exception": text}
        logs._Renderer(log_format, None)(None, "info", event)


def denied(text):
    return nats_reader.DENIED.search(text)


def jwt_of(text):
    return jwt.decode_claims("a." + text + ".c")


# Everything that text of a peer, a broker, a configuration or another file reaches: the worst that was found for it.
SCANNERS = {
    "terminal": (lambda text: terminal.for_terminal(octets(text)), ["\x1b]", "\x1b[0", "\x1b[ ", "\x1bPx\x1b", "\x9b"]),
    "terminal, one string": (
        lambda text: terminal.for_terminal(octets(text)),
        [repeated("\x1b]", tail="\x07"), repeated("\x1b]x\x07"), repeated("x", head="\x1b]", tail="\x1b\\\x1b]")],
    ),
    "terminal, not UTF-8": (lambda text: terminal.for_terminal(octets(text)), ["\udcff\x1b]", "\udcff", "é"]),
    "wrap": (lambda text: shown.wrap(shown.escape(text), 80, indent=4), ["a ", "a", "\u3000", "\u0301", "\x00"]),
    "JSON": (shown.to_json, ["\udcff", "\U0001f600", '"', "\x7f"]),
    "clip": (lambda text: terminal.clip(text, 80), ["a", "\u0301", "中"]),
    "rejection": (lambda text: request_stats.classify(reply("remaphore: refused: " + text)), ["\x1b]", "\u0301", ": "]),
    "lines": (
        lambda text: formats.Lines(terminal=Tty()).reply(REQUEST, reply(text)),
        ["\x1b]", "\n", " ", "\udcff", "a", "\u0301", "\t", "\x85", "\u200b"],
    ),
    "fold": (shown_folded, ["\x1b]", "\n", "\u0301"]),
    "jsonl": (lambda text: json_formats.JsonLines().reply(REQUEST, reply(text)), ["\x1b]", "\udcff", "\n"]),
    "json": (as_document, ["\x1b]", "\udcff"]),
    "names, folded": (
        lambda text: nodeset.fold(text.split(",")),
        ["com.dc1.rack1,", "com.db.%d,", "1.", "1,", "1", "a-"],
    ),
    "names of two numbers, folded": (
        lambda text: nodeset.fold(f"com.dc{n % 9}.rack{n}" for n in range(len(text) // 16)),
        ["a"],
    ),
    "names of other characters": (lambda text: nodeset.fold(f"a {n}" for n in range(len(text) // 4)), ["a"]),
    "version": (lambda text: pinger.reported_version(octets(text)), ["remaphore ", "remaphore 1", "1"]),
    "invocation": (lambda text: ping.parse_reply(octets(text)), [repeated("a", "remaphore 1, up "), "remaphore "]),
    "log line": (log_line, ["\x1b", "\n", "\u2028", "é", " a", " a=", "a"]),
    "message": (lambda text: wire.decode(octets(text)), [",", "a"]),
    "time": (lambda text: parse_frame(time_ns=text), ["f", "1", "0"]),
    "uuid": (lambda text: parse_frame(uuid=text), ["f"]),
    "destination of a message": (lambda text: parse_frame(destination=text), [".", "a."]),
    "pattern": (lambda text: match.matches("com.example.a", text), ["*.", "*", "a.*"]),
    "pattern and name": (lambda text: match.matches(text, text + "*.**"), ["a.", "a"]),
    "public key": (lambda text: keys.decode_exact(octets(text), keys.PUBLIC_KEY_BYTES), ["1", "z"]),
    "private key": (keys.PrivateKey.from_text, ["z"]),
    "seed of NATS": (keys.is_nats_seed, [repeated("A", head="SU")]),
    "id": (uuid_from_text, ["a"]),
    "error of a server": (lambda text: servers.explain(Exception("nats: " + text), source="", timeout=1), ["account "]),
    "error of the system": (lambda text: servers.explain(OSError(text), source="", timeout=1), ["[Errno 1", "[Errno "]),
    "denial": (denied, ["permissions violation for publish to ", 'permissions violation for publish to "']),
    "address": (servers.parse, ["//", "nats://", "@", repeated("é.", "nats://"), repeated("[", "nats://")]),
    "discovered address": (lambda text: servers.discovered(text, servers.parse("tls://a.b")), ["//", "1."]),
    "credentials": (lambda text: credentials.parse(text, "x"), ["BEGIN NATS USER JWT\n", "\n", "a."]),
    "JWT": (
        lambda text: credentials.parse(f"BEGIN NATS USER JWT\n{text}\nBEGIN USER NKEY SEED\nSU", "x"),
        ["a", "a.", "-"],
    ),
    "claims": (jwt_of, ["W1tb", "a"]),
    "TOML": (
        lambda text: toml.document(text, "x"),
        ["a=1\n", "[", "a.", '"', "#", "[[a]]\n", "'''", '"""', "a%d.b=1\n"],
    ),
    "TOML, one key": (lambda text: toml.document(text + "a=1", "x"), ["a.", '"a".', "a . "]),
    "TOML, one table": (lambda text: toml.document(f"[{text}a]", "x"), ["a."]),
    "TOML, one value": (
        lambda text: toml.document("a=" + text, "x"),
        ["[", '"\\n', "{a=", "1", "1_", repeated("1", "0."), repeated("f", "0x"), "1" * 4300 + ","],
    ),
    "error of TOML": (toml._POSITION.search, ["(at line 1", "(at line 1, column ", "1"]),
    "configuration": (lambda text: parse_toml(HEAD + text + IDENTITY), ["k%d=1\n", "[verbs.v%d]\n", "[plugins.v%d]\n"]),
    "peers": (lambda text: parse_toml(HEAD + IDENTITY + text), [PEER]),
    "servers": (lambda text: parse_toml(HEAD.replace('"nats://a"', text) + IDENTITY), ['"nats://a%d",']),
    "plugins": (lambda text: parse_toml(f"{HEAD}{IDENTITY}[plugins]\nenable=[{text}]\n"), ['"p%d",']),
    "verbs": (lambda text: parse_toml(HEAD + IDENTITY.replace('["a"]', f"[{text}]")), ['"v%d",']),
    "address of a configuration": (checks.server_problem, [repeated("é.", "nats://"), "//", "@"]),
    "duration": (duration.parse, ["1h", "1.1h", "1", "9."]),
    "subject": (subject.problem, [".", "a."]),
    "legacy configuration": (
        lambda text: legacy.parse(text, "x"),
        [
            repeated(f"com.a%d {KEY.public} [a]\n", f"{CONF}{CONF_IDENTITY}[ Peers ]\n"),
            "a",
            "[a]\n",
            "#",
            "server: a\n",
        ],
    ),
    "secret of a plugin": (lambda text: show._without_secrets({text: 1}), [repeated("pass", tail="file"), "passfile"]),
    "peer lines": (lambda text: peer_line.read_all(text, "x", bare=True), [f"com.a {KEY.public}\n", "a ", "\n"]),
    "peer lines that are new": (check_new, ["com.a%d,"]),
    "secret by mistake": (peer_line.secret_problem, ["SA", "z"]),
    "private key by mistake": (arguments._PRIVATE_KEY.search, ["z" * 79 + " ", "z"]),
    "edited configuration": (
        lambda text: roundtrip.append(text, [Peer(destination="z", key=KEY.public, verbs=frozenset("a"))], "x"),
        [PEER, "\n", " \r\n"],
    ),
    "configuration with identities": (
        lambda text: identities._tables(text.split("\n")),
        ["[[identities]]\n", "[[identities]]\nk\n\n", "\n", " ", "[[" + " "],
    ),
    "completed patterns": (complete, ["a.", "a"]),
    "node set": (nodeset.expand, ["1,", "[1,", "[", "]", "[1]", "[1-2],", "a,", "a", " "]),
    "list of destinations": (lambda text: selection._COMMENT.sub("", text), ["#", " #", " ", "a"]),
    "natural order": (shown.natural_key, ["1", "1a", "0"]),
    "host name": (creation.destination_of, ["-", "a.", "_."]),
    "unit file": (lambda text: list(systemd_units.command_problems(text, Path("/"))), ["a", "a ", "'", "\\a"]),
    "address of metrics": (metrics_settings._LISTEN.fullmatch, ["1.", repeated("a", "["), "["]),
}

# Modules with an expression, and what reaches it: a scanner of the table, or why its text has a bounded length.
EXPRESSIONS = {
    "remaphore/cli/commands/explain.py": "an argument, matched from its start to its end by classes without overlap",
    "remaphore/cli/arguments.py": SCANNERS["private key by mistake"],
    "remaphore/cli/commands/request.py": "an argument, of which ten characters are looked at",
    "remaphore/config/agent.py": "an address of the configuration, matched once by classes without overlap",
    "remaphore/config/creation.py": SCANNERS["host name"],
    "remaphore/config/editing.py": "at most 201 characters are looked at",
    "remaphore/config/identities.py": SCANNERS["configuration with identities"],
    "remaphore/config/peer_line.py": SCANNERS["secret by mistake"],
    "remaphore/config/tables.py": "at most 41 characters are looked at",
    "remaphore/config/toml.py": SCANNERS["error of TOML"],
    "remaphore/hooks/settings.py": "at most 41 characters are looked at",
    "remaphore/protocol/duration.py": SCANNERS["duration"],
    "remaphore/protocol/quorum.py": "at most 10 characters are looked at",
    "remaphore/protocol/record.py": "at most 65 characters are looked at",
    "remaphore/protocol/message.py": SCANNERS["lines"],
    "remaphore/diagnostics/folding.py": "a name of the configuration, without classes",
    "remaphore/logs.py": SCANNERS["log line"],
    "remaphore/nodeset.py": SCANNERS["node set"],
    "remaphore/requesting/suggestion.py": "names of 128 characters at most, and three stars",
    "remaphore/cli/selection.py": SCANNERS["list of destinations"],
    "remaphore/embedded/addresses.py": "an argument: at most 253 characters, or one class from its start to its end",
    "remaphore/embedded/logins.py": "an argument, matched from its start to its end by two classes",
    "remaphore/diagnostics/pinger.py": SCANNERS["version"],
    "remaphore/protocol/payloads.py": "1000 characters at most; what patterns may cost is bounded there",
    "remaphore/protocol/ping.py": SCANNERS["invocation"],
    "remaphore/protocol/status.py": "at most 65 characters are looked at",
    "remaphore/receiving/ledger/state.py": "at most 65 characters are looked at",
    "remaphore/text.py": SCANNERS["wrap"],
    "remaphore/transport/credentials.py": SCANNERS["JWT"],
    "remaphore/transport/nats_reader.py": SCANNERS["denial"],
    "remaphore/transport/parser.py": "once for each line, by classes without overlap, 8 KiB of it at most",
    "remaphore/transport/servers.py": SCANNERS["error of a server"],
    "plugins/remaphore_plugins/hooks_d/scan.py": "names of files, of 255 bytes at most",
    "plugins/remaphore_plugins/processes/first_line.py": "256 bytes of a file are looked at",
    "plugins/remaphore_plugins/processes/obstacles.py": "names of mount points, as the kernel lists them",
    "plugins/remaphore_plugins/metrics/settings.py": SCANNERS["address of metrics"],
    "plugins/remaphore_plugins/metrics/collector.py": "names of directories, of 255 bytes at most",
    "plugins/remaphore_plugins/reply_collector/terminal.py": SCANNERS["terminal"],
}


def seconds(scan, text):
    """Return the CPU time of *scan*, which may reject the text."""
    gc.disable()  # as commands have it at their start: its work grows with all objects that there are
    started = time.process_time()
    with contextlib.suppress(RemaphoreError, ValueError):
        scan(text)
    spent = time.process_time() - started
    gc.enable()
    return spent


def growth(scan, make):
    """Return how much more work twice the text is: the best of five pairs, or the first that is below MOST.

    What is quadratic is at 4 in each of them; what is linear is at 2, and above where a cache ends between the lengths.
    What is too quick to be measured counts as linear.
    """
    short, twice, best = make(SHORT), make(TWICE), 4.0
    for _ in range(5):
        first, second = seconds(scan, short), seconds(scan, twice)
        best = min(best, second / first if second > NOTICEABLE else 1.0)
        if best < MOST:
            break
    return best


@pytest.mark.parametrize("name", SCANNERS)
def test_work_is_linear_in_the_length_of_any_text_that_comes_from_outside(name):
    scanner, worst = SCANNERS[name]
    for piece in worst:
        make = piece if callable(piece) else repeated(piece)
        ratio = growth(scanner, make)
        assert ratio < MOST, ascii(piece)


PIECES = (
    *"a.*/@:,=[]{}\"'\\#-_%0 1\n\t\r\x00\x1b\x07\x85\x9b\u2028\u0301é中\udcff",
    *(
        "\x1b]",
        "\x1b[",
        "\x1b[0",
        "\x1bP\x07",
        "\x1b]x\x1b\\",
        "a.",
        "**.",
        "://",
        "//@",
        "[[",
        "''",
        '""',
        "\\\n",
        "a=1\n",
    ),
    *(
        "[a]\n",
        "1h",
        "0x",
        "1_",
        "SA",
        "pass",
        "passfile",
        "(at line 1",
        "remaphore 1",
        "[Errno 1",
        "account ",
        "a b c\n",
    ),
    *("[ Peers ]\n", "server: a\n", 'violation for publish to "', "BEGIN NATS USER JWT\n", "remaphore: refused: "),
)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCANNERS)
def test_work_is_linear_for_every_repeated_piece(name):
    scanner, _ = SCANNERS[name]
    for piece in PIECES:
        ratio = growth(scanner, repeated(piece))
        assert ratio < MOST, ascii(piece)


def test_every_expression_of_the_program_is_in_the_table():
    found = set()
    for path in [*(ROOT / "remaphore").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.Import) and "re" in [name.name for name in node.names] for node in ast.walk(tree)):
            found.add(str(path.relative_to(ROOT)))
    assert found == set(EXPRESSIONS)


SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\)|\x1b.?", re.DOTALL)


@bounded
@given(st.text("\x1b\x1b\x1b[]P\\\x07\x07m0;ab \n", max_size=40))
def test_what_is_removed_is_what_the_plain_expression_removes(text):
    assert terminal._without_sequences(text) == SEQUENCES.sub("", text)


@pytest.mark.parametrize(
    "name",
    ["password", "Token", "api_key", "key_file", "passfile", "seedir", "filekey", "auth", "pathauth", "file", ""],
)
def test_what_counts_as_the_name_of_a_secret_has_not_changed(name):
    plain = re.compile(r"(?i)(pass|secret|token|key|seed|credential|auth)(?!.*(file|dir|path)$)")
    assert (show._without_secrets("x", name) == show.HIDDEN) == bool(plain.search(name))
