"""A description of the flags as a parser, for the manual and for completion. `flags.read` parses them."""

from __future__ import annotations

from remaphore.cli.arguments import CONFIG_HELP, Parser
from remaphore.cli.legacy.flags import FLAGS
from remaphore.cli.legacy.goflags import Kind

# By flag: the name of its value, and what it does.
TEXTS = {
    "s": ("", "send a message"),
    "r": ("", "send a message and print the replies"),
    "C": ("", "print an example configuration with a new key pair"),
    "c": ("FILE", CONFIG_HELP),
    "v": ("VERB[,VERB...]", "-s, -r: kind of message (default: ping); receiving: accept only these verbs"),
    "u": ("TEXT", "-s, -r: id of the message; receiving: accept only this id, and exit after the first message"),
    "D": (
        "PATTERN",
        "-s, -r: destinations (default: **); receiving: accept only messages to exactly this pattern",
    ),
    "d": ("", "receiving: accept any destination"),
    "p": ("KEY", "-s, -r: public key of the identity that signs; receiving: accept only messages of this key"),
    "S": ("NAME", "use the subject ROOT.NAME (default: ROOT.all)"),
    "o": ("", "receiving: exit after the first message"),
    "agent": ("PATH", "use the agent with this socket (default: the system's, if there is one)"),
    "direct": ("", "use the configuration, even if there is an agent"),
    "t": ("TIME", "-r, receiving: give up after TIME, such as 5s or 1h2m3.5s (default: no limit)"),
}


def describe() -> Parser:
    """Return the parser."""
    parser = Parser(prog="remaphore", add_help=False)
    parser.description = (
        "Without -s, -r and -C: wait for messages and run SCRIPT for each. The syntax is that of Go: -t 5s, -t=5s and"
        " --t 5s are the same, and flags end at the first argument that is not one."
    )
    parser.example = "remaphore -u upload_done && aws s3 cp s3://bucket/bigfile ."
    for flag, (metavar, text) in TEXTS.items():
        option = f"-{flag}" if len(flag) == 1 else f"--{flag}"  # two dashes mean the same, and these two are not Go's
        if FLAGS[flag] is Kind.BOOL:
            parser.add_argument(option, action="store_true", help=text)
        else:
            parser.add_argument(option, metavar=metavar, dest="config" if flag == "c" else flag, help=text)
    parser.add_argument(
        "script", nargs="*", metavar="SCRIPT", help="receiving: command to run for each message; -s, -r: the payload"
    )
    return parser
