"""What would run for a verb now, and what forbids it: the scan of its directories, judged.

Made anew for each message; told at the start, at a reload and by `remaphore_plan` as well.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from remaphore import Action, Message, Step
from remaphore_plugins.exec_script.scan import Entry, Kind, find_verbs, scan
from remaphore_plugins.exec_script.trust import Seal, UnsafeError, judge, judge_folder, look_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The handlers of a verb, in order, and what is passed over. faults: if there is one, nothing may run."""

    handlers: tuple[Seal, ...]
    passed_over: tuple[Entry, ...]
    faults: tuple[UnsafeError, ...]


def prepare(verb: str, hooks: Sequence[str]) -> Plan | None:
    """Read and judge what there is for *verb* under *hooks*; None if there is no directory for it."""
    try:
        found = scan(verb, hooks)
    except OSError as error:
        return Plan(handlers=(), passed_over=(), faults=(_unreadable(error),))
    if found is None:
        return None
    user, look = os.geteuid(), functools.cache(look_at)  # the ways to all of them begin alike
    faults: list[UnsafeError] = []
    handlers: list[Seal] = []
    for folder in found.folders:
        try:
            judge_folder(folder, user=user, look=look)
        except UnsafeError as fault:
            faults.append(fault)
    for entry in found.entries:
        try:
            # A mask decides what runs, too: who may write to it could hide a handler.
            seal = None if entry.kind is Kind.SKIP else judge(entry.path, user=user, look=look)
        except UnsafeError as fault:
            faults.append(fault)
        else:
            handlers += [seal] if seal is not None and entry.kind is Kind.RUN else []
    passed_over = tuple(entry for entry in found.entries if entry.kind is not Kind.RUN)
    return Plan(handlers=tuple(handlers), passed_over=passed_over, faults=_once(faults))


def make_argv(handler: Seal, message: Message, *, stdin: bool) -> list[bytes]:
    """Return what *handler* is called with; the payload only if it does not come on stdin alone."""
    words = [os.fsencode(handler.path), message.verb.encode()]
    return words if stdin else [*words, message.payload]


def to_steps(plan: Plan, message: Message, *, stdin: bool) -> list[Step]:
    """Return *plan* as the hook `remaphore_plan` answers it: what is unsafe, what runs, what is passed over."""
    steps = [
        Step(action=Action.UNSAFE, name=show(fault.path), reason=fault.reason, hint=fault.hint) for fault in plan.faults
    ]
    for handler in () if plan.faults else plan.handlers:
        argv = tuple(map(os.fsdecode, make_argv(handler, message, stdin=stdin)))
        steps.append(Step(action=Action.RUN, name=handler.path.rpartition("/")[2], argv=argv))
    return steps + [
        Step(action=Action.SKIP, name=show(entry.name), reason=entry.reason, hint=entry.hint)
        for entry in plan.passed_over
    ]


def tell(hooks: Sequence[str]) -> Iterator[str]:
    """Yield a line for each thing under *hooks* that an administrator may take for a handler and that will not run."""
    try:
        verbs, wrong = find_verbs(hooks)
    except OSError as error:
        yield f"handlers rejected: {_unreadable(error)}"
        return
    for entry in wrong:
        yield _line("directory passed over", entry)
    for verb in verbs:
        plan = prepare(verb, hooks)
        yield from () if plan is None else _tell_verb(verb, plan)


def _tell_verb(verb: str, plan: Plan) -> Iterator[str]:
    for fault in plan.faults:
        yield f"verb {verb} rejected: {show(str(fault))}"
    for entry in plan.passed_over:
        if entry.kind is Kind.SKIP:
            yield _line("handler passed over", entry)
    if not plan.handlers and not plan.faults:
        yield nothing_runs(verb, plan)


def nothing_runs(verb: str, plan: Plan) -> str:
    """Return the line for a verb that has a directory, and in it nothing that would run."""
    return f"verb {verb} has a directory and no handler: {len(plan.passed_over)} passed over or masked"


def show(text: str) -> str:
    """Return *text* as a log and a terminal can take it: a file may be called anything."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _line(what: str, entry: Entry) -> str:
    return show(f"{what}: {entry.path}: {entry.reason}; {entry.hint}")


def _unreadable(error: OSError) -> UnsafeError:
    path = os.fsdecode(error.filename or "")
    return UnsafeError(
        path, f"cannot be read: {error.strerror}", "let the daemon's user read it, or do not name it in hooks"
    )


def _once(faults: Iterable[UnsafeError]) -> tuple[UnsafeError, ...]:
    """Drop what was found a second time: the directories on the way to several entries are the same."""
    return tuple({str(fault): fault for fault in faults}.values())
