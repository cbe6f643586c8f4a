"""The original's flags as a parser, for who describes or completes them: reading is done by `cli.original`."""

from __future__ import annotations

from remaphore.cli.goflags import Kind
from remaphore.cli.original import FLAGS
from remaphore.cli.words.parsing import CONFIG_HELP, Parser

# By flag: what its value is called, and what it is for.
TEXTS = {
    "s": ("", "send a message and forget it"),
    "r": ("", "send a message and print the replies of all peers that it addresses"),
    "C": ("", "print an example configuration with a fresh key pair"),
    "c": ("FILE", CONFIG_HELP),
    "v": ("VERB[,VERB...]", "sending: the kind of message (default: ping); receiving: only these"),
    "u": ("TEXT", "sending: its id; receiving: only this id, and end after it"),
    "D": ("PATTERN", "sending: destinations (default: **); receiving: only messages sent to exactly this pattern"),
    "d": ("", "receiving: do not look at the destination"),
    "p": ("KEY", "sending: the identity that signs; receiving: only from this public key"),
    "S": ("NAME", "use the subject ROOT.NAME instead of ROOT.all"),
    "o": ("", "receiving: end after the first message"),
    "t": ("TIME", "-r, receiving: limit of it all, such as 5s or 1h2m3.5s (default: none)"),
}


def build() -> Parser:
    """Return the parser."""
    made = Parser(prog="remaphore", allow_abbrev=False, add_help=False)
    made.description = "Flags are Go's: -t 5s, -t=5s and --t 5s are the same, and options end at the first other word."
    made.epilog = "example: remaphore -u upload_done && aws s3 cp s3://bucket/bigfile ."
    for flag, (metavar, text) in TEXTS.items():
        if FLAGS[flag] is Kind.BOOL:
            made.add_argument(f"-{flag}", action="store_true", help=text)
        else:
            made.add_argument(f"-{flag}", metavar=metavar, dest="config" if flag == "c" else flag, help=text)
    made.add_argument("script", nargs="*", metavar="SCRIPT", help="receiving: run for each message; else the payload")
    return made
