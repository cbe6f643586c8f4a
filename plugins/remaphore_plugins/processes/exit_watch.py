"""Notice that a child has exited, without reaping it.

A pidfd wakes the event loop at once. Where there is none (Linux before 5.3, gVisor, a seccomp profile of a container
runtime that does not know pidfd_open(2), no free descriptor), the child is polled instead. Neither needs a thread or a
handler for SIGCHLD, and neither reaps: the child stays a zombie until its owner reaps it, so its pid, which is also its
process group, cannot be that of another process meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os

from remaphore import PluginError

_FIRST_POLL_SECONDS = 0.002
_POLL_SECONDS = 0.05  # the longest pause: what a poll costs, 20 times a second, is not measurable


def check_exit_watch() -> None:
    """Raise PluginError if the exit of a program could not be noticed here: each would be started, and then killed."""
    try:
        os.waitid(os.P_PID, os.getpid(), os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:  # we are not our own child; so it was permitted
        return
    except OSError as error:
        what = f"programs cannot be run here: waitid(2) is denied: {error.strerror}"
        raise PluginError(what, hint="permit waitid in the seccomp profile of the container or of the unit") from error


class ExitWatch:
    """Watches the child *pid*. exited: done once it has exited."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self.exited: asyncio.Future[None] = self._loop.create_future()
        self._waiter: asyncio.Future[None] | None = None
        self._pidfd = -1
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._pidfd = os.pidfd_open(pid)
            self._loop.add_reader(self._pidfd, self._on_exit)
        except OSError:
            self.close()
            self._poll(_FIRST_POLL_SECONDS)

    async def wait(self, stop: asyncio.Future[None] | None, until: float) -> bool:
        """Return whether it has exited, as soon as it has, *stop* is done, or the loop's clock is at *until*.

        One caller at a time.

        `asyncio.wait` does the same, one iteration of the loop later.
        """
        if self.exited.done() or (stop is not None and stop.done()):
            return self.exited.done()
        self._waiter = waiter = self._loop.create_future()

        def wake(_stop: asyncio.Future[None] | None = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        timer = None if until == math.inf else self._loop.call_at(until, wake)
        if stop is not None:
            stop.add_done_callback(wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            if stop is not None:
                stop.remove_done_callback(wake)
        if not self.exited.done() and has_exited(self._pid):  # such as one that is polled
            self._on_exit()
        return self.exited.done()

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _poll(self, pause: float) -> None:
        if has_exited(self._pid):
            self._on_exit()
        else:
            self._timer = self._loop.call_later(pause, self._poll, min(2 * pause, _POLL_SECONDS))

    def _on_exit(self) -> None:
        self.close()
        self.exited.set_result(None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def has_exited(pid: int) -> bool:
    """Return whether the child *pid* has exited; it is not reaped. Raise OSError where waitid(2) is denied."""
    with contextlib.suppress(ChildProcessError):  # reaped by other code of this process: its status is lost
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    return True
