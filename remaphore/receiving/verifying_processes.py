"""The verifying processes: started in a flood, one a processor, and ended when there was no work for a while.

A signature takes 50 microseconds, as long as all the rest of a message. Threads would take turns with the event loop,
once for each signature, so the work is done by processes, which run `remaphore/protocol/verifier_worker.py`.

Nothing depends on them. A process that ends, answers something else than it was asked, or does not answer in time, is
killed, and what it had is verified in the daemon; so is everything if none can be started.

A process whose program or library was replaced, by an upgrade, could find everything valid. So its first batch is a
probe, of a valid signature and a forged one, and each batch contains a decoy: nothing that a process says counts unless
it told those apart, and the answer to a batch only if it calls the decoy invalid. The name of a batch is random, so it
can be answered only by a process that has read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from remaphore.logs import LibraryLogger
from remaphore.protocol import verifier_worker
from remaphore.protocol.keys import library_folders
from remaphore.protocol.verifier_worker import ANSWER_HEAD, BATCH_HEAD, VERSION
from remaphore.receiving.batches import SignatureBatch

MAX_PROCESSES = 4
AHEAD = 2  # batches that a process has: the next one is there when it has answered one
IDLE_SECONDS = 30.0
# A batch takes 4 ms. A process that has not answered for so long is stopped, or the machine is out of memory.
STALL_SECONDS = 2.0
RETRY_SECONDS = 60.0  # after a process was lost or could not be started
WATCH_SECONDS = 1.0
NEVER = float("inf")
_REAP_SECONDS = 1.0  # a killed process takes less than 1 ms to end

# A message with the valid signature of test 3 in RFC 8032, section 7.1, one that was altered, and one with a signature
# out of range, which libsodium refuses at once: one in each batch costs nothing.
_KEY = b"Hyx62wPQGyvXCoihZq1BrbUjBRh2LuNxWiiqMkfAuSZr,"
_VALID = _KEY + b"2yJWpEDyPohQdWYzC48An2y8GrhonerMP4m9NFW2FxXgZ43JrPrBWTS7XPhqdEX7oevjg4Si5JtbggC1KGCrP1km,\xaf\x82"
PROBE = [_VALID, _VALID[:-1] + b"?"]
PROBE_RESULTS = b"\x01\x00"
DECOY = _KEY + b"2yJWpEDyPohQdWYzC48An2y8GrhonerMP4m9NFW2FxXgpbmqMo1S6Lu2EWkb4FjtEaaDgZyBSZ3rq6jwDahRy64W,"

_log = LibraryLogger()


class ProcessLostError(Exception):
    """A verifying process has ended, or what it answers cannot be trusted."""


class VerifyingProcesses:
    """The processes of one verifier. *on_results*: called when batches have got their results."""

    def __init__(self, on_results: Callable[[], None], on_error: Callable[[Exception], None]) -> None:
        """*on_error*: gets what was not expected, while a batch was verified in the daemon."""
        self._on_results = on_results
        self._on_error = on_error
        self._processes: list[VerifyingProcess] = []
        processors = _processors()
        self._wanted = min(processors, MAX_PROCESSES) if processors > 1 else 0  # one would only take turns with us
        self._retry_at = 0.0  # by the loop's clock
        self._worked_at = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def feed(self, unsent: deque[SignatureBatch]) -> bool:
        """Move batches from *unsent* to the processes, as many as they have room for.

        Return False if there is no process: then the caller has to verify. A batch whose process fails has its results
        on return.
        """
        self._start_missing()
        while unsent and self._processes:
            process = min(self._processes, key=VerifyingProcess.load)
            if process.load() >= AHEAD:
                break
            batch = unsent.popleft()
            try:
                process.send(batch)
            except Exception as error:  # noqa: BLE001 - such as no memory; whatever it is, the batch is verified
                if batch not in process.batches:
                    self._verify_here(batch)
                self._lose(process, error)
        return bool(self._processes)

    def close(self) -> None:
        """End all processes, for good; what they had is not verified."""
        self._wanted = 0
        self._end_all()

    def _end_all(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for process in self._processes:
            process.end()
        self._processes.clear()

    def _start_missing(self) -> None:
        missing = self._wanted - len(self._processes)
        if not missing or (loop := asyncio.get_running_loop()).time() < self._retry_at:
            return
        try:
            for _ in range(missing):
                self._processes.append(VerifyingProcess(self._transfer))
        except Exception as error:  # noqa: BLE001 - no process, descriptor, memory or interpreter: it works without
            self._retry_at = loop.time() + RETRY_SECONDS
            effect = "there are fewer of them" if self._processes else "signatures are verified in this process"
            _log.warning("verifying_process_unavailable", error=str(error) or repr(error), effect=effect)
        if self._processes and self._watch is None:
            self._worked_at = loop.time()
            self._watch = loop.call_later(WATCH_SECONDS, self._check)

    def _transfer(self, process: VerifyingProcess) -> None:
        try:
            process.transfer()
        except Exception as error:  # noqa: BLE001 - whatever it is, its batches are verified
            self._lose(process, error)
        finally:
            self._on_results()

    def _check(self) -> None:
        """End a process that does not answer, and all that have had no work for a while."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._watch = loop.call_later(WATCH_SECONDS, self._check)
        try:
            for process in [process for process in self._processes if process.waits_since < now - STALL_SECONDS]:
                self._lose(process, ProcessLostError(f"no answer within {STALL_SECONDS:g} s"))
            if any(process.load() for process in self._processes):
                self._worked_at = now
            if not self._processes or now - self._worked_at > IDLE_SECONDS:
                self._end_all()
        finally:
            self._on_results()

    def _lose(self, process: VerifyingProcess, error: Exception) -> None:
        if process in self._processes:
            self._processes.remove(process)
        self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
        status = process.end()
        for batch in process.batches:
            self._verify_here(batch)
        process.batches.clear()
        why, effect = str(error) or repr(error), "its messages are verified in this process"
        _log.warning("verifying_process_lost", error=why, exit_status=status, effect=effect)

    def _verify_here(self, batch: SignatureBatch) -> None:
        error = batch.verify()
        if error is not None:
            self._on_error(error)


class _Question(NamedTuple):
    """What a process was asked: the head of its answer, how many results, and which is the decoy's (or None)."""

    head: bytes
    results: int
    decoy: int | None


class VerifyingProcess:
    """One process and the batches that it has. *on_ready*: called when `transfer` has something to do."""

    def __init__(self, on_ready: Callable[[VerifyingProcess], None]) -> None:
        """Start it. Raise OSError, or whatever else prevents that."""
        self.batches: deque[SignatureBatch] = deque()
        self._loop = asyncio.get_running_loop()
        self._on_ready = on_ready
        self._asked: deque[_Question] = deque()  # what it has not answered yet: the probe, then one for each batch
        # When it got the batch that it works on, or answered the one before that.
        self.waits_since = NEVER
        self._unsent = b""
        self._received = bytearray()
        self._child: subprocess.Popen[bytes] | None = None
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._child = _start(theirs)
            self._socket.settimeout(0)
            self._loop.add_reader(self._socket, on_ready, self)
            self._ask(PROBE, None)
        except BaseException:
            self.end()
            raise

    def load(self) -> int:
        """Return the number of batches that it has."""
        return len(self.batches)

    def send(self, batch: SignatureBatch) -> None:
        """Let it verify *batch*."""
        messages = [arrival.frame.raw for arrival in batch.arrivals]
        decoy = os.urandom(1)[0] % (len(messages) + 1)
        messages.insert(decoy, DECOY)
        self.batches.append(batch)
        self._ask(messages, decoy)

    def transfer(self) -> None:
        """Send what is left, and receive answers. Raise ProcessLostError, or OSError, if it cannot be used any more."""
        if self._unsent:
            self._flush()
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return
        if not data:
            raise ProcessLostError("it has ended")
        self._received += data
        while self._asked and self._read_answer():
            self.waits_since = self._loop.time() if self._asked else NEVER
        if self._received and not self._asked:
            raise ProcessLostError("it answers what it was not asked")

    def end(self) -> int | None:
        """End it; return its exit status, -9 if it had to be ended. It has nothing that could be lost."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
        if self._child is None:
            return None
        # A system call filter may deny us to kill it, but it ends with its stdin.
        with contextlib.suppress(OSError):
            self._child.kill()
        # If it hangs in the kernel, `subprocess` reaps it later.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._child.wait(_REAP_SECONDS)
        return self._child.returncode

    def _ask(self, messages: list[bytes], decoy: int | None) -> None:
        name, count = os.urandom(8), len(messages)
        lengths = [len(message) for message in messages]
        head = BATCH_HEAD.pack(VERSION, name, count, sum(lengths))
        blocked = bool(self._unsent)
        self._unsent = b"".join((self._unsent, head, *[length.to_bytes(4) for length in lengths], *messages))
        if not self._asked:
            self.waits_since = self._loop.time()
        self._asked.append(_Question(ANSWER_HEAD.pack(VERSION, name, count), count, decoy))
        if not blocked:
            self._flush()
            if self._unsent:
                self._loop.add_writer(self._socket, self._on_ready, self)

    def _flush(self) -> None:
        try:
            # The host of `Node.receive` may have left SIGPIPE as it is for other programs.
            sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _read_answer(self) -> bool:
        """Give the oldest batch its results; return False if they are not there yet. Raise ProcessLostError."""
        head, number, decoy = self._asked[0]
        end = len(head) + number
        if len(self._received) < end:
            return False
        results = self._received[len(head) : end]
        if not self._received.startswith(head) or results.translate(None, b"\x00\x01"):
            raise ProcessLostError("it answers what it was not asked")
        if results != PROBE_RESULTS if decoy is None else results.pop(decoy):
            raise ProcessLostError("it does not tell a forged signature from a valid one")
        del self._received[:end]
        self._asked.popleft()
        if decoy is not None:
            self.batches.popleft().results = results
        return True


def _processors() -> int:
    """Return the number of processors that we may use, 1 if the system does not tell."""
    try:
        return len(os.sched_getaffinity(0))
    except OSError:  # such as a system call filter
        return 1


def _start(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start a process whose stdin and stdout are *theirs*."""
    words = [sys.executable, "-I", "-S", str(Path(verifier_worker.__file__).absolute()), *library_folders()]
    # Nothing of our environment but what an interpreter may need to start. In a process group of its own, so that
    # Ctrl-C is for us; in our session, so that hooks-d does not take it for the leftover of a handler.
    kept = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    return subprocess.Popen(  # noqa: S603 - ourselves
        words,
        stdin=theirs.fileno(),
        stdout=theirs.fileno(),
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=kept,
        process_group=0,
    )
