"""Every error that remaphore raises on purpose.

One family, so that a caller can catch `RemaphoreError` and be sure that no library's own exception slips through.
Messages are one line: what happened, what decided it, what mends it. They never hold a private key or a payload.
Exit codes are no business of this module: `remaphore.cli.main` maps the classes to them.
"""

from __future__ import annotations


class RemaphoreError(Exception):
    """Base of all errors below."""


class UsageError(RemaphoreError):
    """The command line, or an argument of the Python API, makes no sense."""


class ConfigError(RemaphoreError):
    """A configuration file, or a file that it names, cannot be used."""


class PluginError(RemaphoreError):
    """An enabled plugin cannot be loaded or configured."""


class DecodeError(RemaphoreError):
    """Bytes that are no message of this protocol, or not in the one form that the encoder produces."""


class EncodeError(RemaphoreError):
    """Values that no message can carry, such as a comma in a verb."""


class KeyFormatError(RemaphoreError):
    """Text that is no key: wrong alphabet, wrong length, or halves that do not belong together."""


class NotPermittedError(RemaphoreError):
    """No identity of this node may send this verb."""


class NoReceiversError(RemaphoreError):
    """No configured peer matches the destination of a request."""


class StateError(RemaphoreError):
    """The state directory cannot be used, or another daemon holds it."""


class LedgerError(StateError):
    """What must be durable before it may be acted on cannot be written."""


class TransportError(RemaphoreError):
    """The broker cannot be used. The subclasses tell what a caller could decide on."""


class BrokerUnavailableError(TransportError):
    """No server answers, or not in time; trying again may help."""


class BrokerRefusedError(TransportError):
    """The broker, or TLS, says no: credentials, certificates, an address that cannot be. Trying again will not help."""


class SubjectDeniedError(TransportError):
    """The broker does not let these credentials publish or subscribe to this subject."""


class PayloadTooLargeError(TransportError):
    """A message is larger than the broker takes."""


class ConnectionLostError(TransportError):
    """The connection ended before the broker confirmed: the message may or may not have been delivered."""
