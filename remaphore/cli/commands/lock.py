"""`remaphore lock`: run a command while no other node holds the same lock; show locks, and end a lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from remaphore.cli import holding, output
from remaphore.cli.holding import Holding
from remaphore.errors import UsageError

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.coordination.jetstream import JetStream
    from remaphore.coordination.lock_states import LockState, SlotState, Waiter

SUMMARY = "run a command while no other node holds the same lock"
EXAMPLE = """\
remaphore lock nightly --no-wait -- /usr/local/bin/report
remaphore lock list"""
EXIT_CODES = {**holding.EXIT_CODES, 1: f"{holding.EXIT_CODES[1]}; show, release: it is free"}

CONNECT_LIMIT = 10.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRun(Holding):
    """Options of lock with a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockList:
    """Options of lock list, and of lock show, which has a *name*."""

    config: str | None = None
    name: str = ""
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRelease:
    """Options of lock release. now: do not wait for the holder."""

    config: str | None = None
    name: str
    now: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments and actions to *parser*, and to the one of what stands before a command."""
    from remaphore.cli import arguments

    parser.usage = (
        "remaphore lock [OPTION...] NAME -- COMMAND [ARG...]\n       remaphore lock list|show NAME|release NAME [--now]"
    )
    parser.description = (
        "Run COMMAND while no other node holds the lock NAME. Others wait in line. If the lock is lost, the command"
        " ends, with all it started, before the next one begins. Its variable REMAPHORE_LOCK_TOKEN is a number that"
        " grows with each lease, so that what it writes to can refuse a smaller one."
    )
    holding.add_options(parser)
    before = parser.before_command = arguments.Parser(prog=parser.prog, usage=parser.usage)
    arguments.add_config(before)
    before.add_argument("name", metavar="NAME", help="name of the lock: a-z, 0-9, - and _")
    holding.add_options(before)
    before.set_defaults(options=LockRun.from_arguments)

    actions = parser.add_subparsers(prog=parser.prog, metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="list locks and semaphores, who holds them, and who waits")
    listed.description = "List the locks and semaphores taken in the last 30 days, who holds them, and how many wait."
    listed.example = "remaphore lock list\nremaphore lock list --json"
    arguments.add_config(listed)
    arguments.add_json(listed)
    listed.set_defaults(options=_without_options(LockList))
    shown = actions.add_parser("show", help="show who holds a lock, and who waits for it")
    shown.description = "Show who holds the lock or semaphore NAME, and who waits for it, in order."
    shown.example = "remaphore lock show deploy"
    arguments.add_config(shown)
    shown.add_argument("name", metavar="NAME", help="the lock")
    arguments.add_json(shown)
    shown.set_defaults(options=_without_options(LockList))
    released = actions.add_parser("release", help="end the lease of who holds a lock")
    released.description = (
        "End the lease of who holds the lock NAME: its command is ended, and then the lock is free. This needs the"
        " permission evict:NAME on both nodes."
    )
    released.example = "remaphore lock release deploy"
    arguments.add_config(released)
    released.add_argument("name", metavar="NAME", help="the lock")
    released.add_argument(
        "--now",
        action="store_true",
        help="free it at once, such as of a machine that is off: two commands may run if it is not",
    )
    released.set_defaults(options=_without_options(LockRelease))


def _without_options(kind: type[LockList | LockRelease]) -> Callable[..., LockList | LockRelease]:
    """Return what makes *kind* of what the parser has read, and refuses the options of a command."""

    def make(**given: Any) -> LockList | LockRelease:
        from remaphore.protocol import record

        for name in given.keys() - {field.name for field in fields(kind)}:
            option = {"fair": "--unfair", "wait": "--wait, --no-wait"}.get(name, f"--{name.replace('_', '-')}")
            raise UsageError(f"{option}: only with a command", hint="omit it, or write -- COMMAND")
        if given.get("name") and (problem := record.name_problem(given["name"])):
            raise UsageError(f"invalid name {given['name']!r}: {problem}", hint="remaphore lock list shows all names")
        return kind(**given)

    return make


def run(options: LockRun | LockList | LockRelease) -> int:
    """Run the command, or carry out the action; return the exit code."""
    if isinstance(options, LockRun):
        return holding.run(options)
    from remaphore import tasks
    from remaphore.cli.configuration import load_config

    config = load_config(options.config)
    if isinstance(options, LockList):
        return tasks.run(show(options, config))
    return tasks.run(release(options, config))


async def show(options: LockList, config: Config) -> int:
    """Print all locks, or one; return 0, and 1 if that one is free."""
    from remaphore.cli.holder import permission_hint
    from remaphore.coordination.lock_states import states

    found = await _asked(config, lambda jetstream: states(jetstream, config, options.name or None))
    if options.json:
        output.write_json(*map(to_document, found))
    elif options.name:
        _write_lock(found)
    elif found:
        header = ("LOCK", "HELD", "BY", "WAITING")
        output.write_table(header, [_row(each) for each in found])
    else:
        output.notice("no lock was taken in the last 30 days")
    if options.name and not found:
        output.notice(f"lock {options.name}: free: not taken in the last 30 days")
    if hint := permission_hint(_problems(found)):
        output.notice(f"hint: {hint}")
    held = any(slot.holder for each in found for slot in each.slots)
    return 0 if held or not options.name else 1


async def release(options: LockRelease, config: Config) -> int:
    """End the lease; return 0, and 1 if there is none."""
    from remaphore.cli.holder import holder
    from remaphore.coordination.lock_states import evict

    ended = await _asked(config, lambda jetstream: evict(jetstream, config, options.name, now=options.now))
    for slot in ended:
        who = holder(slot.holder) if slot.holder else "an unknown holder"
        then = "free now" if options.now else "free as soon as its command has ended"
        output.notice(
            f"lock {options.name}: ended the lease of {who}; {then}, if the other nodes permit this one"
            f" evict:{options.name}"
        )
    if not ended:
        output.notice(f"lock {options.name}: it is free")
    return 0 if ended else 1


async def _asked(config: Config, ask: Callable[[JetStream], Any]) -> Any:
    """Return the answer to *ask* by the broker of *config*."""
    from remaphore.coordination.jetstream import JetStream
    from remaphore.transport.nats_client import NatsBus

    bus = await NatsBus.connect(
        config.servers, auth=config.auth, tls=config.tls, limit=CONNECT_LIMIT, on_notice=output.notice
    )
    try:
        jetstream = JetStream(bus, config.subject)
        answer = await ask(jetstream)
        await _warn_of_set_back(config, jetstream)
        return answer
    finally:
        await bus.close()


async def _warn_of_set_back(config: Config, jetstream: JetStream) -> None:
    """Warn if the broker's data was set back; what keeps us from finding that out is a matter of doctor."""
    import contextlib
    import os

    from remaphore.coordination.high_water import HINT, HighWaterMarks
    from remaphore.errors import RemaphoreError, with_hint
    from remaphore.receiving.ledger.state import coordination_directory

    folder = coordination_directory(config, os.environ)
    with contextlib.suppress(RemaphoreError):
        found = await HighWaterMarks(folder, jetstream, config.servers).check()
        if found is not None:
            output.notice(with_hint(f"warning: {found}", HINT))


def _problems(locks: list[LockState]) -> list[str]:
    """Return what is wrong with *locks* and the last records of their slots."""
    return [problem for lock in locks for problem in (lock.problem, *map(_slot_problem, lock.slots)) if problem]


def _slot_problem(slot: SlotState) -> str:
    return f"last record: {slot.problem}" if slot.problem else ""


def _row(lock: LockState) -> tuple[str, str, str, str]:
    from remaphore.cli.holder import holders

    held = [slot.holder for slot in lock.slots if slot.holder]
    by = "; ".join([*([holders(held)] if held else []), *_problems([lock])]) or "-"
    return lock.name, f"{len(held)} of {len(lock.slots)}", by, str(len(lock.waiters))


def _write_lock(found: list[LockState]) -> None:
    from remaphore.cli.holder import holder

    rows = []
    for slot in (slot for lock in found for slot in lock.slots):
        parts = (holder(slot.holder) if slot.holder else "", _slot_problem(slot))
        rows.append((f"slot {slot.index}", "; ".join(filter(None, parts)) or "free"))
    rows += [("definition", lock.problem) for lock in found if lock.problem]
    rows += [(f"waiting {place}", describe(waiter)) for lock in found for place, waiter in enumerate(lock.waiters, 1)]
    for name, text in rows:
        output.write(output.wrap(output.printable(f"{name}: {text}"), indent=4))


def describe(waiter: Waiter) -> str:
    """Return who waits: `com.example.left (pid 4711 on web1)`."""
    return f"{waiter.who}{'' if waiter.known else ', an unknown key,'} (pid {waiter.pid} on {waiter.host})"


def to_document(lock: LockState) -> dict[str, object]:
    """Return *lock* as one object of --json."""
    return {
        "name": lock.name,
        "slots": [_slot_document(slot) for slot in lock.slots],
        "waiting": [
            {"peer": each.who, "known": each.known, "host": each.host, "pid": each.pid} for each in lock.waiters
        ],
        "problem": lock.problem,
    }


def _slot_document(slot: SlotState) -> dict[str, object]:
    found = slot.holder
    holder = found and {
        "peer": found.who,
        "known": found.known,
        "host": found.host,
        "pid": found.pid,
        "note": found.note,
        "since": found.since,
        "token": found.token,
        "ttl": found.ttl,
    }
    return {"slot": slot.index, "holder": holder, "problem": slot.problem}
