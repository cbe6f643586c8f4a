"""The plugin `reply-collector`: prints each reply to stdout as it arrives, in the original's format.

    destination,exit-code,output

A reply of several lines is framed by `-->` and `--<` and 32 hex characters, the same for all replies of one request,
which no responder can know beforehand. Files and pipes get the bytes; a terminal gets no control sequences.
"""

from __future__ import annotations

import re
import secrets
import sys

from remaphore import Message, Reply, hookimpl

_NONCE_BYTES = 16

# ECMA-48: CSI sequences; OSC, DCS, SOS, PM and APC strings up to BEL or ST; every other escape of two characters.
_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\)|\x1b.?", re.DOTALL)
# The control characters, and those of Unicode that end a line or turn the direction of what follows.
_CONTROLS = {
    code: None
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}


class ReplyCollector:
    """Writes replies to stdout, one at a time and whole."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(_NONCE_BYTES)

    @hookimpl
    def remaphore_reply(self, request: Message, reply: Reply) -> None:  # noqa: ARG002 - the hook's own arguments
        """Print *reply*."""
        text = reply.peer.encode() + b"," + reply.text
        if b"\n" in text:
            nonce = self._nonce.encode()
            text = b"--> %b\n%b\n--< %b" % (nonce, text, nonce)
        if sys.stdout.isatty():
            text = for_terminal(text)
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.buffer.flush()


def for_terminal(output: bytes) -> bytes:
    """Return *output* without control sequences and control characters, but for new lines and tabs."""
    text = _SEQUENCES.sub("", output.decode(errors="replace"))
    return text.translate(_CONTROLS).encode()
