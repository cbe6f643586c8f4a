"""Rows of the receive loop: a real daemon takes, or turns down, what a fast publisher sends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import acting, daemon, limits, site
from benchmarks.daemon import METRICS, Daemon
from benchmarks.limits import Speed
from benchmarks.raw import RawClient, pack
from benchmarks.report import Samples
from benchmarks.site import SUBJECT, Node

SENDERS = 20
MESSAGES = 20_000
ONE_BURST = 50_000  # for `remaphore receive`, which loses none of it
BURST = 5_000  # half of what the daemon lets wait: with more, some would be turned down as too many
PAYLOAD = b"p" * 200  # messages of about 400 bytes

# As many may wait as are sent, and enough are in hand for the ledger to group its writes.
VERBS = "[verbs.note]\nqueue = 20000\nconcurrency = 64\n"


@dataclass(frozen=True, slots=True)
class Flood:
    """What one flood came to: messages judged a second, L1 around it, CPU time of each, messages done with a second."""

    per_second: float
    l1: Speed
    cpu_us: float
    handled_per_second: float


class Receiver:
    """A site with one daemon's configuration and its senders."""

    def __init__(self, folder: Path, url: str, *, name: str = "receive", skew: str = "10m") -> None:
        self.url = url
        self.hooks = folder / "hooks.d"
        self.hooks.mkdir(exist_ok=True)
        self._senders = site.nodes(SENDERS)
        self._strangers = site.nodes(SENDERS, prefix="com.bench.stranger")
        own = Node(site.TARGET, site.nodes(1)[0].key)
        self.config = site.write_config(
            folder, own, self._senders, url=url, name=name, skew=skew, extra=VERBS + METRICS
        )
        acting.install(folder)
        self._acting_config = site.write_config(
            folder, own, self._senders, url=url, name=f"{name}-acting", skew=skew, extra=VERBS + acting.ENABLED
        )
        self._acting_command = ("env", f"PYTHONPATH={folder}", daemon.COMMAND)

    def measure(self, *, short: bool) -> Samples:
        """Return the rates of messages that are taken, in L1, and what one costs."""
        number = MESSAGES // 2 if short else MESSAGES
        both = self.flood(self.accepted, number=number)
        one = self.flood(self.accepted, number=number, one_core=True)
        acted = self.flood(self.accepted, number=number, config=self._acting_config, command=self._acting_command)
        of_two = limits.verifications_of_two()
        l1 = limits.of_one_of_two(both.l1.per_second, of_two)
        return {
            "receive": [both.per_second / l1],
            "receive_one_core": [one.per_second / one.l1.per_second],
            "receive_to_end": [both.handled_per_second / l1],
            "receive_acting": [acted.per_second / l1],
            "receive_acting_to_end": [acted.handled_per_second / l1],
            "receive_acting_cpu": [acted.cpu_us / 1e6 * acted.l1.per_cpu_second],
            "receive_to_end_one_core": [one.handled_per_second / one.l1.per_second],
            "receive_cpu_us": [both.cpu_us],
            "receive_per_cpu_second": [1e6 / both.cpu_us / both.l1.per_cpu_second],
            "receive_cpu": [both.cpu_us / 1e6 * both.l1.per_cpu_second],
            "L1_per_second": [both.l1.per_second, one.l1.per_second],
            "L1_of_two_per_second": [of_two],
        }

    def measure_one_shot(self, *, short: bool) -> Samples:
        """Return the rate of `remaphore receive`, what a message costs it, and how many of one burst it loses."""
        number = MESSAGES // 2 if short else MESSAGES
        with daemon.receiving(self.config) as running, RawClient(self.url) as client:
            self._send(client, self.accepted(500))
            bursts = [self.accepted(BURST) for _ in range(0, number, BURST)]
            before = limits.verifications()
            cpu = running.cpu_seconds()
            seconds = sum(self._send(client, messages) for messages in bursts)
            cpu = running.cpu_seconds() - cpu
            l1 = Speed.between(before, limits.verifications())
        with daemon.receiving(self.config) as running, RawClient(self.url) as client:
            self._send(client, self.accepted(ONE_BURST))
            logged = running.log.read_text().count("message_received")
        return {
            "one_shot": [number / seconds / limits.of_one_of_two(l1.per_second, limits.verifications_of_two())],
            "one_shot_cpu": [cpu / number * l1.per_cpu_second],
            "one_shot_lost": [ONE_BURST + 1 - logged],
        }

    def measure_dropped(self, *, short: bool) -> Samples:
        """Return the rates of messages that are dropped before anything is verified, in L1."""
        number = MESSAGES // 2 if short else MESSAGES
        samples: Samples = {}
        for make in (self.misaddressed, self.unknown, self.forbidden):
            flood = self.flood(make, number=number, burst=number)
            samples[f"reject_{make.__name__}"] = [flood.per_second / flood.l1.per_second]
            samples[f"reject_{make.__name__}_us"] = [flood.cpu_us]
        return samples

    def flood(
        self,
        make: Callable[[int], Sequence[bytes]],
        *,
        number: int = MESSAGES,
        burst: int = BURST,
        one_core: bool = False,
        config: Path | None = None,
        command: Sequence[str] = (daemon.COMMAND,),
    ) -> Flood:
        """Send *number* messages of *make* to a new daemon, and return what it did with them."""
        started = daemon.running(config or self.config, hooks=self.hooks, one_core=one_core, command=command)
        with started as running, RawClient(self.url) as client:
            self.burst(client, running, self.accepted(500))
            bursts = [make(min(burst, number - sent)) for sent in range(0, number, burst)]
            before = limits.verifications()
            cpu = running.cpu_seconds()
            results = [self.burst(client, running, messages) for messages in bursts]
            cpu = running.cpu_seconds() - cpu
            after = limits.verifications()
            handled = running.counts()["handled"]
        logged = running.log.read_text().count("message_received")
        if logged != handled:
            raise RuntimeError(f"{handled:.0f} messages were handled, {logged} logged: see {running.log}")
        judged, ended = (sum(column) for column in zip(*results, strict=True))
        return Flood(
            per_second=number / judged,
            l1=limits.Speed.between(before, after),
            cpu_us=cpu / number * 1e6,
            handled_per_second=number / ended,
        )

    def burst(self, client: RawClient, running: Daemon, messages: Sequence[bytes]) -> tuple[float, float]:
        """Send *messages*; return the seconds until all were judged, and until nothing was left to do for them.

        The last message is one that is answered. Messages are judged in the order of arrival, so all have been when
        its answer comes. RuntimeError if one was turned down for want of room: those are cheaper.
        """
        already = running.counts()
        begin = time.perf_counter()
        judged = self._send(client, messages)
        done = daemon.wait_until(
            lambda: running.counts_since(already, len(messages) + 1), f"the daemon lost messages, see {running.log}"
        )
        if done["rejected"]:
            raise RuntimeError(f"{done['rejected']:.0f} messages were rejected, see {running.log}")
        return judged, time.perf_counter() - begin

    def _send(self, client: RawClient, messages: Sequence[bytes]) -> float:
        """Send *messages* and one that is answered; return the seconds from the first to the answer."""
        last = site.sign(self._senders[0], "sentinel", wants_reply=True)
        client.subscribe(site.reply_subject(last))
        packed = pack(SUBJECT, [*messages, last])
        begin = time.perf_counter()
        client.send(packed)
        client.receive()
        return time.perf_counter() - begin

    def accepted(self, number: int) -> list[bytes]:
        """Return messages that are taken: of all senders in turn, for a verb without handlers, no reply wanted."""
        return [site.sign(self._senders[index % SENDERS], "note", payload=PAYLOAD) for index in range(number)]

    def misaddressed(self, number: int) -> list[bytes]:
        """Return messages for another destination."""
        return self._unsigned(self._senders, "note", to="com.bench.elsewhere", number=number)

    def unknown(self, number: int) -> list[bytes]:
        """Return messages of senders that are no peers."""
        return self._unsigned(self._strangers, "note", to=site.TARGET, number=number)

    def forbidden(self, number: int) -> list[bytes]:
        """Return messages with a verb that their senders may not send."""
        return self._unsigned(self._senders, "forbidden", to=site.TARGET, number=number)

    def _unsigned(self, senders: Sequence[Node], verb: str, *, to: str, number: int) -> list[bytes]:
        # One signature serves all, because it is never verified: only the id, 24 digits, differs.
        models = [site.sign(sender, verb, to=to, payload=PAYLOAD).split(b",", 7) for sender in senders]
        messages = []
        for index in range(number):
            fields = models[index % len(models)]
            messages.append(b",".join((*fields[:4], os.urandom(12).hex().encode(), *fields[5:])))
        return messages
