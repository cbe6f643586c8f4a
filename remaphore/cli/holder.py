"""Hold a lock while the guardian runs a command. Import it only after the guardian was forked: it imports asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from remaphore import nodeset
from remaphore.cli import holding, output
from remaphore.cli.holding import Holding
from remaphore.cli.main import EXIT_SIGNAL
from remaphore.config.settings import Config
from remaphore.coordination.command import Ending, GuardedCommand
from remaphore.coordination.guardian import GuardianProcess, boottime
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Holder as HolderOf
from remaphore.coordination.lock import Lock, LockEvents, Waiting
from remaphore.errors import LeaseLostError, with_hint
from remaphore.interrupts import heeded
from remaphore.logs import LibraryLogger
from remaphore.protocol.lease import CLOCK_RATE, MARGIN, Lease
from remaphore.tasks import on_stop, spawn
from remaphore.transport.nats_client import NatsBus

if TYPE_CHECKING:
    from remaphore.coordination.high_water import StreamWatch

CONNECT_LIMIT = 10.0  # seconds
FINISH_SECONDS = 3.0  # to look whether the data of the broker was set back, when the command has ended before that
_SHOWN = 4  # holders of a semaphore that are shown one by one

# Beside those that `tasks.run` handles: without a handler they would end this process, and with it the command.
_ALSO_ENDING = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Holder:
    """Takes the lock, runs the command, and frees the lock."""

    def __init__(self, options: Holding, config: Config, guardian: GuardianProcess) -> None:
        self._options = options
        self._config = config
        self._guardian = guardian
        self._title = f"{'lock' if options.slots == 1 else 'semaphore'} {options.name}"
        self._ended_by = 0  # a signal of _ALSO_ENDING, before the command
        self._waiting: Waiting | None = None
        self._lost = ""  # why the lease was lost
        self._jetstream: JetStream | None = None
        self._watch: StreamWatch | None = None
        self._log = LibraryLogger() if options.log_format or options.verbose else None
        self._events = LockEvents(options.name, log=self._log)
        self._connection = ConnectionEvents(self._events) if self._log else None

    async def hold(self) -> int:
        """Return the exit code: that of the command, or one of ours."""
        options, config = self._options, self._config
        loop, task, since = asyncio.get_running_loop(), asyncio.current_task(), time.monotonic()
        assert task is not None

        def interrupt(number: int) -> None:
            self._ended_by = number
            task.cancel()

        for number in _ALSO_ENDING:
            loop.add_signal_handler(number, interrupt, number)
        bus: NatsBus | None = None
        try:
            limit = min(options.wait or CONNECT_LIMIT, CONNECT_LIMIT)
            log = self._connection
            bus = await NatsBus.connect(
                config.servers,
                auth=config.auth,
                tls=config.tls,
                limit=limit,
                on_notice=log.lost if log else say,
                on_reconnect=log.regained if log else None,
            )
            self._jetstream = JetStream(bus, config.subject)
            lock = Lock(
                self._jetstream,
                config,
                name=options.name,
                slots=options.slots,
                ttl=options.ttl,
                note=options.note,
                fair=options.fair,
                events=self._events,
            )
            left = options.wait and max(0.001, options.wait - (time.monotonic() - since))
            lease = await self._take(lock, wait=left)
            return options.conflict_exit_code if lease is None else await self._run(lock, lease, task)
        except asyncio.CancelledError:
            if not self._ended_by:
                raise
            return EXIT_SIGNAL + self._ended_by
        finally:
            if bus is not None:
                await bus.close()

    async def _take(self, lock: Lock, *, wait: float | None) -> Lease | None:
        """Take the lock; say what for if it takes longer than a moment."""
        loop = asyncio.get_running_loop()
        due, announced = loop.time() + holding.ANNOUNCE_AFTER, False

        def announce() -> None:
            nonlocal announced
            if self._waiting is not None and not announced and loop.time() >= due:
                announced = True
                self._explain()

        def update(waiting: Waiting) -> None:
            self._waiting = waiting
            announce()

        announcement = loop.call_at(due, announce)
        try:
            lease = await lock.take(wait=wait, on_waiting=update)
        finally:
            announcement.cancel()
        if lease is None:
            self._explain("; not acquired")
            if self._waiting and wait is not None and wait < (quiet := quiet_time(self._waiting.holders)):
                say(f"hint: if its holder is gone, wait for longer than its --ttl: --wait {quiet + 1}s")
        return lease

    def _explain(self, result: str = "") -> None:
        """Say why the lock is not free, then the *result*, and how to permit a peer whose record does not count."""
        say(f"{self._describe()}{result}")
        if self._waiting and (hint := permission_hint(self._waiting.problems)):
            say(f"hint: {hint}")

    def _describe(self) -> str:
        """Return who holds the lock for which we wait, and how many wait before us."""
        waiting = self._waiting
        if waiting is None:
            return f"{self._title}: not free"
        parts = [f"held by {holders(waiting.holders)}"] if waiting.holders else []
        parts += [f"not free: {problem}" for problem in waiting.problems]
        parts += [f"{waiting.ahead} before us"] if waiting.ahead else []
        parts += [f"cannot be examined now: {waiting.failure}"] if waiting.failure else []
        return f"{self._title}: {', '.join(parts or ['held'])}"

    async def _run(self, lock: Lock, lease: Lease, task: asyncio.Task[object]) -> int:
        """Run the command while *lease* is kept, free the lock; return the exit code. Raise RemaphoreError."""
        options = self._options
        command = GuardedCommand(self._guardian, grace=options.grace, left=self._announce_left, ended=self._log_signal)

        def forward(number: int) -> None:
            self._events.report("debug", "signal_forwarded", signal=signal.Signals(number).name)
            command.signal(number)

        on_stop(forward, *heeded(), *_ALSO_ENDING)
        try:
            if task.cancelling():  # by a signal that came when the lock did
                raise asyncio.CancelledError
            ending = await self._guard(lock, lease, command)
        except OSError as error:
            if command.may_run:
                raise
            ending = Ending(say_not_executed(options.command[0], error))
        finally:
            # After an unexpected error the guardian ends the command, at the deadline at the latest.
            released = not command.may_run and await lock.release(lease)
            if self._watch is not None:
                await self._watch.finish(FINISH_SECONDS)
        if ending.why:
            say(f"error: {self._lost or f'{self._title} lost: {ending.why}'}; the command was ended")
            return holding.EXIT_LOST
        if not released:
            say(f"warning: {self._title}: not freed: it is free {options.ttl:g} s after its last renewal")
        return ending.exit_code

    async def _guard(self, lock: Lock, lease: Lease, command: GuardedCommand) -> Ending:
        """Run the command, and end it if the lease is lost."""
        options = self._options
        outer, began = os.environ.get(holding.NAMES, "").split(), boottime()
        variables = {
            holding.NAME: options.name,
            holding.SLOT: str(lease.slot),
            holding.TOKEN: str(lease.token),
            holding.NAMES: " ".join([*outer, options.name]),
        }
        tasks: set[asyncio.Task[Any]] = set()
        tasks.add(running := spawn(command.run(variables, deadline=lease.deadline), name="run the command"))
        try:
            tasks.add(keeping := spawn(lock.keep(lease, on_renewed=command.prolong), name="keep the lease"))
            asyncio.get_running_loop().call_soon(self._watch_stream, lease)  # when the command has been started
            await asyncio.wait({keeping, running}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done() and not running.done():
                error = keeping.exception()
                self._lost = str(error) if isinstance(error, LeaseLostError) else f"{self._title} lost: {error!r}"
                command.end(self._lost)
            ending = await running
            if ending.why:  # nothing, if it was reported before
                reason = "expired" if boottime() >= lease.deadline - options.grace else "guardian-gone"
                self._events.lost(lease, detail=self._lost or ending.why, reason=reason)
            seconds = round(boottime() - began, 3)
            self._events.report("info", "command_ended", exit_code=ending.exit_code, seconds=seconds)
            return ending
        finally:
            for each in tasks:
                if not each.cancel() and not each.cancelled():
                    each.exception()  # retrieved
            await asyncio.wait(tasks)

    def _watch_stream(self, lease: Lease) -> None:
        """Look whether the broker's data was set back, beside the command."""
        from remaphore.coordination.high_water import HINT, StreamWatch
        from remaphore.receiving.ledger.state import coordination_directory

        assert self._jetstream is not None  # it has the lease
        self._watch = StreamWatch.reporting(
            coordination_directory(self._config, os.environ),
            self._jetstream,
            self._config.servers,
            log=self._log,
            say=lambda found: say(with_hint(f"warning: {found}", HINT)),
        )
        self._watch.see(lease.last)

    def _announce_left(self, pids: Sequence[int]) -> None:
        shown = ", ".join(map(str, pids[:_SHOWN])) + (", ..." if len(pids) > _SHOWN else "")
        say(f"{self._title}: the command has ended; waiting for what it left running: pid {shown}")
        self._events.report("info", "command_left_processes", pids=shown)

    def _log_signal(self, name: str, why: str) -> None:
        self._events.report("warning", "command_terminated", signal=name, detail=why)


class ConnectionEvents:
    """Says on stderr what is always said about the connection, and logs it, with each reconnection."""

    def __init__(self, events: LockEvents) -> None:
        self._events = events
        self._said = False

    def lost(self, line: str) -> None:
        """There is no broker, for a second or longer."""
        self._said = True
        say(line)
        self._events.report("warning", "broker_disconnected", detail=line)

    def regained(self, line: str) -> None:
        """There is a connection again."""
        if self._said:
            self._said = False
            say(line)
        self._events.report("warning", "broker_reconnected", detail=line)


def say(line: str) -> None:
    """Write *line* to stderr, if it is still read: the command continues without."""
    with contextlib.suppress(OSError):
        output.notice(line)


def say_not_executed(program: str, error: OSError) -> int:
    """Say why *program* could not be executed; return the exit code."""
    missing = error.errno == errno.ENOENT
    what = f"cannot be executed: {os.strerror(error.errno or 0)}"
    hint = holding.process_hint(error) or "the command after -- is executed without a shell: use sh -c for shell syntax"
    if missing and shutil.which(program):
        what, hint = "cannot be executed: its interpreter was not found", "correct its first line, after #!"
    elif missing:
        what = "not found"
    say(f"error: {program}: {what}")
    say(f"hint: {hint}")
    return holding.EXIT_NOT_FOUND if missing else holding.EXIT_CANNOT_EXECUTE


def permission_hint(problems: Iterable[str]) -> str:
    """Return how to let the records of a peer count, if one of the *problems* is that it lacks a permission here."""
    texts = (problem.partition("may not use ")[2] for problem in problems)
    missing = ",".join(dict.fromkeys(text.split()[0] for text in texts if text))
    permit = f"remaphore peer permit NODE --allow {missing} (an unknown key: remaphore peer add)"
    return f"if that node may use the lock, permit it here: {permit}" if missing else ""


def quiet_time(found: Sequence[HolderOf]) -> int:
    """Return the seconds after which a node that waits follows holders that are gone, 0 for none.

    Each try observes them from its own beginning, so no sequence of shorter ones gets the lock.
    """
    return math.ceil(max(each.ttl for each in found) * CLOCK_RATE + MARGIN) if found else 0


def holders(found: Sequence[HolderOf]) -> str:
    """Return who holds a lock, and since when."""
    if len(found) > _SHOWN:
        return nodeset.fold([each.who for each in found])
    return ", ".join(map(holder, found))


def holder(found: HolderOf) -> str:
    """Return who holds a slot: `com.example.left for 12s (pid 4711 on web1)`."""
    place = f"pid {found.pid} on {found.host}" if found.pid and found.host else ""
    note = f": {found.note}" if found.note else ""
    shown = f" ({place}{note})" if place else ""
    unknown = "" if found.known else ", an unknown key,"
    return f"{found.who}{unknown}{held_for(found)}{shown}"


def held_for(found: HolderOf) -> str:
    """Return how long a slot is held, by the clock of its holder; empty if it does not say."""
    from remaphore.protocol.ping import format_uptime

    return f" for {format_uptime(max(0.0, time.time() - found.since))}" if found.since else ""
