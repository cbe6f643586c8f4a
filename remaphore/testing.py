"""What the tests of a plugin need: messages, replies, a clock, a configuration, a bus in memory, and the plugin's host.

    from remaphore.testing import PluginHarness, make_message

    async def test_it_greets():
        async with PluginHarness(Greeter, settings={"greeting": "Hi"}) as harness:
            reply = await harness.message(make_message("greet", "Ann"))
        assert reply.output == b"Hi, Ann"

No file, no network, no other process. The names in `__all__` are public, like those of `remaphore`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, cast

from remaphore.config.settings import Auth, Config, Identity
from remaphore.hooks.context import PluginContext
from remaphore.hooks.dispatch import Outcome, emit, emit_plain
from remaphore.hooks.manager import empty, implemented, register
from remaphore.hooks.plan import Step
from remaphore.hooks.settings import build
from remaphore.hooks.stats import DaemonStats
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.duration import SECOND
from remaphore.protocol.exchange import Summary
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.peers import ANY_VERB, Peer
from remaphore.protocol.ping import Invocation
from remaphore.receiving.default_reply import DefaultReply
from remaphore.receiving.processor import choose_reply, validate_outcome
from remaphore.text import natural_key
from remaphore.transport.memory import MemoryBroker, MemoryBus

__all__ = [
    "START_NS",
    "Clock",
    "MemoryBroker",
    "MemoryBus",
    "PluginHarness",
    "make_config",
    "make_drop",
    "make_message",
    "make_outcome",
    "make_reply",
    "make_summary",
]

START_NS = 1_700_000_000 * SECOND
"""The time at which a `Clock` and the messages of `make_message` begin: 14 November 2023, 22:13:20 UTC."""
SENDER = "com.example.sender"
RECEIVER = "com.example.receiver"
HARNESS_SECONDS = 10.0
_INVOCATION = Invocation("0123456789abcdef", "main")


class Clock:
    """A clock that only moves when a test moves it. Calling it returns Unix nanoseconds.

    clock = Clock()
    clock.step(1.5)
    assert clock() == START_NS + 1_500_000_000
    """

    def __init__(self, now_ns: int = START_NS) -> None:
        self._now_ns = now_ns

    def __call__(self) -> int:
        """Return its time, in Unix nanoseconds."""
        return self._now_ns

    def set(self, now_ns: int) -> None:
        """Set it to *now_ns*, in Unix nanoseconds, which may be earlier than before."""
        self._now_ns = now_ns

    def step(self, seconds: float) -> None:
        """Advance it by *seconds*; a negative number sets it back."""
        self._now_ns += round(seconds * SECOND)


def make_message(
    verb: str = "ping",
    payload: str | bytes = b"",
    *,
    destination: str = "**",
    uuid: bytes = b"example",
    time_ns: int = START_NS,
    wants_reply: bool = False,
    sender: str = "",
    sender_name: str = SENDER,
    own_destination: str = RECEIVER,
) -> Message:
    """Return a message as a plugin gets it: verified, addressed to this node, with its digest.

    sender: the base58 key of the signer, derived from *sender_name* if empty. Two messages have the same digest exactly
    if all their fields are equal.

    message = make_message("deploy", "v42", sender_name="com.example.ci")
    """
    message = Message(
        sender=sender or _key_of(sender_name),
        destination=destination,
        verb=verb,
        uuid=uuid,
        time_ns=time_ns,
        wants_reply=wants_reply,
        payload=_bytes(payload),
        sender_name=sender_name,
        own_destination=own_destination,
    )
    return replace(message, digest=hashlib.sha256(repr(message).encode()).digest())


def make_reply(
    exit_code: int | None = 0,
    output: str | bytes = b"",
    *,
    peer: str = RECEIVER,
    sender: str = "",
    time_ns: int = START_NS,
    bound: bool = True,
) -> Reply:
    """Return a reply as the requesting side gets it: verified, from *peer*.

    assert make_reply(3, "disk full").text == b"3,disk full"
    """
    return Reply(exit_code, _bytes(output), peer=peer, sender=sender or _key_of(peer), time_ns=time_ns, bound=bound)


def make_outcome(
    result: Reply | None = None, *, error: BaseException | None = None, plugin: str = "plugin", seconds: float = 0.1
) -> Outcome:
    """Return what the plugin *plugin* did with a message, as `remaphore_handled` gets it: its reply, or its error.

    Raise ValueError if both are given: a plugin that raises returns nothing.

    outcome = make_outcome(error=OSError("disk full"), plugin="hooks-d")
    await harness.handled(make_message("deploy"), (outcome, make_outcome(Reply(0, b"done"))))
    """
    if result is not None and error is not None:
        raise ValueError("result and error: give one of the two")
    return Outcome("remaphore_message", plugin, seconds, result, error)


def make_drop(
    reason: DropReason = DropReason.BAD_SIGNATURE,
    detail: str = "",
    *,
    size: int = 300,
    subject: str = "remaphore.all",
    count: int = 1,
    exact: bool = False,
) -> Drop:
    """Return a drop, as `remaphore_dropped` gets it: *count* messages or replies of *size* bytes.

    harness.dropped(make_drop(DropReason.UNKNOWN_SENDER, count=20, exact=True))
    """
    return Drop(reason, detail, size, subject, count, exact)


def make_summary(
    *replies: Reply, missing: Iterable[str] = (), not_asked: Iterable[str] = (), dropped: int = 0
) -> Summary:
    """Return the result of a request, as `remaphore_finished` gets it: with these *replies*, one for each destination.

    missing: destinations that did not reply. not_asked: destinations that were never asked. dropped: the number of
    replies that were dropped.

    summary = make_summary(make_reply(0, peer="com.a"), make_reply(3, peer="com.b"), missing=["com.c"])
    assert (summary.ok, summary.failed) == (("com.a",), ("com.b",))
    """
    by_name = {reply.peer: reply for reply in replies}
    missing, not_asked = sorted(missing, key=natural_key), sorted(not_asked, key=natural_key)
    answered = sorted(by_name, key=natural_key)
    rejected = [name for name in answered if by_name[name].rejected]
    return Summary(
        expected=tuple(sorted([*answered, *missing, *not_asked], key=natural_key)),
        answered=tuple(answered),
        failed=tuple(name for name in answered if by_name[name].exit_code and name not in rejected),
        rejected=tuple(rejected),
        missing=tuple(missing),
        dropped=dropped,
        without_code=tuple(name for name in answered if by_name[name].exit_code is None),
        not_asked=tuple(not_asked),
    )


def make_config(destination: str = RECEIVER, **fields: Any) -> Config:
    """Return the configuration of a node with a new key, without any file; *fields* replace those of `Config`.

    Its only peer is itself, with permission for every verb: one configuration can be both sides of a request.

    config = make_config("com.example.web", subject="staging")
    """
    key = PrivateKey.generate()
    every = frozenset({ANY_VERB})
    config = Config(
        source="make_config()",
        destination=destination,
        servers=("nats://127.0.0.1:4222",),
        auth=Auth(kind="none"),
        identities=(Identity(key=key.public, verbs=every, load=lambda: key),),
        peers=(Peer(destination=destination, key=key.public, verbs=every),),
    )
    return replace(config, **fields)


class PluginHarness:
    """Runs one plugin as the host does: with the same checks and the same calls, in the same order.

    Only errors are handled differently: here they are raised. *plugin*: an object, a module, or a class whose
    constructor needs no arguments. settings: its table `[plugins.NAME]`, which is checked against its `Settings`.
    options: what a command would pass. timeout: seconds for each call of an `async def`, then TimeoutError. The
    attribute `stats` is what the plugin gets as the daemon's statistics: assign another `DaemonStats` to change them.
    Use it in `async with`, which configures and starts the plugin, and shuts it down:

    async with PluginHarness(Greeter, settings={"greeting": "Hi"}) as harness:
        reply = await harness.message(make_message("greet", "Ann"))

    Raise TypeError or pluggy's PluginValidationError if the host would not load the plugin; entering it raises
    PluginError if the host would not accept the settings.
    """

    def __init__(
        self,
        plugin: object,
        *,
        settings: Mapping[str, Any] | None = None,
        options: Mapping[str, object] | None = None,
        config: Config | None = None,
        name: str = "plugin",
        timeout: float = HARNESS_SECONDS,
    ) -> None:
        self.config = config or make_config()
        self.stats = DaemonStats(connected=True)
        self.name = name
        self._table = dict(settings or {})
        self._options = dict(options or {})
        self._timeout = timeout
        self._manager = empty()
        register(self._manager, plugin, name=name)
        self.plugin = self._manager.get_plugin(name)
        self.hooks = tuple(implemented(self._manager, name))

    async def __aenter__(self) -> Self:
        """Call `remaphore_configure` and `remaphore_startup`."""
        settings = build(self.plugin, self._table, name=self.name, source=self.config.source)
        self._plain("configure", config=self.config, settings=settings, options=self._options)
        context = PluginContext(config=self.config, instance=_INVOCATION.instance, invocation=_INVOCATION.number)
        await self._waiting("startup", stats=lambda: self.stats, context=context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call `remaphore_shutdown`."""
        await self._waiting("shutdown", reason="stopped")

    async def message(self, message: Message) -> Reply | None:
        """Pass *message* to the plugin: admitted, message, handled. Return its reply.

        Raise what the plugin raised, after it got that in `remaphore_handled` as from the host; TypeError for a result
        that is neither None nor a Reply of an int and bytes.
        """
        self._plain("admitted", message=message)
        outcome = await self._call("message", message=message)
        if outcome is None:
            return None
        outcome = validate_outcome(outcome)
        handled = {**self.stats.handled, message.verb: self.stats.handled.get(message.verb, 0) + 1}
        self.stats = replace(self.stats, handled=handled)
        default = DefaultReply(_INVOCATION)(message) if message.wants_reply else None
        reply = choose_reply([outcome]) or default
        await self.handled(message, (outcome,), reply, sent=message.wants_reply and reply is not None)
        return cast("Reply | None", _result(outcome))

    async def handled(
        self, message: Message, outcomes: tuple[Outcome, ...], reply: Reply | None = None, *, sent: bool = False
    ) -> None:
        """Report to the plugin that *message* was handled, by itself or by others."""
        await self._waiting("handled", message=message, outcomes=outcomes, reply=reply, sent=sent)

    def rejected(self, message: Message, reason: str, detail: str = "", *, count: int = 1) -> None:
        """Report to the plugin that *message* will not be handled."""
        self._plain("rejected", message=replace(message, payload=b""), reason=reason, detail=detail, count=count)

    def dropped(self, drop: Drop) -> None:
        """Report to the plugin that something was dropped."""
        self._plain("dropped", drop=drop)

    def reloaded(self, config: Config) -> None:
        """Pass a new configuration to the plugin."""
        self.config = config
        self._plain("reloaded", config=config)

    def plan(self, message: Message) -> list[Step] | None:
        """Return what the plugin would do with *message*."""
        return cast("list[Step] | None", self._plain("plan", message=message))

    async def requested(self, request: Message, expected: tuple[str, ...]) -> None:
        """Report to the plugin that a request of ours was sent, to the destinations *expected*."""
        await self._waiting("requested", request=request, expected=expected)

    async def reply(self, request: Message, reply: Reply) -> None:
        """Pass a reply to the plugin, as on the requesting side."""
        await self._waiting("reply", request=request, reply=reply)

    async def finished(self, request: Message, summary: Summary) -> None:
        """Report to the plugin that a request of ours has ended."""
        await self._waiting("finished", request=request, summary=summary)

    async def _call(self, event: str, **values: object) -> Outcome | None:
        hook = getattr(self._manager.hook, f"remaphore_{event}")
        return next(iter(await emit(hook, timeout=self._timeout, **values)), None)

    async def _waiting(self, event: str, **values: object) -> object:
        return _result(await self._call(event, **values))

    def _plain(self, event: str, **values: object) -> object:
        hook = getattr(self._manager.hook, f"remaphore_{event}")
        return _result(next(iter(emit_plain(hook, **values)), None))


def _result(outcome: Outcome | None) -> object:
    if outcome is None:
        return None
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def _key_of(peer: str) -> str:
    return PrivateKey(hashlib.sha256(peer.encode()).digest()).public


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
