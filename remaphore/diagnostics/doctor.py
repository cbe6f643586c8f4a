"""The checks that need the broker and the peers. Behind `remaphore doctor`.

Peers are asked with the verb `permissions` and no other: `ping` is a verb that people send to trigger handlers, and
doctor must not trigger any. (A receiver that accepts every verb, without a filter, accepts this one too.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Level
from remaphore.diagnostics.peers import check_peers
from remaphore.diagnostics.replies import PERMISSIONS
from remaphore.diagnostics.servers import ServerProbe, probe_server, separate
from remaphore.diagnostics.survey import OnListening, PeerSurvey, Report
from remaphore.messaging.signer import Clock, Signer
from remaphore.requesting.requester import expect_each
from remaphore.tasks import spawn


async def examine(
    config: Config,
    *,
    to: Sequence[str],
    timeout: float,
    report: Report,
    on_listening: OnListening = lambda _stop: None,
    clock: Clock = time.time_ns,
) -> None:
    """Examine each server and the peers that *to* matches; call *report* with each finding as it is made.

    to: patterns, of which no two match the same peer; each is sent a message. timeout: seconds for each server, and for
    the replies of the peers; with several identities, silent peers get it twice. on_listening: called when all peers
    have replied and only further replies are awaited, with a function that ends that. Raise NoReceiversError if one of
    *to* matches no peer, ConfigError if our private key cannot be used. A node without any peer has its servers
    examined, as its first one may not be known yet.
    """
    asked = expect_each(config, to) if config.peers else {}
    signer = Signer(config, clock)
    probes = await probe_servers(config, signer, timeout=timeout, report=report)
    try:
        if finding := await separate(config, probes, timeout=timeout):
            report(finding)
        bus = next((probe.bus for probe in probes if probe.usable), None)
        if not asked:
            report(*check_peers(config))
        elif bus is not None:
            survey = PeerSurvey(bus, config, signer, asked, timeout=timeout, on_listening=on_listening, clock=clock)
            await survey.run(report)
    finally:
        for probe in probes:
            await probe.close()


async def probe_servers(config: Config, signer: Signer, *, timeout: float, report: Report) -> list[ServerProbe]:
    """Probe all servers at once and *report* the findings in their order. The caller closes what is returned.

    A server that cannot be reached is only a warning if another one can.
    """
    may_send = config.identity().may_send(PERMISSIONS)
    # Addressed to ourselves alone: every other receiver drops it as not addressed.
    messages = [
        signer.compose(PERMISSIONS, to=config.destination, payload=b"") if may_send else None for _ in config.servers
    ]
    tasks = [
        spawn(probe_server(config, url, message=message, timeout=timeout), name=f"probe {url}")
        for url, message in zip(config.servers, messages, strict=True)
    ]
    try:
        probes = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        probes = [each for each in ended if isinstance(each, ServerProbe)]
        for probe in probes:
            await probe.close()
        _report_servers(probes, report)  # those that have answered before Ctrl-C
        raise
    _report_servers(probes, report)
    return probes


def _report_servers(probes: Sequence[ServerProbe], report: Report) -> None:
    reachable = any(probe.bus for probe in probes)
    for finding in (finding for probe in probes for finding in probe.findings):
        spare = reachable and finding.code is Code.SERVER_UNREACHABLE
        report(replace(finding, level=Level.WARNING) if spare else finding)
