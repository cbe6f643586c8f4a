"""What `doctor` finds about peers: daemons on a bus in memory, set up wrongly, and how that is mended.

For test_doctor.py.
"""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import replace

from remaphore import Reply, hookimpl
from remaphore.diagnostics.doctor import Round
from remaphore.diagnostics.findings import Code, Level
from remaphore.hooks.manager import configure, empty, load, register
from remaphore.messaging.signer import Signer
from remaphore.protocol import wire
from remaphore.protocol.duration import MINUTE, SECOND
from remaphore.protocol.peers import Peer
from remaphore.receiving.daemon import Daemon
from remaphore.receiving.ledger.ledger import FILE, Ledger
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.factories import make_key, make_reply
from tests.nodes import NAMES, make_config

LONG = 30.0  # seconds that nobody waits who is answered
BRIEF = 0.05  # for who is not
SOME = 1.0  # for who answers at once, and is not taken: nobody is slow on this bus
TOLD = json.dumps(
    {"schema": 1, "verbs": ["*"], "known_as": "com.one", "destination": "com.two", "version": "1"}
).encode()
US = make_key(1).public
TWO, THREE = NAMES[2], NAMES[3]


def clock(seconds=0.0):
    """A clock that is so many seconds off."""
    return lambda: time.time_ns() + round(seconds * SECOND)


def knows(number, *verbs, destination=None, **fields):
    """How one node lists node *number*."""
    permitted = frozenset(verbs or "*")
    name = destination or NAMES[number]
    return Peer(destination=name, key=make_key(number).public, verbs=permitted, origin=f"peers of {name}", **fields)


class Garbage:
    """A plugin that takes the verb for its own."""

    @hookimpl
    def remaphore_message(self, message):
        return Reply(0, b"\x1b[31mnot JSON")


class Site:
    """Daemons on a bus in memory, and the doctor who looks at them from node 1."""

    def __init__(self, folder):
        self.folder = folder
        self.broker = MemoryBroker()
        self.config = make_config(1, peers=(knows(2),))
        self.daemons = AsyncExitStack()

    async def start(self, number=2, *, config=None, plugins=("permissions",), own=None, off=0.0):
        """Start the daemon of node *number*, whose clock is *off* by so many seconds; return it."""
        config = config or make_config(number)
        manager = load(plugins) if plugins else empty()
        if own is not None:
            register(manager, own, name="own")
        configure(manager, config)
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        # As if it had run for long: a new ledger rejects what was signed before it.
        began = clock(off)() - 10 * MINUTE
        ledger = await self.daemons.enter_async_context(Ledger(folder, allow_skew_ns=config.allow_skew_ns, now=began))
        daemon = Daemon(self.broker.connect(), config, plugins=manager, ledger=ledger, clock=clock(off))
        ready = asyncio.Event()
        task = spawn(daemon.run(ready=ready.set), name=f"daemon {number}")
        self.daemons.push_async_callback(asyncio.wait, {task})
        self.daemons.callback(daemon.stop)
        await ready.wait()
        return daemon

    async def stop(self):
        """Stop all daemons."""
        await self.daemons.aclose()

    async def look(self, *, timeout=LONG):
        """Return what the doctor finds."""
        found = []
        signer = Signer(self.config, time.time_ns)
        await Round(self.broker.connect(), self.config, signer, self.config.peers, to="**", timeout=timeout).ask(
            found.append
        )
        return found

    async def found(self, code, **options):
        """Return the findings of one kind."""
        return [finding for finding in await self.look(**options) if finding.code is code]

    async def assert_well(self):
        """Everybody answers, and nothing is to be said."""
        found = await self.look()
        assert {finding.level for finding in found} == {Level.OK}, found


# What is wrong with a peer: each sets the site up wrongly, and returns how it is mended.


async def refuses_to_say(site):
    daemon = await site.start(config=make_config(2, peers=(knows(1, "ping"),)))
    return lambda: daemon.reload(lambda: make_config(2, peers=(knows(1, "ping", "permissions"),)))


async def has_no_plugin(site):
    await site.start(plugins=())

    async def enable():
        await site.stop()
        await site.start(plugins=("permissions",))

    return enable


async def answers_something_else(site):
    await site.start(plugins=(), own=Garbage)

    async def take_it_away():
        await site.stop()
        await site.start()

    return take_it_away


async def has_a_damaged_ledger(site):
    (site.folder / "2").mkdir()
    (site.folder / "2" / FILE).write_bytes(b"no ledger" * 1000)
    await site.start()

    async def move_it_away():
        await site.stop()
        (site.folder / "2" / FILE).unlink()
        await site.start()

    return move_it_away


async def respond(site, number, *, takes, **fields):
    """Answer those whose keys it *takes*, with the key of node *number*, as nothing does that is set up rightly."""
    bus = site.broker.connect()

    def answer(raw):
        request = wire.decode(raw).message()
        reply = make_reply(number, request, **({"time_ns": time.time_ns(), "payload": b"0," + TOLD} | fields))
        if request.sender in takes:
            spawn(bus.publish(f"remaphore.{request.digest.hex()}", reply), name="reply")

    await bus.subscribe("remaphore.all", answer)


async def knows_another_key_of_ours(site):
    ours = (*site.config.identities, *make_config(3).identities)
    site.config = replace(site.config, identities=ours)
    takes = {make_key(3).public}
    await respond(site, 2, takes=takes)
    return lambda: takes.add(US)


async def knows_us_by_another_name(site):
    daemon = await site.start(config=make_config(2, peers=(knows(1, destination="com.old"),)))
    return lambda: daemon.reload(lambda: make_config(2))


async def calls_itself_otherwise(site):
    await site.start(config=replace(make_config(2), destination="com.new"))

    def write_the_name_that_it_has():
        site.config = replace(site.config, peers=(knows(2, destination="com.new"),))

    return write_the_name_that_it_has


async def runs_the_original(site):
    await respond(site, 2, takes={US}, uuid=b"random", payload=b"NO_DATA")

    def say_so():
        site.config = replace(site.config, peers=(knows(2, legacy=True),))

    return say_so


async def has_a_new_key(site):
    await respond(site, 3, takes={US})

    def write_this_key():
        site.config = replace(site.config, peers=(knows(3, destination=TWO),))

    return write_this_key


async def is_imitated(site):
    await site.start()
    bus = site.broker.connect()

    def forge(raw):
        request = wire.decode(raw).message()
        forged = make_reply(2, request, time_ns=time.time_ns()).replace(b"ok", b"no")
        spawn(bus.publish(f"remaphore.{request.digest.hex()}", forged), name="forgery")

    await bus.subscribe("remaphore.all", forge)
    return bus.close


async def has_a_clock_that_is_off(site, *, off):
    wide = 10 * MINUTE
    site.config = replace(site.config, allow_skew_ns=100 * SECOND)
    await site.start(config=replace(make_config(2), allow_skew_ns=wide), off=off)

    async def set_the_clock():
        await site.stop()
        await site.start(config=replace(make_config(2), allow_skew_ns=wide))

    return set_the_clock


async def is_stricter_about_clocks(site):
    site.config = replace(site.config, allow_skew_ns=10 * MINUTE)
    await site.start(config=replace(make_config(2), allow_skew_ns=50 * SECOND), off=100)

    async def set_the_clock():
        await site.stop()
        await site.start(config=replace(make_config(2), allow_skew_ns=50 * SECOND))

    return set_the_clock


async def does_not_run(site):
    return site.start


async def does_not_know_us(site):
    daemon = await site.start(config=make_config(2, peers=(knows(3),)))
    return lambda: daemon.reload(lambda: make_config(2))


async def is_not_asked(site):
    site.config = replace(make_config(1, "ping", "deploy"), peers=site.config.peers)
    await site.start()

    def permit_it():
        site.config = replace(make_config(1, "ping", "deploy", "permissions"), peers=site.config.peers)

    return permit_it


E, W, N = Level.ERROR, Level.WARNING, Level.NOTE
KEY = make_key(3).public
CASES = [
    (Code.PERMISSIONS_REFUSED, N, refuses_to_say, f'add "permissions" to the verbs of the peer with our key {US}'),
    (Code.PERMISSIONS_UNTOLD, N, has_no_plugin, 'let it write enable = ["permissions"] under [plugins], and restart'),
    (Code.PERMISSIONS_UNREADABLE, W, answers_something_else, "remaphore hooks permissions; take a handler away"),
    (Code.PEER_REFUSES, W, has_a_damaged_ledger, "it rejects: ledger: the ledger cannot be written"),
    (Code.PEER_KNOWS_OTHER_KEY, E, knows_another_key_of_ours, f"it knows our key {KEY}, and not {US}, which signs"),
    (Code.PEER_KNOWS_US_OTHERWISE, W, knows_us_by_another_name, 'let it write destination = "com.one" to the peer'),
    (Code.PEER_CALLS_ITSELF_OTHERWISE, W, calls_itself_otherwise, "it calls itself com.new: what we send to com.two"),
    (Code.REPLY_UNBOUND, E, runs_the_original, 'hint: write compatibility = "legacy" to peers of com.two'),
    (Code.KEY_UNKNOWN, E, has_a_new_key, f"with the key {KEY}, which no peer has; hint: if it is one of com.two"),
    (Code.REPLY_FORGED, E, is_imitated, "carry the key of a peer, and not its signature"),
    (Code.CLOCK_OFF, E, lambda site: has_a_clock_that_is_off(site, off=-300), "s behind ours, allowed are 100 s"),
    (Code.CLOCK_OFF, W, lambda site: has_a_clock_that_is_off(site, off=80), "s ahead of ours, allowed are 100 s"),
    (Code.CLOCK_REFUSED, E, is_stricter_about_clocks, "s behind our clock, allowed are 50 s"),
    (Code.PEER_SILENT, W, does_not_run, "Likely, in this order: nothing receives there"),
    (Code.NOBODY_ANSWERS, E, does_not_run, "the only one that was asked does not answer"),
    (Code.PEER_SILENT, W, does_not_know_us, f"remaphore explain --from {US} --verb permissions --to com.two"),
    (Code.VERB_NOT_OURS, W, is_not_asked, 'hint: add "permissions" to the verbs of this identity'),
]
# That nobody answers can only be seen once the time is over.
SECONDS = {
    Code.PEER_SILENT: BRIEF,
    Code.NOBODY_ANSWERS: BRIEF,
    Code.REPLY_UNBOUND: SOME,
    Code.KEY_UNKNOWN: SOME,
    Code.PEER_KNOWS_OTHER_KEY: SOME,
}
