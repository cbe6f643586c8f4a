"""The same commands as words with long options, for people. A word counts only as the very first argument."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from remaphore.cli.options import (
    DEFAULT_VERB,
    Broker,
    Demo,
    Explain,
    Hooks,
    Options,
    Plugins,
    Receive,
    Request,
    Run,
    Send,
)
from remaphore.errors import UsageError
from remaphore.protocol import duration

REQUEST_SECONDS = 30.0
BROKER_PORT = 4222
FIRST_NANOSECONDS = 10**15  # as nanoseconds it is in 1970, as seconds thirty million years away
CONFIG_HELP = "configuration (default: /etc/remaphore/remaphore.toml)"


def read(words: Sequence[str]) -> Options:
    """Return what *words* ask for. Raises UsageError; `--help` prints and exits."""
    build, read_command = COMMANDS[words[0]]
    parser = _Parser(prog=f"remaphore {words[0]}", allow_abbrev=False)
    build(parser)
    return read_command(parser.parse_args(words[1:]))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _seconds(text: str) -> float | None:
    try:
        nanoseconds = duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return nanoseconds / duration.SECOND if nanoseconds > 0 else None


def _instant(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no Unix time; write 1700000000, 1700000000.5 or nanoseconds")
    whole, fraction = int(found[1]), found[2]
    if fraction is None and whole >= FIRST_NANOSECONDS:
        return whole
    return whole * duration.SECOND + int((fraction or "").ljust(9, "0"))


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help=CONFIG_HELP)
    parser.add_argument(
        "-S", "--subject", metavar="NAME", default="", help="use the subject ROOT.NAME instead of ROOT.all"
    )


def _build_sending(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    parser.add_argument("--to", metavar="PATTERN", default="**", help="destinations to reach, such as 'com.crypto.**'")
    parser.add_argument("--verb", default=DEFAULT_VERB, help=f"kind of message (default: {DEFAULT_VERB})")
    parser.add_argument("--id", metavar="TEXT", default="", help="name that receivers wait for")
    parser.add_argument("--from", dest="key", metavar="KEY", default="", help="public key of the identity that signs")
    parser.add_argument("payload", nargs="*", help="text to carry; words are joined by spaces")


def _build_send(parser: argparse.ArgumentParser) -> None:
    parser.description = "Send a message and forget it. Exit 0 once the broker has it."
    parser.epilog = "example: remaphore send --id upload_done"
    _build_sending(parser)
    parser.add_argument("--timeout", type=_seconds, metavar="TIME", help="limit to connect, such as 5s (at most 10s)")


def _build_request(parser: argparse.ArgumentParser) -> None:
    parser.description = "Send a message and print the replies of all peers that it addresses, as they arrive."
    parser.epilog = "example: remaphore request --to 'com.crypto.**' --verb deploy v42"
    _build_sending(parser)
    parser.add_argument(
        "--timeout", type=_seconds, metavar="TIME", default=REQUEST_SECONDS, help="limit of it all (30s)"
    )
    parser.add_argument("--verbose", action="store_true", help="log each reply, and why one was not taken")


def _build_receive(parser: argparse.ArgumentParser) -> None:
    parser.description = "Wait for messages, and run SCRIPT for each as: SCRIPT ARG... VERB PAYLOAD."
    parser.epilog = "example: remaphore receive --id upload_done && aws s3 cp s3://bucket/bigfile ."
    _common(parser)
    parser.add_argument(
        "--verb", dest="verbs", metavar="VERB[,VERB...]", action="append", help="only these (repeatable)"
    )
    parser.add_argument("--id", metavar="TEXT", default="", help="only this id; implies --once")
    parser.add_argument("--from", dest="key", metavar="KEY", default="", help="only from this public key")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--to", metavar="PATTERN", default="", help="only messages sent to exactly this pattern")
    where.add_argument("--any-destination", action="store_true", help="do not look at the destination")
    parser.add_argument("--once", action="store_true", help="end after the first message")
    parser.add_argument("--timeout", type=_seconds, metavar="TIME", help="end after this time, such as 10m")
    _log_format(parser)
    parser.add_argument("script", nargs=argparse.REMAINDER, metavar="SCRIPT [ARG...]", help="command to run")


def _build_run(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the daemon: hooks.d/VERB/ for each message, and the enabled plugins. SIGHUP reloads."
    parser.epilog = "example: remaphore run --hooks /etc/remaphore/hooks.d"
    _daemon(parser)
    parser.add_argument("--instance", metavar="NAME", default="main", help="name of its state directory (main)")
    parser.add_argument("--check", action="store_true", help="only say whether it would start")
    _log_format(parser)


def _build_hooks(parser: argparse.ArgumentParser) -> None:
    parser.description = "List what the daemon would run, in order, with its argv, and what it would not, and why."
    parser.epilog = "example: remaphore hooks deploy"
    _daemon(parser)
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("verb", metavar="VERB", nargs="?", default="", help="only this one")


def _build_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = "Say check by check why a message would be taken or not, what decides it, and what would run."
    parser.epilog = "exit code: 0 all accepted; 1 one was rejected; 2 usage or configuration"
    _daemon(parser)
    parser.add_argument("files", metavar="FILE", nargs="*", help="one message each, as it was sent (default, -: stdin)")
    parser.add_argument("--base64", action="store_true", help="each line of a FILE is one message in base64")
    parser.add_argument(
        "--at",
        type=_instant,
        metavar="TIME",
        help="arrival, in Unix seconds (1700000000, 1700000000.5), or from 10^15 on in nanoseconds (default: now)",
    )
    parser.add_argument("--json", action="store_true", help="one object a line")
    question = parser.add_argument_group("without a message: would this be taken?")
    question.add_argument("--from", dest="sender", metavar="KEY|DESTINATION", default="", help="the peer that signs")
    question.add_argument("--verb", metavar="VERB", help=f"kind of message (default: {DEFAULT_VERB})")
    question.add_argument("--to", metavar="PATTERN", help="destinations that it is for (default: **)")
    receiver = parser.add_argument_group("filters of the receiver (the daemon has none)")
    where = receiver.add_mutually_exclusive_group()
    where.add_argument("-D", dest="pattern", metavar="PATTERN", default="", help="only exactly this pattern")
    where.add_argument("-d", dest="any_destination", action="store_true", help="do not look at the destination")
    receiver.add_argument("-u", dest="id", metavar="TEXT", default="", help="only this id")
    receiver.add_argument("-v", dest="verbs", metavar="VERB[,VERB...]", action="append", help="only these")
    receiver.add_argument("-p", dest="key", metavar="KEY", default="", help="only from this public key")


def _build_plugins(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the installed plugins, their hooks, and why one cannot be loaded; each is imported."
    parser.epilog = "exit code: 0; 1 if one that is enabled cannot be loaded"
    parser.add_argument("-c", "--config", metavar="FILE", help=CONFIG_HELP)
    parser.add_argument("--json", action="store_true", help="one object a line")


def _daemon(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help=CONFIG_HELP)
    parser.add_argument(
        "--hooks", metavar="DIR", action="append", help="handlers; repeatable, later ones replace earlier ones by name"
    )


def _log_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-format", choices=("console", "json"), default="console", help="of what goes to stderr")


def _build_broker(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a NATS broker on this machine's loopback, with authentication, until interrupted."
    parser.epilog = "example: remaphore broker --data ./broker    (needs: pip install 'remaphore[embedded]')"
    parser.add_argument(
        "--data", metavar="DIR", required=True, help="folder for its keys and credentials; made if absent"
    )
    parser.add_argument("--port", type=int, default=BROKER_PORT, help=f"TCP port, 0 for a free one ({BROKER_PORT})")


def _build_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show the main job on this machine: a broker, a sender and three receivers. Leaves nothing behind."
    )


def _read_send(given: argparse.Namespace) -> Send:
    return Send(**_sending(given))


def _read_request(given: argparse.Namespace) -> Request:
    return Request(**_sending(given))


def _sending(given: argparse.Namespace) -> dict[str, Any]:
    return {**vars(given), "payload": " ".join(given.payload)}


def _read_receive(given: argparse.Namespace) -> Receive:
    script = given.script[1:] if given.script[:1] == ["--"] else given.script
    return Receive(
        config=given.config,
        subject=given.subject,
        verbs=_verbs(given.verbs),
        once=given.once or bool(given.id),
        id=given.id,
        timeout=given.timeout,
        any_destination=given.any_destination,
        pattern=given.to,
        key=given.key,
        script=tuple(script),
        log_format=given.log_format,
    )


def _verbs(groups: Sequence[str] | None) -> tuple[str, ...]:
    verbs = (verb.strip() for group in groups or () for verb in group.split(","))
    return tuple(filter(None, verbs))


def _read_run(given: argparse.Namespace) -> Run:
    return Run(**{**vars(given), "hooks": tuple(given.hooks or ())})


def _read_hooks(given: argparse.Namespace) -> Hooks:
    return Hooks(**{**vars(given), "hooks": tuple(given.hooks or ())})


def _read_explain(given: argparse.Namespace) -> Explain:
    if given.sender and (given.files or given.base64):
        raise UsageError("--from asks about a message that is not there; give either it or a message")
    if not given.sender and (given.verb is not None or given.to is not None):
        raise UsageError("--verb and --to belong to a question; add --from KEY|DESTINATION (filters are -v and -D)")
    return Explain(
        receiver=Receive(
            config=given.config,
            verbs=_verbs(given.verbs),
            id=given.id,
            any_destination=given.any_destination,
            pattern=given.pattern,
            key=given.key,
        ),
        hooks=tuple(given.hooks or ()),
        files=tuple(given.files),
        base64=given.base64,
        at=given.at,
        sender=given.sender,
        verb=DEFAULT_VERB if given.verb is None else given.verb,
        to="**" if given.to is None else given.to,
        json=given.json,
    )


def _read_plugins(given: argparse.Namespace) -> Plugins:
    return Plugins(**vars(given))


def _read_broker(given: argparse.Namespace) -> Broker:
    return Broker(given.data, given.port)


def _read_demo(_given: argparse.Namespace) -> Demo:
    return Demo()


COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], Options]]] = {
    "send": (_build_send, _read_send),
    "request": (_build_request, _read_request),
    "receive": (_build_receive, _read_receive),
    "run": (_build_run, _read_run),
    "hooks": (_build_hooks, _read_hooks),
    "explain": (_build_explain, _read_explain),
    "plugins": (_build_plugins, _read_plugins),
    "broker": (_build_broker, _read_broker),
    "demo": (_build_demo, _read_demo),
}
