"""Cases of `doctor` about peers: misconfigured daemons on a bus in memory, and their fixes.

For test_doctor.py.
"""

import json
import time
from contextlib import AsyncExitStack
from dataclasses import replace

from remaphore import Reply, hookimpl
from remaphore.diagnostics.findings import Code, Level
from remaphore.diagnostics.survey import PeerSurvey
from remaphore.hooks.manager import configure, empty, load, register
from remaphore.messaging.signer import Signer
from remaphore.protocol import wire
from remaphore.protocol.duration import MINUTE, SECOND
from remaphore.protocol.peers import Peer, addressed
from remaphore.receiving.ledger.ledger import FILE
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.factories import make_encoded_reply, make_key
from tests.harness.nodes import NAMES, make_config
from tests.harness.waiting import until

LONG = 30.0  # seconds; never reached if every peer replies
BRIEF = 0.05  # if a peer does not reply
SOME = 1.0  # if a reply comes at once, as every one does on this bus, and is dropped
REPORTED = json.dumps(
    {"schema": 1, "verbs": ["*"], "known_as": "com.one", "destination": "com.two", "version": "1"}
).encode()
US = make_key(1).public
TWO, THREE = NAMES[2], NAMES[3]


def clock(seconds=0.0):
    """Return a clock that is so many seconds ahead."""
    return lambda: time.time_ns() + round(seconds * SECOND)


def knows(number, *verbs, destination=None, **fields):
    """Return the entry of node *number* in the configuration of another."""
    permitted = frozenset(verbs or "*")
    name = destination or NAMES[number]
    return Peer(destination=name, key=make_key(number).public, verbs=permitted, origin=f"peers of {name}", **fields)


class Garbage:
    """A plugin that answers the verb `permissions` with something else."""

    @hookimpl
    def remaphore_message(self, message):
        return Reply(0, b"\x1b[31mnot JSON")


class DoctorSite:
    """Daemons on a bus in memory, which node 1 examines."""

    def __init__(self, folder):
        self.folder = folder
        self.broker = MemoryBroker()
        self.config = make_config(1, peers=(knows(2),))
        self.asked = ("**",)
        self.daemons = AsyncExitStack()

    async def start(
        self, number=2, *, config=None, plugins=("permissions",), own=None, off=0.0, machine="", instance="main"
    ):
        """Start the daemon of node *number*, whose clock is *off* seconds ahead; return it.

        machine: that of a copy of the node.
        """
        config = config or make_config(number)
        manager = load(plugins) if plugins else empty()
        if own is not None:
            register(manager, own, name="own")
        configure(manager, config)
        folder = self.folder / f"{number}{machine}"
        folder.mkdir(exist_ok=True)
        own_clock = clock(off)
        # As if it had been running for long: a new ledger drops messages that were signed before its creation.
        created = own_clock() - 10 * MINUTE
        return await self.daemons.enter_async_context(
            running_daemon(
                self.broker.connect(),
                folder,
                config=config,
                plugins=manager,
                clock=own_clock,
                created=created,
                instance=instance,
            )
        )

    async def stop(self):
        """Stop all daemons."""
        await self.daemons.aclose()

    async def examine(self, *, timeout=LONG, replies=0):
        """Return the findings. Once all peers have replied, wait until there are so many *replies* in all."""
        found = []
        signer = Signer(self.config, time.time_ns)
        seen, waiting = len(self.broker.published), []

        async def enough(stop):
            await until(lambda: len(self.broker.published) - seen > replies)  # one is the request
            stop()

        survey = PeerSurvey(
            self.broker.connect(),
            self.config,
            signer,
            {to: addressed(self.config.peers, to) for to in self.asked},
            timeout=timeout,
            on_listening=lambda stop: waiting.append(spawn(enough(stop), name="enough")),
        )
        await survey.run(lambda *findings: found.extend(findings))
        return found

    async def found(self, code, **options):
        """Return the findings of one kind."""
        return [finding for finding in await self.examine(**options) if finding.code is code]

    async def assert_ok(self):
        """Assert that every peer replies and no finding needs attention."""
        found = await self.examine()
        assert {finding.level for finding in found} == {Level.OK}, found


# Each function misconfigures the site, and returns the function that fixes it.


async def does_not_permit_the_verb(site):
    daemon = await site.start(config=make_config(2, peers=(knows(1, "ping"),)))
    return lambda: daemon.reload(lambda: make_config(2, peers=(knows(1, "ping", "permissions"),)))


async def has_no_plugin(site):
    await site.start(plugins=())

    async def enable():
        await site.stop()
        await site.start(plugins=("permissions",))

    return enable


async def has_another_plugin_for_the_verb(site):
    await site.start(plugins=(), own=Garbage)

    async def remove_it():
        await site.stop()
        await site.start()

    return remove_it


async def has_a_damaged_ledger(site):
    (site.folder / "2").mkdir()
    (site.folder / "2" / FILE).write_bytes(b"no ledger" * 1000)
    await site.start()

    async def move_it_away():
        await site.stop()
        (site.folder / "2" / FILE).unlink()
        await site.start()

    return move_it_away


async def respond(site, number, *, accepts, **fields):
    """Reply to requests of the keys *accepts* with the key of node *number*, as no daemon does."""
    bus = site.broker.connect()

    def answer(raw):
        request = wire.decode(raw).message()
        reply = make_encoded_reply(
            number, request, **({"time_ns": time.time_ns(), "payload": b"0," + REPORTED} | fields)
        )
        if request.sender in accepts:
            spawn(bus.publish(f"remaphore.{request.digest.hex()}", reply), name="reply")

    await bus.subscribe("remaphore.all", answer)


async def expects_another_key_of_ours(site):
    ours = (*site.config.identities, *make_config(3).identities)
    site.config = replace(site.config, identities=ours)
    accepts = {make_key(3).public}
    await respond(site, 2, accepts=accepts)
    return lambda: accepts.add(US)


async def lists_us_under_another_destination(site):
    daemon = await site.start(config=make_config(2, peers=(knows(1, destination="com.old"),)))
    return lambda: daemon.reload(lambda: make_config(2))


async def has_another_destination(site):
    await site.start(config=replace(make_config(2), destination="com.new"))

    def write_its_own_destination():
        site.config = replace(site.config, peers=(knows(2, destination="com.new"),))

    return write_its_own_destination


async def runs_the_go_implementation(site):
    await respond(site, 2, accepts={US}, uuid=b"random", payload=b"NO_DATA")

    def declare_it():
        site.config = replace(site.config, peers=(knows(2, legacy=True),))

    return declare_it


async def has_a_new_key(site):
    await respond(site, 3, accepts={US})

    def write_the_key():
        site.config = replace(site.config, peers=(knows(3, destination=TWO),))

    return write_the_key


async def is_imitated(site):
    await site.start()
    bus = site.broker.connect()

    def forge(raw):
        request = wire.decode(raw).message()
        forged = make_encoded_reply(2, request, time_ns=time.time_ns()).replace(b"ok", b"no")
        spawn(bus.publish(f"remaphore.{request.digest.hex()}", forged), name="forgery")

    await bus.subscribe("remaphore.all", forge)
    return bus.close


async def has_a_wrong_clock(site, *, off):
    wide = 10 * MINUTE
    site.config = replace(site.config, allow_skew_ns=100 * SECOND)
    await site.start(config=replace(make_config(2), allow_skew_ns=wide), off=off)

    async def set_the_clock():
        await site.stop()
        await site.start(config=replace(make_config(2), allow_skew_ns=wide))

    return set_the_clock


async def allows_less_skew(site):
    site.config = replace(site.config, allow_skew_ns=10 * MINUTE)
    await site.start(config=replace(make_config(2), allow_skew_ns=50 * SECOND), off=100)

    async def set_the_clock():
        await site.stop()
        await site.start(config=replace(make_config(2), allow_skew_ns=50 * SECOND))

    return set_the_clock


async def does_not_run(site):
    return site.start


async def does_not_list_us(site):
    daemon = await site.start(config=make_config(2, peers=(knows(3),)))
    return lambda: daemon.reload(lambda: make_config(2))


async def may_not_be_asked(site):
    site.config = replace(make_config(1, "ping", "deploy"), peers=site.config.peers)
    await site.start()

    def permit_it():
        site.config = replace(make_config(1, "ping", "deploy", "permissions"), peers=site.config.peers)

    return permit_it


async def was_cloned(site):
    await site.start()
    await site.start(machine="copy")

    async def give_the_copy_a_key_and_a_destination():
        await site.stop()
        await site.start()
        await site.start(3)
        site.config = replace(site.config, peers=(knows(2), knows(3)))

    return give_the_copy_a_key_and_a_destination


async def has_two_daemons_that_report_nothing(site):
    await site.start(plugins=())
    await site.start(plugins=(), machine="copy")

    async def stop_one_and_enable_the_plugin():
        await site.stop()
        await site.start()

    return stop_one_and_enable_the_plugin


async def runs_two_instances(site):
    await site.start(machine="a", instance="a")
    await site.start(machine="b", instance="b")

    async def stop_one():
        await site.stop()
        await site.start()

    return stop_one


E, W, N = Level.ERROR, Level.WARNING, Level.NOTE
KEY = make_key(3).public
CASES = [
    (
        Code.PERMISSIONS_REJECTED,
        N,
        does_not_permit_the_verb,
        f"on that node: remaphore peer permit {US} --allow permissions",
    ),
    (
        Code.PERMISSIONS_UNAVAILABLE,
        N,
        has_no_plugin,
        'write enable = ["permissions"] under [plugins] there, and restart it',
    ),
    (
        Code.PERMISSIONS_UNREADABLE,
        W,
        has_another_plugin_for_the_verb,
        "run remaphore hooks permissions there; remove a handler",
    ),
    (
        Code.PEER_SEVERAL_MACHINES,
        E,
        was_cloned,
        "2 machines reply as this peer, with the same key, and each runs every message: invocations ",
    ),
    (
        Code.PEER_SEVERAL_RECEIVERS,
        W,
        has_two_daemons_that_report_nothing,
        "hint: run remaphore ping --count 1, which tells unless a handler replies to ping there; or enable the plugin",
    ),
    (
        Code.PEER_SEVERAL_INSTANCES,
        N,
        runs_two_instances,
        "2 instances reply as this peer, and each runs every message: a, b",
    ),
    (Code.PEER_REJECTS, W, has_a_damaged_ledger, "rejects: ledger: the ledger cannot be written"),
    (Code.PEER_EXPECTS_OTHER_KEY, E, expects_another_key_of_ours, f"expects our key {KEY}, but we sign with {US}"),
    (
        Code.OWN_DESTINATION_MISMATCH,
        W,
        lists_us_under_another_destination,
        'write destination = "com.one" there, to the peer with our key',
    ),
    (
        Code.PEER_DESTINATION_MISMATCH,
        W,
        has_another_destination,
        "its own destination is com.new: messages to com.two do not reach it",
    ),
    (
        Code.REPLY_UNBOUND,
        E,
        runs_the_go_implementation,
        'hint: write compatibility = "legacy" to peers of com.two',
    ),
    (
        Code.UNKNOWN_KEY,
        E,
        has_a_new_key,
        f"signature of the key {KEY}, which no peer has; hint: if one of com.two has a new key",
    ),
    (Code.REPLY_FORGED, E, is_imitated, "replies with the key of a peer and an invalid signature: 1; hint: find out"),
    (Code.PEER_CLOCK_SKEW, E, lambda site: has_a_wrong_clock(site, off=-300), "s behind ours (allowed: 100 s)"),
    (Code.PEER_CLOCK_SKEW, W, lambda site: has_a_wrong_clock(site, off=80), "s ahead of ours (allowed: 100 s)"),
    (Code.TIME_REJECTED, E, allows_less_skew, "rejects the time of our messages: outside-window: signed "),
    (Code.PEER_SILENT, W, does_not_run, "Likely causes, in this order: no receiver is running there"),
    (Code.NO_REPLIES, E, does_not_run, "the only peer that was asked did not reply"),
    (Code.PEER_SILENT, W, does_not_list_us, f"remaphore explain --from {US} --verb permissions --to=com.two"),
    (Code.IDENTITY_NOT_PERMITTED, W, may_not_be_asked, 'hint: add "permissions" to the verbs of this identity'),
]
# How many replies have to arrive, where the first of each peer does not show it.
REPLIES = {Code.PEER_SEVERAL_MACHINES: 2, Code.PEER_SEVERAL_RECEIVERS: 2, Code.PEER_SEVERAL_INSTANCES: 2}
# A missing reply can only be observed after the whole timeout.
SECONDS = {
    Code.PEER_SILENT: BRIEF,
    Code.NO_REPLIES: BRIEF,
    Code.REPLY_UNBOUND: SOME,
    Code.UNKNOWN_KEY: SOME,
    Code.PEER_EXPECTS_OTHER_KEY: SOME,
}
