"""The metrics that are made of the daemon's `DaemonStats` at each scrape; nothing is counted here.

The daemon's numbers belong to its event loop, and a scrape comes in a thread. So the thread asks the loop for a copy:
nothing changes size under it, and the numbers of one scrape are of one moment, so that they add up.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from remaphore import DaemonStats, DropReason, QueueState
from remaphore_plugins.metrics.verbs import VerbLabels

# Who waits longer for the loop has learnt what matters: it is blocked. The scrape fails, and `up` is 0.
LOOP_SECONDS = 1.0

# A counter that begins with its first event has no increase at it: so each of these is there from the start, as 0. A
# word that is missing here is served all the same, from its first event on.
_REJECTIONS = (
    "busy",
    "evicted",
    "expired",
    "ledger",
    "not-permitted",
    "outside-window",
    "stopping",
    "verb-not-permitted",
)
_REPLIES = ("sent", "failed")


class StatusCollector:
    """Hands the metrics of *stats* to a registry. *labels* and *stats* are called in *loop*."""

    def __init__(
        self,
        stats: Callable[[], DaemonStats],
        *,
        labels: Callable[[], VerbLabels],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._stats = stats
        self._labels = labels
        self._loop = loop

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without their values: a registry that is given none would collect, in the loop itself."""
        return families(DaemonStats(), VerbLabels())

    def collect(self) -> Iterator[Metric]:
        """Return the metrics now. Not to be called in the loop. Raises TimeoutError if the loop is blocked."""
        return families(*self._ask())

    def _ask(self) -> tuple[DaemonStats, VerbLabels]:
        answer: Future[tuple[DaemonStats, VerbLabels]] = Future()

        def read() -> None:
            try:
                answer.set_result((self._stats(), self._labels()))
            except Exception as error:  # noqa: BLE001 - it is the scrape's
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(read)
        return answer.result(LOOP_SECONDS)


def families(now: DaemonStats, labels: VerbLabels) -> Iterator[Metric]:
    """Return the metrics of *now*, with these *labels*."""
    yield CounterMetricFamily(
        "remaphore_messages_received", "Messages that arrived on our subject, whatever they were.", now.received
    )
    yield GaugeMetricFamily("remaphore_messages_checking", "Messages whose signatures are being checked.", now.checking)
    dropped = {str(reason): now.dropped.get(reason, 0) for reason in DropReason}
    yield _counter("messages_dropped", "Messages that the gate did not take.", "reason", dropped)
    rejected = {**dict.fromkeys(_REJECTIONS, 0), **now.rejected}
    yield _counter("messages_rejected", "Verified messages that were not acted on.", "reason", rejected)
    handled = labels.count(now.handled)
    yield _counter("messages_handled", "Messages that went through the plugins.", "verb", handled)
    replies = {**dict.fromkeys(_REPLIES, 0), **now.replies}
    yield _counter("replies", "Replies, rejections among them: sent, and failed.", "result", replies)
    yield from _queues(now, labels)
    yield GaugeMetricFamily("remaphore_connected", "1 with a connection to the broker, 0 without.", int(now.connected))
    yield CounterMetricFamily("remaphore_reconnects", "Connections to the broker after the first.", now.reconnects)
    yield GaugeMetricFamily("remaphore_problem", "1 while nothing can run, 0 if all is well.", int(bool(now.problem)))
    yield _build()


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"remaphore_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _queues(now: DaemonStats, labels: VerbLabels) -> Iterator[Metric]:
    states = dict.fromkeys(sorted(labels.known), QueueState(0, 0, 0.0))
    for verb, state in now.queues.items():
        label = labels.of(verb)
        sofar = states.get(label, QueueState(0, 0, 0.0))
        oldest = max(sofar.oldest_seconds, state.oldest_seconds)
        states[label] = QueueState(sofar.waiting + state.waiting, sofar.running + state.running, oldest)
    for name, text, values in (
        ("length", "Messages that wait.", [state.waiting for state in states.values()]),
        ("running", "Messages that are being handled.", [state.running for state in states.values()]),
        ("oldest_seconds", "Age of the oldest that waits.", [state.oldest_seconds for state in states.values()]),
    ):
        family = GaugeMetricFamily(f"remaphore_queue_{name}", text, labels=["verb"])
        for label, value in zip(states, values, strict=True):
            family.add_metric([label], value)
        yield family


def _build() -> Metric:
    family = GaugeMetricFamily("remaphore_build_info", "Always 1; the labels tell.", labels=["version", "python"])
    family.add_metric([version("remaphore"), platform.python_version()], 1)
    return family
