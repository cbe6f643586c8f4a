"""The metrics that are made of the daemon's `Status` when somebody asks for them; nothing is counted here.

The daemon's numbers belong to its event loop, and a scrape comes in a thread. So the thread asks the loop for a copy:
nothing changes size under it, and the numbers of one scrape are of one moment, so that they add up.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from remaphore import DropReason, QueueState, Status
from remaphore_plugins.metrics.verbs import VerbLabels

# Who waits longer for the loop has learnt what matters: it is blocked. The scrape fails, and `up` is 0.
LOOP_SECONDS = 1.0

# A counter that begins with its first event has no increase at it: so each of these is there from the start, as 0. A
# word that is missing here is served all the same, from its first event on.
_REJECTIONS = (
    "busy",
    "displaced",
    "expired",
    "ledger",
    "not-permitted",
    "outside-window",
    "stopping",
    "verb-not-permitted",
)
_REPLIES = ("sent", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The numbers of a `Status` at one moment, and the labels of that moment."""

    received: int = 0
    dropped: Mapping[DropReason, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    handled: Mapping[str, int] = field(default_factory=dict)
    replies: Mapping[str, int] = field(default_factory=dict)
    queues: Mapping[str, QueueState] = field(default_factory=dict)
    connected: bool = False
    reconnects: int = 0
    problem: str = ""
    checking: int = 0
    labels: VerbLabels = field(default_factory=VerbLabels)

    @classmethod
    def of(cls, status: Status, labels: VerbLabels) -> Snapshot:
        """Copy the numbers of *status*; to be called in the daemon's event loop."""
        names = (
            "received",
            "dropped",
            "rejected",
            "handled",
            "replies",
            "queues",
            "connected",
            "reconnects",
            "problem",
            "checking",
        )
        return cls(labels=labels, **{name: getattr(status, name) for name in names})


class StatusCollector:
    """Hands the metrics of *status* to a registry. *labels* and *status* are read in *loop*."""

    def __init__(self, status: Status, *, labels: Callable[[], VerbLabels], loop: asyncio.AbstractEventLoop) -> None:
        self._status = status
        self._labels = labels
        self._loop = loop

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without their values: a registry that is given none would collect, in the loop itself."""
        return families(Snapshot())

    def collect(self) -> Iterator[Metric]:
        """Return the metrics now. Not to be called in the loop. Raises TimeoutError if the loop is blocked."""
        return families(self._ask())

    def _ask(self) -> Snapshot:
        answer: Future[Snapshot] = Future()

        def read() -> None:
            try:
                answer.set_result(Snapshot.of(self._status, self._labels()))
            except Exception as error:  # noqa: BLE001 - it is the scrape's
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(read)
        return answer.result(LOOP_SECONDS)


def families(now: Snapshot) -> Iterator[Metric]:
    """Return the metrics of *now*."""
    yield CounterMetricFamily(
        "remaphore_messages_received", "Messages that arrived on our subject, whatever they were.", now.received
    )
    yield GaugeMetricFamily("remaphore_messages_checking", "Messages whose signatures are being checked.", now.checking)
    dropped = {str(reason): now.dropped.get(reason, 0) for reason in DropReason}
    yield _counter("messages_dropped", "Messages that the gate did not take.", "reason", dropped)
    rejected = {**dict.fromkeys(_REJECTIONS, 0), **now.rejected}
    yield _counter("messages_rejected", "Verified messages that were not acted on.", "reason", rejected)
    handled = now.labels.count(now.handled)
    yield _counter("messages_handled", "Messages that went through the plugins.", "verb", handled)
    replies = {**dict.fromkeys(_REPLIES, 0), **now.replies}
    yield _counter("replies", "Replies, rejections among them: sent, and failed.", "result", replies)
    yield from _queues(now)
    yield GaugeMetricFamily("remaphore_connected", "1 with a connection to the broker, 0 without.", int(now.connected))
    yield CounterMetricFamily("remaphore_reconnects", "Connections to the broker after the first.", now.reconnects)
    yield GaugeMetricFamily("remaphore_problem", "1 while nothing can run, 0 if all is well.", int(bool(now.problem)))
    yield _build()


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"remaphore_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _queues(now: Snapshot) -> Iterator[Metric]:
    states = dict.fromkeys(sorted(now.labels.known), QueueState(0, 0, 0.0))
    for verb, state in now.queues.items():
        label = now.labels.of(verb)
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
