"""What would run for a verb now, and what prevents it: the scan of its directories, checked.

Made again for each message, and also reported at startup, at a reload and by `remaphore_plan`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from remaphore import Action, Message, PluginError, Step
from remaphore.text import escape
from remaphore.trust import UnsafeError, check_directory, lstat
from remaphore_plugins.hooks_d.scan import Entry, Kind, find_verbs, scan
from remaphore_plugins.hooks_d.trust import TrustedFile, check_file
from remaphore_plugins.processes.account import Account
from remaphore_plugins.processes.first_line import Obstacle
from remaphore_plugins.processes.obstacles import find_directory_obstacle, find_obstacle

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The handlers of a verb, in order, and what is skipped. faults: if there is one, nothing may run."""

    handlers: tuple[TrustedFile, ...]
    skipped: tuple[Entry, ...]
    faults: tuple[UnsafeError, ...]


def prepare(verb: str, hooks: Sequence[str], *, own: Account) -> Plan | None:
    """Read and check the entries of *verb* under *hooks*; return None if there is no directory for it.

    own: the user of the daemon, which is trusted besides root.
    """
    try:
        found = scan(verb, hooks)
    except OSError as error:
        return Plan(handlers=(), skipped=(), faults=(_unreadable(error),))
    if found is None:
        return None
    look = functools.cache(lstat)  # the paths to all of them begin with the same directories
    faults: list[UnsafeError] = []
    handlers: list[TrustedFile] = []
    for folder in found.folders:
        # Where we are the daemon, the directory has been read.
        obstacle = None if own.uid == os.geteuid() else find_directory_obstacle(folder, own)
        faults += [UnsafeError(folder, *obstacle)] if obstacle else []
        try:
            check_directory(folder, user=own.uid, look=look)
        except UnsafeError as fault:
            faults.append(fault)
    for entry in found.entries:
        try:
            # A mask decides what runs, too: a user who can write to it could hide a handler.
            trusted = None if entry.kind is Kind.SKIP else check_file(entry.path, user=own.uid, look=look)
        except UnsafeError as fault:
            faults.append(fault)
        else:
            handlers += [trusted] if trusted is not None and entry.kind is Kind.RUN else []
    skipped = tuple(entry for entry in found.entries if entry.kind is not Kind.RUN)
    # Several entries share the directories above them, so the same fault may have been found more than once.
    once = {str(fault): fault for fault in faults}
    return Plan(handlers=tuple(handlers), skipped=skipped, faults=tuple(once.values()))


def make_argv(handler: TrustedFile, message: Message, *, stdin: bool) -> list[bytes]:
    """Return the arguments of *handler*; with the payload among them, unless it is passed on stdin only."""
    words = [os.fsencode(handler.path), message.verb.encode()]
    return words if stdin else [*words, message.payload]


def to_steps(plan: Plan, message: Message, account: Account, *, stdin: bool) -> list[Step]:
    """Return *plan*, run by *account*, as the steps of `remaphore_plan`: what is unsafe, runs, fails, is skipped."""
    steps = [
        Step(action=Action.UNSAFE, name=escape(fault.path), reason=fault.reason, hint=fault.hint)
        for fault in plan.faults
    ]
    for handler in () if plan.faults else plan.handlers:
        argv = tuple(map(os.fsdecode, make_argv(handler, message, stdin=stdin)))
        remark = "payload on stdin only" if stdin else ""
        step = Step(action=Action.RUN, name=handler.path.rpartition("/")[2], argv=argv, reason=remark)
        fault = find_handler_obstacle(handler, account)
        steps.append(step if fault is None else replace(step, action=Action.FAIL, reason=fault.reason, hint=fault.hint))
    return steps + [
        Step(action=Action.SKIP, name=escape(entry.name), reason=entry.reason, hint=entry.hint)
        for entry in plan.skipped
    ]


def explain_name(verb: str, hooks: Sequence[str]) -> list[Step]:
    """Return why nothing runs for *verb* if there is a directory of this name, but no verb can have it."""
    try:
        entries = find_verbs(hooks)[1]
    except OSError:
        return []
    return [
        Step(action=Action.SKIP, name=escape(entry.name), reason=entry.reason, hint=entry.hint)
        for entry in entries
        if entry.name == verb
    ]


def list_problems(
    hooks: Sequence[str], account_of: Callable[[str], Account | PluginError], *, own: Account
) -> Iterator[str]:
    """Yield a line for each entry under *hooks* that could be mistaken for a handler and will not run.

    account_of: the user of a verb, or why there is none. own: as of `prepare`.
    """
    try:
        verbs, misnamed = find_verbs(hooks)
    except OSError as error:
        yield f"handlers rejected: {with_hint(_unreadable(error))}"
        return
    for entry in misnamed:
        yield f"directory skipped: {with_hint(entry)}"
    for verb in verbs:
        plan = prepare(verb, hooks, own=own)
        if plan is not None:  # else it was deleted meanwhile
            yield from _list_problems_of(verb, plan, account_of(verb))


def _list_problems_of(verb: str, plan: Plan, account: Account | PluginError) -> Iterator[str]:
    for fault in plan.faults:
        yield f"verb {verb} rejected: {with_hint(fault)}"
    if isinstance(account, PluginError):
        yield escape(f"verb {verb} rejected: {account}; {account.hint}")
        return
    for handler in plan.handlers:
        obstacle = find_handler_obstacle(handler, account)
        if obstacle is not None:
            yield escape(f"handler cannot start: {handler.path}: {obstacle.reason}; {obstacle.hint}")
    for entry in plan.skipped:
        if entry.kind is Kind.SKIP:
            yield f"handler skipped: {with_hint(entry)}"
    if not plan.handlers and not plan.faults:
        yield nothing_runs(verb, plan)


def find_handler_obstacle(handler: TrustedFile, account: Account) -> Obstacle | None:
    """Return why *account* could not start *handler*, None if nothing is found."""
    return find_obstacle(handler.path, account, search_path=SEARCH_PATH)


def nothing_runs(verb: str, plan: Plan) -> str:
    """Return the line for a verb whose directory contains nothing that would run."""
    return f"verb {verb} has a directory but no handler: {len(plan.skipped)} skipped or masked"


def with_hint(problem: UnsafeError | Entry) -> str:
    """Return *problem* as one line, `PATH: REASON; HINT`, that is safe to print."""
    return escape(f"{problem.path}: {problem.reason}; {problem.hint}")


def _unreadable(error: OSError) -> UnsafeError:
    path = os.fsdecode(error.filename or "")
    hint = "make it readable for the daemon's user, or remove it from hooks"
    return UnsafeError(path, f"cannot be read: {error.strerror}", hint)
