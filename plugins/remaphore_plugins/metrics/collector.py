"""The metrics of one daemon: its `DaemonStats`, read at each scrape, and the handler runs, counted as they happen.

The daemon's numbers belong to its event loop, and a scrape runs in a thread. So the thread asks the loop for a copy:
nothing changes size while it is read, and the numbers of one scrape are a consistent snapshot.

The library's Counter and Histogram are not used: where PROMETHEUS_MULTIPROC_DIR is set, for another program (gunicorn),
they keep their values in files there; our registry then shows none of them, or counting fails.

Each verb that the configuration names has its own label; all others share one. A peer that may send every verb
may invent any number, and Prometheus keeps a series for each label value: only the configuration decides how many.
"""

from __future__ import annotations

import asyncio
import platform
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import accumulate, chain

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from remaphore import Config, DaemonStats, DropReason, LockStats, Outcome, QueueState, Reply

OTHER = "other"  # the label of all verbs that the configuration does not name

# A scrape that waits longer for the loop has found what matters: the loop is blocked. It fails, and `up` is 0.
LOOP_SECONDS = 1.0

# A counter that appears with its first event shows no increase then: so each of these exists from the start, as 0. A
# reason that is missing here is served too, from its first event on.
_REJECTIONS = (
    "busy",
    "error",
    "evicted",
    "expired",
    "ledger",
    "not-permitted",
    "outside-window",
    "payload-not-permitted",
    "stopping",
    "verb-not-permitted",
)
_REPLIES = ("sent", "failed")
_OTHER_LOCKS = "(other)"  # no lock can have this name
_LOSSES = ("evicted", "expired", "set-back", "taken")
# Handlers are programs: from one that ends immediately to the ten minutes that a verb has by default, and beyond.
_BUCKETS_SECONDS = (0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 600, 3600)
_ANY = "*"  # permits every verb, and is not one
_VERB_DIRECTORY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class VerbLabels:
    """The verbs that have their own label. Frozen, so that the thread of a scrape sees either all of it or none.

    A known verb stays known, and earlier counts stay with the others: Prometheus treats a counter that
    decreases as a restart, and counts all of it again. before: those counts, by verb.

    With `deploy` unknown and three of them handled, `other` is 3. Then a reload makes it known: before = {"deploy": 3}.
    After two more, `deploy` is 5 - 3 = 2, and `other` is still 3.
    """

    known: frozenset[str] = frozenset()
    before: Mapping[str, int] = field(default_factory=dict)

    def learn(self, config: Config, handled: Mapping[str, int]) -> VerbLabels:
        """Return these labels and those that *config* names. *handled*: the counts up to now, by verb."""
        new = frozenset(_verbs_of(config)) - self.known
        before = {verb: handled[verb] for verb in new if verb in handled}
        return VerbLabels(self.known | new, {**self.before, **before})

    def of(self, verb: str) -> str:
        """Return the label of *verb*."""
        return verb if verb in self.known else OTHER

    def count(self, handled: Mapping[str, int]) -> dict[str, int]:
        """Return *handled*, by verb, as counts by label: 0 for a known verb that is not in it."""
        totals = dict.fromkeys(sorted(self.known), 0)
        for verb, number in handled.items():
            before = self.before.get(verb, 0)
            for label, part in ((self.of(verb), number - before), (OTHER, before)):
                if part:
                    totals[label] = totals.get(label, 0) + part
        return totals


class HandlerRuns:
    """What plugins did with messages: numbers by verb, plugin and result, and seconds by verb and plugin."""

    def __init__(self) -> None:
        self.results: Counter[tuple[str, str, str]] = Counter()
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.buckets: dict[tuple[str, str], list[int]] = {}

    def add(self, verb: str, plugin: str, result: str, seconds: float) -> None:
        """Count one message."""
        self.results[verb, plugin, result] += 1
        self.seconds[verb, plugin] += seconds
        buckets = self.buckets.get((verb, plugin))
        if buckets is None:
            buckets = self.buckets[verb, plugin] = [0] * (len(_BUCKETS_SECONDS) + 1)
        buckets[bisect_left(_BUCKETS_SECONDS, seconds)] += 1

    def families(self) -> list[Metric]:
        """Return the two metrics, which hold copies of the numbers."""
        runs = CounterMetricFamily(
            "remaphore_handler_runs",
            "Messages passed to a plugin: ok, failed (exit code not 0), error (raised), none (no reply).",
            labels=["verb", "plugin", "result"],
        )
        for labels, number in self.results.items():
            runs.add_metric(labels, number)
        seconds = HistogramMetricFamily(
            "remaphore_handler_seconds", "Time that a plugin spent on a message.", labels=["verb", "plugin"]
        )
        bounds = [*map(floatToGoString, _BUCKETS_SECONDS), "+Inf"]
        for key, buckets in self.buckets.items():
            seconds.add_metric(key, list(zip(bounds, accumulate(buckets), strict=True)), self.seconds[key])
        return [runs, seconds]


class MetricsCollector:
    """All metrics of one daemon, in its own registry: in a shared one, the numbers of two daemons would be added up."""

    def __init__(self, config: Config) -> None:
        self.registry = CollectorRegistry()
        self._labels = VerbLabels().learn(config, {})
        self._stats: Callable[[], DaemonStats] = DaemonStats
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runs = HandlerRuns()

    def attach(self, stats: Callable[[], DaemonStats], loop: asyncio.AbstractEventLoop) -> None:
        """Serve what *stats* returns from now on; it is called in *loop* only."""
        self._stats, self._loop = stats, loop
        self.registry.register(self)

    def reload(self, config: Config) -> None:
        """Give each verb that *config* names its own label."""
        self._labels = self._labels.learn(config, self._stats().handled)

    def count(self, verb: str, outcomes: tuple[Outcome, ...]) -> None:
        """Count what each plugin did with one message of *verb*."""
        for outcome in outcomes:
            reply = outcome.result
            if outcome.error is not None:
                result = "error"
            elif isinstance(reply, Reply):
                result = "ok" if reply.exit_code == 0 else "failed"
            else:
                result = "none"
            self._runs.add(self._labels.of(verb), outcome.plugin, result, outcome.seconds)

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without their values. Without this a registry would collect, in the loop itself."""
        return chain(HandlerRuns().families(), _families(DaemonStats(), VerbLabels()))

    def collect(self) -> Iterator[Metric]:
        """Return the metrics now. Not to be called in the loop. Raise TimeoutError if the loop is blocked."""
        assert self._loop is not None  # attached before it was registered
        answer: Future[tuple[list[Metric], DaemonStats, VerbLabels]] = Future()

        def read() -> None:
            try:
                answer.set_result((self._runs.families(), self._stats(), self._labels))
            except Exception as error:  # noqa: BLE001 - it is raised in the scrape
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(read)
        runs, stats, labels = answer.result(LOOP_SECONDS)
        return chain(runs, _families(stats, labels))


def _families(now: DaemonStats, labels: VerbLabels) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "remaphore_messages_received", "Messages of any kind that arrived on the subject.", now.received
    )
    yield GaugeMetricFamily("remaphore_messages_checking", "Messages whose signatures are being checked.", now.checking)
    dropped = {str(reason): now.dropped.get(reason, 0) for reason in DropReason}
    text = "Messages that the gate dropped; exact: the pattern is exactly our destination."
    yield _by_reason("messages_dropped", text, dropped, {str(key): number for key, number in now.dropped_exact.items()})
    rejected = {**dict.fromkeys(_REJECTIONS, 0), **now.rejected}
    text = "Messages that were verified and rejected; exact: as of the dropped ones."
    yield _by_reason("messages_rejected", text, rejected, now.rejected_exact)
    handled = labels.count(now.handled)
    yield _counter("messages_handled", "Messages passed to the plugins.", "verb", handled)
    replies = {**dict.fromkeys(_REPLIES, 0), **now.replies}
    yield _counter("replies", "Replies, including rejections: sent and failed.", "result", replies)
    receipts = {**dict.fromkeys(_REPLIES, 0), **now.receipts}
    yield _counter("receipts", "Confirmations that a request has started: sent and failed.", "result", receipts)
    empty = QueueState(0, 0, 0.0)
    queues = dict.fromkeys(sorted(labels.known), empty)
    for verb, queue in now.queues.items():  # those with one label are one queue here
        label = labels.of(verb)
        sofar = queues.get(label, empty)
        oldest = max(sofar.oldest_seconds, queue.oldest_seconds)
        queues[label] = QueueState(sofar.waiting + queue.waiting, sofar.running + queue.running, oldest)
    for name, text, values in (
        ("length", "Waiting messages.", [queue.waiting for queue in queues.values()]),
        ("running", "Messages that are being handled.", [queue.running for queue in queues.values()]),
        ("oldest_seconds", "Age of the oldest waiting message.", [queue.oldest_seconds for queue in queues.values()]),
    ):
        family = GaugeMetricFamily(f"remaphore_queue_{name}", text, labels=["verb"])
        for label, value in zip(queues, values, strict=True):
            family.add_metric([label], value)
        yield family
    yield from lock_families(now.locks)
    yield GaugeMetricFamily("remaphore_connected", "1 with a connection to the broker, 0 without.", int(now.connected))
    yield CounterMetricFamily("remaphore_reconnects", "Connections to the broker after the first.", now.reconnects)
    yield GaugeMetricFamily("remaphore_problem", "1 while nothing can run, 0 otherwise.", int(bool(now.problem)))
    build = GaugeMetricFamily("remaphore_build_info", "Always 1; see the labels.", labels=["version", "python"])
    build.add_metric([version("remaphore"), platform.python_version()], 1)
    yield build


class LockCollector:
    """The metrics of the locks of one node, for a program with a registry of its own. read: `node.lock_stats`.

    REGISTRY.register(LockCollector(lambda: node.lock_stats))
    """

    def __init__(self, read: Callable[[], Mapping[str, LockStats]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Return the metrics now."""
        return lock_families(self._read())


def lock_families(locks: Mapping[str, LockStats]) -> Iterator[Metric]:
    """Yield the metrics of *locks*, by name; those of the empty name are of all that were beyond a limit."""
    held = GaugeMetricFamily("remaphore_locks_held", "Leases that this node holds.", labels=["lock"])
    waiting = GaugeMetricFamily("remaphore_locks_waiting", "Tries to acquire that wait.", labels=["lock"])
    acquired = CounterMetricFamily(
        "remaphore_lock_acquisitions", "Tries that ended: acquired, not-acquired in time.", labels=["lock", "result"]
    )
    failed = CounterMetricFamily("remaphore_lock_renewal_failures", "Series of failed renewals.", labels=["lock"])
    lost = CounterMetricFamily("remaphore_lock_losses", "Leases that were lost, by reason.", labels=["lock", "reason"])
    text = "Time until a lease was acquired."
    wait = HistogramMetricFamily("remaphore_lock_wait_seconds", text, labels=["lock"])
    for name, stats in locks.items():
        label = name or _OTHER_LOCKS
        held.add_metric([label], stats.held)
        waiting.add_metric([label], stats.waiting)
        acquired.add_metric([label, "acquired"], stats.acquired)
        acquired.add_metric([label, "not-acquired"], stats.not_acquired)
        failed.add_metric([label], stats.renewals_failed)
        for reason, number in {**dict.fromkeys(_LOSSES, 0), **stats.lost}.items():
            lost.add_metric([label, reason], number)
        bounds = map(floatToGoString, stats.wait_buckets)
        buckets = zip(bounds, accumulate(stats.wait_buckets.values()), strict=True)
        wait.add_metric([label], list(buckets), stats.wait_seconds)
    yield from (held, waiting, acquired, failed, lost, wait)


def _by_reason(name: str, text: str, all_of: Mapping[str, int], exact: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"remaphore_{name}", text, labels=["reason", "exact"])
    for reason, number in all_of.items():
        family.add_metric([reason, "true"], exact.get(reason, 0))
        family.add_metric([reason, "false"], number - exact.get(reason, 0))
    return family


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"remaphore_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _verbs_of(config: Config) -> Iterator[str]:
    for verbs in (*(peer.verbs for peer in config.peers), *(own.verbs for own in config.identities), config.verbs):
        # A .conf may contain bytes that are not UTF-8, and an exposition cannot. An empty label counts as none.
        yield from (verb for verb in verbs if verb and verb != _ANY and verb.isprintable())
    for folder in config.hooks:
        try:
            entries = [entry for entry in folder.iterdir() if entry.is_dir()]
        except OSError:
            continue  # hooks-d reports the problem; here it names no verb
        yield from (entry.name for entry in entries if _VERB_DIRECTORY.fullmatch(entry.name))
