"""Every error that remaphore raises on purpose.

One family, so that a caller can catch `RemaphoreError` and no exception of a library is passed on.
An error has two fields: the message, one line `what happened: detail`, and the hint, how to fix it. Neither ever
contains a private key or a payload. Exit codes are not decided here: `remaphore.cli.main` maps the classes to them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import ClassVar


class RemaphoreError(Exception):
    """Base of all errors of this package.

    hint: how to fix it, one line; the class's `default_hint` where the raising code has no better one. It is
    empty only for a class that states in `no_hint` why none can exist.
    """

    default_hint: ClassVar[str] = ""
    no_hint: ClassVar[str] = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.default_hint


class UsageError(RemaphoreError):
    """The command line, or an argument of the Python API, is invalid."""

    default_hint = "remaphore --help lists commands and options"


class ConfigError(RemaphoreError):
    """A configuration file, or a file that it names, cannot be used."""

    default_hint = "see man remaphore.toml"


class PluginError(RemaphoreError):
    """An enabled plugin cannot be loaded or configured."""

    default_hint = "remaphore plugins lists what is installed"


class DecodeError(RemaphoreError):
    """Bytes that are not a message of this protocol, or not in the one form that the encoder produces."""

    no_hint = "the bytes come from another machine; the receiver can only drop them"


class EncodeError(RemaphoreError):
    """Values that cannot be in a message, such as a comma in a verb."""

    default_hint = "use no commas in verbs and destinations; see docs/wire.md for their maximum lengths"


class KeyFormatError(RemaphoreError):
    """Text that is not a key: wrong alphabet, wrong length, or two halves that do not match."""

    default_hint = "copy the whole key, as remaphore peer show prints it"


class DurationError(RemaphoreError, ValueError):
    """Text that is not a duration in Go's notation."""

    default_hint = "write a number with a unit (ns, us, ms, s, m, h), such as 5s or 1h30m"


class NotPermittedError(RemaphoreError):
    """No identity of this node may send this verb."""

    default_hint = "add the verb to the verbs of an identity in the configuration"


class NoReceiversError(RemaphoreError):
    """No configured peer matches the destination of a request."""

    default_hint = "remaphore peer list shows the known destinations"


class AgentError(RemaphoreError):
    """The local agent cannot be used, or does not do what it is asked.

    kind: why, for programs, such as `refused` or `busy`, see docs; empty if it could not be asked.
    """

    default_hint = "remaphore agent --whoami shows what its rules permit you"

    def __init__(self, message: str = "", *, hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class StateError(RemaphoreError):
    """The state directory cannot be used, or another daemon uses it."""

    default_hint = "set state_dir to a directory that the daemon's user can write to"


class LedgerError(StateError):
    """The ledger cannot be written, so nothing may be executed: a start must be durable first."""


class LeaseLostError(RemaphoreError):
    """A lock was lost while it was held. by: the public key of the node that took it or ended the lease, or empty."""

    default_hint = "remaphore lock show NAME shows who holds it now"

    def __init__(self, message: str, *, by: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.by = by


class NotAcquiredError(RemaphoreError):
    """A lock was not to be had in time."""

    default_hint = "remaphore lock show NAME shows who holds it and who waits"


class TransportError(RemaphoreError):
    """The broker cannot be used. The subclasses distinguish what a caller can act on."""

    default_hint = "remaphore doctor tests the broker and the peers"


class BrokerUnavailableError(TransportError):
    """No server replied in time; trying again may help."""


class BrokerRefusedError(TransportError):
    """The broker or TLS rejected us: credentials, certificates, an invalid address. Trying again will not help."""


class SubjectDeniedError(TransportError):
    """The credentials do not permit publishing or subscribing to this subject."""


class NoRespondersError(TransportError):
    """No client answers requests on this subject now."""


class NoResponseError(TransportError):
    """No response came in time: the request may or may not have been carried out."""


class PayloadTooLargeError(TransportError):
    """A message is larger than the broker accepts."""


class ConnectionLostError(TransportError):
    """The connection ended before the broker confirmed: the message may or may not have been delivered."""


class CoordinationUnavailableError(RemaphoreError):
    """Locks cannot be used on this broker: JetStream, a stream or a permission is missing. A retry will not help."""

    default_hint = "remaphore doctor tests the broker"


class SequenceConflictError(RemaphoreError):
    """A record was not stored, because another one was stored on its subject first."""

    default_hint = "read the subject again"


# Of errors that say nothing about the file in whose use they occur.
_RESOURCE_HINTS = {
    errno.EMFILE: "raise LimitNOFILE of the unit, or ulimit -n",
    errno.ENFILE: "close files of other processes, or raise the sysctl fs.file-max",
    errno.ENOMEM: "free some memory, or raise its limit: MemoryMax of the unit, that of the container, or ulimit -v",
}


def resource_hint(error: BaseException) -> str:
    """Return the hint if *error* means that a resource of the process or machine is used up, else an empty string."""
    if isinstance(error, MemoryError):
        return _RESOURCE_HINTS[errno.ENOMEM]
    return _RESOURCE_HINTS.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def with_hint(text: str, hint: str) -> str:
    """Return *text* and *hint*, which may be empty, as one line, for places that have room for one line only."""
    return f"{text}; hint: {hint}" if hint else text


def _shown(error: BaseException) -> str:
    """Return the repr of *error*; of an OSError, whose repr lacks the path, its class and its text."""
    named = isinstance(error, OSError) and error.filename is not None
    return f"{type(error).__name__}: {error}" if named else repr(error)


def describe(error: BaseException, form: Callable[[BaseException], str] = _shown) -> str:
    """Return *form* of *error*, or the name of its class if that raises. Nothing that the error does makes this raise.

    The class of an exception may be a plugin's, and then its `__repr__`, `__str__` and attributes are code of a plugin.
    form: `str`, or a function that reads an attribute; the default shows the class as well.
    """
    try:
        return form(error)
    except BaseException as failure:  # noqa: BLE001 - sys.exit() in a __repr__ must not end its host
        return f"{type(error).__name__} (cannot be shown: {type(failure).__name__})"


def cause(error: BaseException) -> str:
    """Return *error* as one line, with its type unless it is a ValueError or one of ours, whose text is made for it."""
    text = " ".join(describe(error, str).split())
    if text and isinstance(error, (ValueError, RemaphoreError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def hint_of(error: BaseException) -> str:
    """Return the hint of *error*; empty if it has none, or none that can be read. Like `describe`, it never raises."""
    try:
        hint: object = error.hint if isinstance(error, RemaphoreError) else ""
    except BaseException:  # noqa: BLE001 - a class of a plugin may have a property, or not call our __init__
        return ""
    return hint if isinstance(hint, str) else ""
