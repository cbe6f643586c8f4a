"""The payload of the words `send` and `request`, if it stands in a file or comes from stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from remaphore.cli import console
from remaphore.errors import UsageError
from remaphore.protocol.wire import MAX_MESSAGE_BYTES


def read(source: str) -> bytes:
    """Return the bytes of the file *source*, or of stdin if it is `-`. Raises UsageError.

    No more is read than a message may have, so that an endless stream is an error and does not fill the memory.
    """
    try:
        data = _stdin() if source == "-" else _file(Path(source))
    except OSError as error:
        raise UsageError(
            f"the payload cannot be read from {_named(source)}: {error.strerror}; write @@ for a text with @"
        ) from None
    if len(data) > MAX_MESSAGE_BYTES:
        raise UsageError(
            f"the payload in {_named(source)} has more than {MAX_MESSAGE_BYTES} bytes, the most of a message"
        )
    return data


def _named(source: str) -> str:
    return "stdin" if source == "-" else source


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_MESSAGE_BYTES + 1)


def _stdin() -> bytes:
    if sys.stdin is None:  # closed by who started us
        raise UsageError("the payload cannot be read from stdin: it is closed")
    if sys.stdin.isatty():
        console.say("reading the payload from the terminal; end it with Ctrl-D at the begin of a line")
    return sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
