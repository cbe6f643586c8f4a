"""What commands say to people, on stderr: stdout is for results only."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from remaphore.config.search import load
from remaphore.config.settings import Config
from remaphore.errors import KeyFormatError, UsageError
from remaphore.protocol import keys, subject

if TYPE_CHECKING:
    from remaphore.cli.options.receiving import Receive
    from remaphore.protocol.gate import Filters


def say(line: str) -> None:
    """Write one line to stderr. It may quote a server or a file, so control characters are written out."""
    from remaphore.logs import escape

    sys.stderr.write(f"remaphore: {escape(line)}\n")
    sys.stderr.flush()


def load_config(path: str | None) -> Config:
    """Load the configuration that *path*, the environment or the system names, and say what is odd in it."""
    config = load(path, os.environ)
    for warning in config.warnings:
        say(f"warning: {warning.what}")
        say(f"hint: {warning.hint}")
    return config


def check(*, key: str, subject_name: str) -> None:
    """Raise UsageError for a key that is none, or for a subject that cannot be one."""
    problem = subject.problem(subject_name) if subject_name else None
    if problem:
        hint = "use words joined by dots, such as remaphore"
        raise UsageError(f"subject {subject_name!r}: {problem}", hint=hint)
    if key:
        try:
            keys.decode_public(key)
        except KeyFormatError as error:
            from remaphore.config.peer_line import secret_problem

            secret = secret_problem(key)
            if secret is not None:
                raise UsageError(secret.what, hint=secret.hint) from None
            raise UsageError(f"the given public key does not parse: {error}", hint=error.hint) from None


def filters(options: Receive) -> Filters:
    """Return what the receiver with these *options* waits for."""
    from remaphore.protocol.gate import Filters
    from remaphore.protocol.message import uuid_from_text

    return Filters(
        pattern=options.pattern or None,
        any_destination=options.any_destination,
        uuid=uuid_from_text(options.id) if options.id else None,
        verbs=frozenset(options.verbs) or None,
        sender=options.key or None,
    )


def settle_in() -> None:
    """Prepare for a long life: what was loaded so far stays, what comes will be collected (see `main.command`).

    The transport is loaded now, because what is loaded later is looked through again and again. Nothing is collected:
    that takes as long as the interpreter's start, for some hundred objects that imports leave behind.
    """
    import_module("remaphore.transport.nats_client")

    gc.freeze()
    gc.enable()
