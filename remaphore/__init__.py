"""remaphore, the remote semaphore: processes on distributed machines wait for and start each other over NATS.

The names below are the public API, with those of `remaphore.testing`, `remaphore.text`, `remaphore.nodeset` and
`remaphore.trust`; no other name is. They are imported when first used (PEP 562), so that `remaphore --help` does not
import NATS.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of `typing`, whose import takes half as long as a bare interpreter; mypy knows the name
if TYPE_CHECKING:
    from remaphore.config.settings import Config as Config
    from remaphore.config.settings import VerbSettings as VerbSettings
    from remaphore.connecting import connect as connect
    from remaphore.errors import AgentError as AgentError
    from remaphore.errors import BrokerRefusedError as BrokerRefusedError
    from remaphore.errors import BrokerUnavailableError as BrokerUnavailableError
    from remaphore.errors import ConfigError as ConfigError
    from remaphore.errors import ConnectionLostError as ConnectionLostError
    from remaphore.errors import CoordinationUnavailableError as CoordinationUnavailableError
    from remaphore.errors import EncodeError as EncodeError
    from remaphore.errors import KeyFormatError as KeyFormatError
    from remaphore.errors import LeaseLostError as LeaseLostError
    from remaphore.errors import NoReceiversError as NoReceiversError
    from remaphore.errors import NotAcquiredError as NotAcquiredError
    from remaphore.errors import NotPermittedError as NotPermittedError
    from remaphore.errors import PayloadTooLargeError as PayloadTooLargeError
    from remaphore.errors import PluginError as PluginError
    from remaphore.errors import RemaphoreError as RemaphoreError
    from remaphore.errors import StateError as StateError
    from remaphore.errors import SubjectDeniedError as SubjectDeniedError
    from remaphore.errors import TransportError as TransportError
    from remaphore.errors import UsageError as UsageError
    from remaphore.hooks.context import PluginContext as PluginContext
    from remaphore.hooks.context import PluginLock as PluginLock
    from remaphore.hooks.context import PluginNode as PluginNode
    from remaphore.hooks.context import PluginRequest as PluginRequest
    from remaphore.hooks.dispatch import Outcome as Outcome
    from remaphore.hooks.markers import hookimpl as hookimpl
    from remaphore.hooks.plan import Action as Action
    from remaphore.hooks.plan import Step as Step
    from remaphore.hooks.stats import DaemonStats as DaemonStats
    from remaphore.hooks.stats import LockStats as LockStats
    from remaphore.hooks.stats import QueueState as QueueState
    from remaphore.protocol.drop import Drop as Drop
    from remaphore.protocol.drop import DropReason as DropReason
    from remaphore.protocol.exchange import Summary as Summary
    from remaphore.protocol.message import Message as Message
    from remaphore.protocol.message import Reply as Reply
    from remaphore.protocol.receipt import Receipt as Receipt

_HOME = {
    "Action": "remaphore.hooks.plan",
    "Config": "remaphore.config.settings",
    "DaemonStats": "remaphore.hooks.stats",
    "Drop": "remaphore.protocol.drop",
    "DropReason": "remaphore.protocol.drop",
    "LockStats": "remaphore.hooks.stats",
    "Message": "remaphore.protocol.message",
    "Outcome": "remaphore.hooks.dispatch",
    "PluginContext": "remaphore.hooks.context",
    "PluginLock": "remaphore.hooks.context",
    "PluginNode": "remaphore.hooks.context",
    "PluginRequest": "remaphore.hooks.context",
    "QueueState": "remaphore.hooks.stats",
    "Receipt": "remaphore.protocol.receipt",
    "Reply": "remaphore.protocol.message",
    "Step": "remaphore.hooks.plan",
    "Summary": "remaphore.protocol.exchange",
    "VerbSettings": "remaphore.config.settings",
    "connect": "remaphore.connecting",
    "hookimpl": "remaphore.hooks.markers",
    "AgentError": "remaphore.errors",
    "BrokerRefusedError": "remaphore.errors",
    "BrokerUnavailableError": "remaphore.errors",
    "ConfigError": "remaphore.errors",
    "ConnectionLostError": "remaphore.errors",
    "CoordinationUnavailableError": "remaphore.errors",
    "EncodeError": "remaphore.errors",
    "KeyFormatError": "remaphore.errors",
    "LeaseLostError": "remaphore.errors",
    "NoReceiversError": "remaphore.errors",
    "NotAcquiredError": "remaphore.errors",
    "NotPermittedError": "remaphore.errors",
    "PayloadTooLargeError": "remaphore.errors",
    "PluginError": "remaphore.errors",
    "RemaphoreError": "remaphore.errors",
    "StateError": "remaphore.errors",
    "SubjectDeniedError": "remaphore.errors",
    "TransportError": "remaphore.errors",
    "UsageError": "remaphore.errors",
}
__all__ = list(_HOME)  # derived from the table, so that the two cannot differ


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
