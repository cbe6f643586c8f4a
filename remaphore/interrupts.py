"""The signals that ask a process to end: SIGINT, SIGTERM and SIGHUP, all handled in the same way, as early as possible.

The first Linux process of a container (PID 1) has no default actions: a signal without a handler is ignored there. And
a caller may have blocked or ignored signals: the threads of a JVM or of .NET block SIGTERM, `nohup` ignores SIGHUP, and
a shell without job control ignores SIGINT for `command &`. `begin` therefore sets what the commands rely on.

It is in the lowest layer, and imports little, because it runs before anything else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Seconds after such a signal without progress, after which the process ends. Progress is CPU time, or bytes written, as
# while the output is shown to a slow reader.
INTERRUPTED_SECONDS = 0.9

# One entry for each SIGHUP that `run` or `broker` got before it had something that it could load again.
hangups: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal asks this process to end. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def begin(*, reloads: bool) -> None:
    """Set signal handlers and mask of this process, whatever its caller has blocked or ignored.

    Each of ENDING raises Interrupted until a command handles it otherwise. SIGINT and SIGHUP stay ignored if the caller
    ignores them; for SIGTERM this makes no sense. reloads: SIGHUP asks to reload, and is noted in `hangups`.
    """
    for number in {*heeded(), signal.SIGTERM}:
        signal.signal(number, _raise)
    if reloads:
        signal.signal(signal.SIGHUP, _note_hangup)
    # An ignored SIGCHLD makes the kernel discard the exit status of each child.
    for number in (signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # last: what was blocked arrives now


def heeded() -> tuple[signal.Signals, ...]:
    """Return those of ENDING that end this process: neither ignored, nor noted as a request to reload."""
    return tuple(number for number in ENDING if signal.getsignal(number) not in (signal.SIG_IGN, _note_hangup))


def on_interrupt(
    action: Callable[[int], object],
    *,
    signals: tuple[signal.Signals, ...],
    alive: Callable[[], bool] = lambda: False,
    seconds: float = INTERRUPTED_SECONDS,
) -> None:
    """Call *action* with the number of each of *signals*; end the process once it makes no progress after that.

    To be called in the main thread. *action* is called at once, in the middle of what that thread is running. alive:
    called every *seconds* after a signal; while it returns True, there is progress.
    """

    def interrupted(number: int, _frame: FrameType | None) -> None:
        _watch(number, alive, seconds)
        action(number)

    for number in signals:
        signal.signal(number, interrupted)


def _watch(number: int, alive: Callable[[], bool], seconds: float) -> None:
    before = _work()
    alive()

    def check(_number: int, _frame: FrameType | None) -> None:
        nonlocal before
        after = _work()
        computed, waited, written = (new - old for new, old in zip(after, before, strict=True))
        # This check needs a little CPU time, and asyncio writes a byte to itself for each signal. On a busy machine,
        # what computes may get no tenth of a processor, but then it waits for one all the time.
        idle = computed < seconds / 10 and computed + waited < seconds / 2 and written < 100
        if not alive() and idle:
            os._exit(128 + number)
        before = after

    signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def _work() -> tuple[float, float, int]:
    """Return the seconds that this process computed and waited for a processor, and the bytes that it wrote.

    The last two are 0 if /proc does not show them: the second number of schedstat, and wchar of io, see proc(5).
    """
    waited, written = 0.0, 0
    with contextlib.suppress(OSError, IndexError, ValueError):
        waited = int(_read("/proc/self/schedstat").split()[1]) / 1e9
    with contextlib.suppress(OSError, IndexError, ValueError):
        written = int(_read("/proc/self/io").partition("wchar:")[2].split()[0])
    return time.process_time(), waited, written


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 - importing pathlib takes time
        return file.read()


def _note_hangup(number: int, _frame: FrameType | None) -> None:
    hangups.append(number)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)
