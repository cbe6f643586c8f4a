"""The JSON document of a request in a file: `request --save` writes it, `request --retry` reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from remaphore.cli import sources
from remaphore.errors import RemaphoreError, UsageError

# Of a document that is read: a thousand outputs of 256 KiB. Such a file is held in memory several times.
MAX_DOCUMENT_BYTES = 256 * 1024 * 1024
_MODE = 0o600  # outputs of handlers may be confidential

_UNSUCCESSFUL = ("failed", "rejected", "missing", "not_asked")
_HINT = "name a file that remaphore request --save FILE or --json has written"


class Document(NamedTuple):
    """What is needed to ask again. unsuccessful: the destinations that failed, rejected, are missing, or not asked.

    verb: empty if nothing was sent, as with Ctrl-C while the broker is away.
    """

    verb: str
    unsuccessful: tuple[str, ...]


def read(path: str) -> Document:
    """Return what the document *path*, or stdin, states. Raise UsageError, also if it is not such a document."""
    try:
        raw = sources.read(path, what="document", limit=MAX_DOCUMENT_BYTES)
    except RemaphoreError as error:
        raise UsageError(f"--retry: {error}", hint=error.hint) from None
    path = sources.title(path)
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise UsageError(f"--retry: {path}: not a JSON document", hint=_HINT) from None
    try:
        verbs = {request["verb"] for request in value["requests"]}
        names = [name for kind in _UNSUCCESSFUL for name in value["summary"][kind]]
        (verb,) = verbs or {""}
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"--retry: {path}: not the document of a request", hint=_HINT) from None
    lists = all(isinstance(value["summary"][kind], list) for kind in _UNSUCCESSFUL)
    if not lists or not isinstance(verb, str) or not all(isinstance(each, str) and each for each in names):
        raise UsageError(f"--retry: {path}: not the document of a request", hint=_HINT)
    return Document(verb, tuple(dict.fromkeys(names)))


@dataclass(slots=True)
class Saver:
    """Writes the document to *path*. An *error* is kept, since the replies must be shown in any case."""

    path: Path
    error: RemaphoreError | None = field(default=None, init=False)

    def prepare(self) -> None:
        """Raise ConfigError if *path* cannot be written, so that nothing is sent then."""
        from remaphore.config.files import check_writable

        check_writable(self.path)

    def __call__(self, document: bytes) -> None:
        """Write *document*, in place of an earlier one."""
        from remaphore.config.files import write

        try:
            write(self.path, document.decode(), mode=_MODE)
        except RemaphoreError as error:
            hint = "the request has ended, and its replies are not saved: fix the cause before you ask again"
            self.error = RemaphoreError(f"--save: {error}", hint=hint)


def saver_of(path: str) -> Saver | None:
    """Return what writes to *path*; None if it is empty. Raise UsageError or ConfigError if that is not possible."""
    if path == sources.STDIN:
        raise UsageError("--save: - is not a file", hint="--json prints the document to stdout")
    saver = Saver(Path(path)) if path else None
    if saver is not None:
        saver.prepare()
    return saver
