"""The script on the command line of `receive`: what it is called with, what it sees, and what its end is as a reply.

All three are the original's, but for PATH, which that leaves out. Verb and payload are text that a peer chose: they
may begin with `-`, and may hold anything but a NUL byte.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence

from remaphore import Message, Reply
from remaphore_plugins.exec_script.process import Finished

# A reply is one message, and a broker takes 1 MiB unless told otherwise: half of it leaves room for all the rest.
OUTPUT_CAP = 512 * 1024

_NO_EXIT_CODE = -1
_NS_PER_SECOND = 1_000_000_000

_log = logging.getLogger("remaphore.exec-script")


def make_argv(command: Sequence[str], message: Message) -> list[bytes]:
    """Return *command*, the verb and the payload, as the bytes they came as."""
    return [*map(os.fsencode, command), _wire(message.verb), message.payload]


def make_environment(message: Message, *, path: str) -> dict[str, bytes]:
    """Return the whole environment of the script: *path* as its PATH, and what it may know of *message*."""
    environment = {
        "PATH": os.fsencode(path or os.defpath),
        "REMAPHORE_SENDER": _wire(message.sender),
        "REMAPHORE_VERB": _wire(message.verb),
        "REMAPHORE_TIME": b"%d" % (message.time_ns // _NS_PER_SECOND),
        "REMAPHORE_UUID": message.uuid.hex().encode(),
        "REMAPHORE_MSG": message.payload,
    }
    if message.own_destination:
        # The second name is a slip in an older text of the original, and scripts were written to it.
        environment |= dict.fromkeys(("REMAPHORE_DESTMATCH", "REMOPHORE_DESTMATCH"), _wire(message.own_destination))
    return environment


def make_reply(finished: Finished) -> Reply:
    """Return the reply to a run that ended so: -1 if it has no exit code of its own. Why it has none is logged."""
    reason = _why_no_exit_code(finished)
    if reason:
        _log.warning("script has no exit code, so the reply is -1: %s", reason)
    code = finished.exit_code
    return Reply(_NO_EXIT_CODE if reason or code is None else code, _output(finished))


def _why_no_exit_code(finished: Finished) -> str:
    if finished.exit_code is None:
        return finished.error
    if finished.stopped or finished.timed_out:
        return "ended, because remaphore is stopping" if finished.stopped else "ended, because its time was over"
    if finished.signal is not None:
        return f"killed by signal {finished.signal} ({signal.strsignal(finished.signal)})"
    return ""


def _output(finished: Finished) -> bytes:
    kept = len(finished.output)
    if finished.output_bytes == kept:
        return finished.output
    note = f"\nremaphore: output truncated: kept {kept} of {finished.output_bytes} bytes\n"
    return finished.output + note.encode()


def _wire(text: str) -> bytes:
    # Not os.fsencode: the locale decides there, and on the wire it is UTF-8 whatever the locale.
    return text.encode(errors="surrogateescape")
