"""What a started program inherits of our signals: nothing.

The mask and the ignored signals of a process survive fork(2) and exec(2). Whoever started us may have blocked SIGTERM
(threads of a JVM or of .NET do) or ignored SIGHUP (nohup): then the cleanup of a handler would never run. A signal with
a handler function, however, is reset to its default by exec(2). So while a program is started, each ignored signal has
a function that does nothing, which to us is the same, and no signal is blocked.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

try:
    # signal.getsignal makes an enum of each result: for 60 signals that is a third of what starting a program costs.
    from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal as _getsignal

# Popen itself resets SIGPIPE and SIGXFSZ, which Python ignores; the first two cannot be ignored.
_RESET = [*map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ})]
# Plain numbers: to compare a member of an enum costs five times as much.
_IGNORE, _DEFAULT = int(signal.SIG_IGN), int(signal.SIG_DFL)


@contextmanager
def default_signals() -> Iterator[None]:
    """Within this context, a program is started with an empty signal mask, and with the default action of each signal.

    SIGCHLD stays at its default afterwards: while it is ignored, the kernel discards the exit status of children.
    Outside the main thread, where Python cannot change an action, a program inherits what there is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    actions = [*map(_getsignal, _RESET)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if not blocked and _IGNORE not in actions:  # as nearly always
        yield
        return
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        actions[_RESET.index(signal.SIGCHLD)] = _DEFAULT
    replaced = {}
    for number, action in zip(_RESET, actions, strict=True):
        # A pending signal that is let through for a moment must not end us by its default action.
        if action == _IGNORE or (action == _DEFAULT and number in blocked):
            replaced[number] = action
            signal.signal(number, _do_nothing)
    try:
        if blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        yield
    finally:
        if blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, action in replaced.items():
            signal.signal(number, action)


def _do_nothing(_number: int, _frame: object) -> None:
    """Handle a signal that is otherwise ignored."""
