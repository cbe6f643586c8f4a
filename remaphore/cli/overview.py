"""The text of `remaphore --help`, and its parts for the manual."""

from __future__ import annotations

from remaphore.cli.commands import COMMANDS
from remaphore.cli.main import EXIT_CODES, EXIT_SIGNAL

TITLE = "a remote semaphore: run something here after something happened there"
# Searched in this order; the first that is given or that exists is used.
CONFIGURATION = (
    "-c FILE",
    "$REMAPHORE_CONFIG",
    "~/.config/remaphore/remaphore.toml",
    "/etc/remaphore/remaphore.toml",
    "/etc/remaphore/remaphore.conf",
)
# One for each task, with the arguments that it accepts.
LEGACY_USAGE = """\
remaphore -s|-r [-c FILE] [-S SUBJECT] [-v VERB] [-u ID] [-p KEY] [-D PATTERN]
                [-t TIME] [PAYLOAD...]
remaphore [-c FILE] [-S SUBJECT] [-v VERB,...] [-o] [-u ID] [-t TIME] [-p KEY]
          [-d | -D PATTERN] [SCRIPT [ARG...]]
remaphore -C"""
EXAMPLE = """\
aws s3 cp bigfile s3://bucket/ && remaphore send --id upload_done
remaphore receive --id upload_done && aws s3 cp s3://bucket/bigfile ."""

_WIDTH = 80


_OTHERS = "4-6 see COMMAND -h", f"{EXIT_SIGNAL}+N signal N"


def overview() -> str:
    """Return the text, in lines of at most 80 columns."""
    width = max(map(len, COMMANDS))
    own = [f"{code} {meaning}" for code, meaning in EXIT_CODES.items() if code < EXIT_SIGNAL]
    lines = [
        f"remaphore: {TITLE}",
        "usage: remaphore COMMAND [OPTION...] [ARGUMENT...]",
        "",
        "commands:",
        *(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()),
        "",
        "Go-compatible syntax: -s sends, -r requests, otherwise it receives:",
        *(f"  {line}" for line in LEGACY_USAGE.splitlines()),
        "",
        _paragraph("configuration", ", ".join(CONFIGURATION)),
        _paragraph("exit codes", "; ".join([*own, *_OTHERS])),
        "",
        "example:",
        *(f"  {line}" for line in EXAMPLE.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def _paragraph(heading: str, text: str) -> str:
    """Return *text* behind its heading, wrapped. textwrap would be imported for this alone, at every --help."""
    lines = [f"{heading}:"]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(" ")
        lines[-1] += f" {word}"
    return "\n".join(lines)
