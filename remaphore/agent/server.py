"""The server of the agent: it accepts connections, limits them, and gives each to its operation."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from dataclasses import replace

import structlog

from remaphore.agent.audit import Audit
from remaphore.agent.budget import Budget
from remaphore.agent.credentials import describe_caller, read_caller
from remaphore.agent.feeds import Feeds
from remaphore.agent.metrics import UNKNOWN, OperationCounts, build_info, render
from remaphore.agent.operations import Operations
from remaphore.agent.refusal import RefusedError
from remaphore.agent.rules import Rules
from remaphore.agent.session import End, Session, end_of
from remaphore.config.settings import Config
from remaphore.errors import RemaphoreError, describe, resource_hint
from remaphore.messaging.signer import Clock, Signer
from remaphore.node import Node
from remaphore.receiving.receipts import ReceiptSender
from remaphore.tasks import spawn
from remaphore.text import shorten
from remaphore.transport.bus import Bus

# Operations at the same time. A connection counts from the moment at which it is accepted, so that silent ones do too.
USER_OPERATIONS = 64
MAX_OPERATIONS = 512
# Further connections of a user, and of all users, whose head is read so that they can be told that the agent is busy.
# Those of a user beyond that are closed at once; beyond that of all users, they wait in the backlog of the socket.
USER_SPARE = 16
SPARE = 64
# Bytes that the reader of a connection takes in before the operation wants them.
READ_BYTES = 16 * 1024
# When the agent stops, what is being sent has this time to end.
STOP_SECONDS = 5.0
# Without a free descriptor or memory, accepting is tried again after this time.
RETRY_SECONDS = 0.2
# While that continues, seconds between its log lines.
ACCEPT_LOG_SECONDS = 15.0

# Settings of the connection, and those that both ends of an exchange have to know: they stay until a restart.
_NEED_RESTART = ("servers", "auth", "tls", "subject")
_BUSY_HINT = "run fewer at once, or try again later"
_REFUSED_KINDS = ("refused", "busy", "version", "usage", "protocol", "late", "overflow")

_log = structlog.get_logger()


class Agent:
    """Serves the clients of one socket."""

    def __init__(self, bus: Bus, config: Config, *, clock: Clock = time.time_ns) -> None:
        self._budget = Budget()
        self._audit = Audit()
        self._open: Counter[int] = Counter()  # connections by uid
        self._sessions: set[Session] = set()  # those whose operation runs
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts = OperationCounts()
        self._accept_logged = -ACCEPT_LOG_SECONDS
        self._free = asyncio.Semaphore(MAX_OPERATIONS + SPARE)
        signer = Signer(config, clock)
        self._signer = signer
        self._bus = bus
        self._node = Node(bus, config, clock=clock)
        self._feeds = Feeds(bus, config, clock)
        receipts = ReceiptSender(bus, config.subject, signer)
        self._operations = Operations(self._node, Rules(config), self._feeds, receipts)
        self._report_rules()

    @property
    def config(self) -> Config:
        """The configuration that is in effect."""
        return self._node.config

    def collect_metrics(self) -> bytes:
        """Return the metrics of now, for Prometheus."""
        rules = self._operations.rules
        return render(
            {
                "agent_operations_total": ("Operations that have ended, by their result.", self.counts.samples()),
                "agent_connections": ("Connections that are open.", self._open.total()),
                "agent_bytes_waiting": ("Payloads, and what clients have not read yet.", self._budget.total),
                "agent_rules": ("Rules that are in effect.", len(self.config.agent.allow) - len(rules.problems)),
                "agent_rules_ignored": ("Rules that name no user or group of this machine.", len(rules.problems)),
                "connected": ("1 with a connection to the broker, 0 without.", int(self._bus.connected)),
                "reconnects_total": ("Connections to the broker after the first.", self._bus.reconnects),
                "build_info": ("Always 1; see the labels.", build_info(self._operations.release)),
            }
        )

    def apply_config(self, config: Config) -> None:
        """Use the rules, identities and peers of *config*; end each receive that is no longer permitted."""
        previous = self._node.config
        for name in _NEED_RESTART:
            if getattr(previous, name) != getattr(config, name):
                _log.warning("restart_needed", setting=name)
        for name in ("socket", "metrics"):
            if getattr(previous.agent, name) != getattr(config.agent, name):
                _log.warning("restart_needed", setting=f"agent.{name}")
        agent = replace(config.agent, socket=previous.agent.socket, metrics=previous.agent.metrics)
        config = replace(config, agent=agent, **{name: getattr(previous, name) for name in _NEED_RESTART})
        self._node.apply_config(config)
        self._signer.config = config
        self._feeds.apply_config(config)
        self._operations.rules = Rules(config)
        self._report_rules()
        for session in self._sessions:
            if session.recheck is not None:
                try:
                    session.recheck()
                except RefusedError as refusal:
                    session.end(refusal)

    def notify(self, line: str) -> None:
        """Pass *line* on to every client whose operation runs: the broker is away, or back."""
        for session in self._sessions:
            session.notify(line)

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until this is cancelled; what is being sent then has STOP_SECONDS to end."""
        listener.setblocking(False)  # noqa: FBT003 - its only parameter
        loop = asyncio.get_running_loop()

        def forget(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._free.release()
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("connection_failed", error=describe(error))

        try:
            while True:
                await self._free.acquire()
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:  # such as no free descriptor: what is open now ends sometime
                    self._free.release()
                    if time.monotonic() - self._accept_logged >= ACCEPT_LOG_SECONDS:
                        self._accept_logged = time.monotonic()
                        _log.error("accept_failed", error=describe(error), hint=resource_hint(error))
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                task = spawn(self._serve_one(connection), name="agent connection")
                self._tasks.add(task)
                task.add_done_callback(forget)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        for session in self._sessions:
            if session.head is not None and session.head.operation != "send":
                session.end(RefusedError("stopping", "the agent ends", hint="run the command again"))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._audit.close()

    async def _serve_one(self, connection: socket.socket) -> None:
        begin = time.monotonic()
        with connection:
            caller, refusal = read_caller(connection)
            about = describe_caller(connection, caller)
            if self._open[caller.uid] >= USER_OPERATIONS + USER_SPARE:
                self.counts.add(UNKNOWN, 3, "busy")
                self._audit.refused(caller.uid, {**about, "kind": "busy"})
                return
            self._open[caller.uid] += 1
            # Decided now, before anything waits: those that were accepted first are served, whatever comes after them.
            if refusal is None and self._open[caller.uid] > USER_OPERATIONS:
                what = f"the agent does {USER_OPERATIONS} operations of a user at a time"
                refusal = RefusedError("busy", what, hint=_BUSY_HINT)
            elif refusal is None and self._open.total() > MAX_OPERATIONS:
                what = f"the agent does {MAX_OPERATIONS} operations at a time"
                refusal = RefusedError("busy", what, hint=_BUSY_HINT)
            try:
                reader, writer = await asyncio.open_unix_connection(sock=connection, limit=READ_BYTES)
                writer.transport.set_write_buffer_limits(high=0)
                account = self._budget.open(caller.uid, writer.transport.get_write_buffer_size)
                session = Session(reader, writer, caller, account)
                end = End(3, {"kind": "stopping"})
                try:
                    end = await self._perform(session, refusal)
                finally:
                    self._record(session, end, about, (time.monotonic() - begin) * 1000)
                    await session.finish(end)
            finally:
                self._open[caller.uid] -= 1
                if not self._open[caller.uid]:
                    del self._open[caller.uid]

    async def _perform(self, session: Session, refusal: RefusedError | None) -> End:
        """Return the end of the operation, or of what was refused; *refusal*: known before its head."""
        try:
            head = await session.read_head()
            if refusal is not None:  # only now: a client that cannot write its head does not read why
                return end_of(refusal)
            operation = self._operations.start(session, head)
            self._sessions.add(session)
            return await session.run(operation)
        except Exception as error:  # noqa: BLE001 - the others, and the agent, continue
            if not isinstance(error, RemaphoreError):
                _log.exception("operation_failed")
            return end_of(error)
        finally:
            self._sessions.discard(session)

    def _record(self, session: Session, end: End, about: dict[str, object], milliseconds: float) -> None:
        head = session.head
        self.counts.add(head.operation if head else UNKNOWN, end.exit_code, end.kind)
        fields = {
            **about,
            "op": head.operation if head else None,
            "verb": shorten(head.verb or ",".join(head.verbs or ())) if head else None,
            "to": shorten(head.pattern if head.operation == "receive" else head.to) or None if head else None,
            "rule": session.rule or None,
            "digest": session.digest[:16] or None,
            "exit": end.exit_code,
            "kind": end.kind or None,
            "ms": round(milliseconds, 1),
        }
        if end.kind in _REFUSED_KINDS or head is None:
            self._audit.refused(session.caller.uid, fields)
        else:
            self._audit.done(fields)

    def _report_rules(self) -> None:
        for problem in self._operations.rules.problems:
            _log.warning("rule_ignored", detail=problem.what, hint=problem.hint)
