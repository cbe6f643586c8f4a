"""The plugin `metrics`, scraped over HTTP: numbers are right, series are bounded, and shutdown leaves nothing."""

import asyncio
import os
import platform
import resource
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from structlog.testing import capture_logs

from remaphore import DaemonStats, DropReason, LockStats, PluginError, VerbSettings
from remaphore.extras import install_hint
from remaphore.hooks import manager
from remaphore.protocol.peers import Peer
from remaphore.receiving.queues import MAX_WORKERS_PER_SENDER
from remaphore_plugins.metrics import Metrics, collector, server
from remaphore_plugins.metrics.collector import MetricsCollector
from remaphore_plugins.metrics.server import MetricsServer
from remaphore_plugins.metrics.settings import Listen, MetricsSettings
from tests.harness.factories import make_encoded, make_key
from tests.harness.metrics import fetch, scrape, total
from tests.harness.nodes import NAMES, make_config
from tests.plugins import metrics_daemon
from tests.plugins.metrics_daemon import FREE_PORT

ROOT = Path(__file__).parents[2]
SUBJECT = "remaphore.all"


@pytest.fixture
def serving(tmp_path):
    """Runs daemons with the plugin; their ledgers are in tmp_path."""
    return partial(metrics_daemon.serving, tmp_path)


def loopbacks():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return [FREE_PORT]  # a machine without IPv6
    return [FREE_PORT, "[::1]:0"]


def ready_plugin(listen=FREE_PORT):
    plugin = Metrics()
    plugin.remaphore_configure(make_config(2), MetricsSettings(listen))
    return plugin


def address_of(plugin):
    return plugin.url.removeprefix("http://").removesuffix("/metrics")


def stats(queues=dict):
    return DaemonStats(queues=queues(), connected=True)


async def test_received_is_the_sum_of_all_that_happened_to_messages(serving):
    async with serving(replace(make_config(2), verbs={"wait": VerbSettings(queue=2)})) as served:
        await served.send("wait")
        while not served.handler.started:
            await asyncio.sleep(0)
        await served.send("wait", "wait", "wait")
        await served.sender.send("wait", to=NAMES[2])
        await served.send("echo", "fail", "none")
        await served.bus.publish(SUBJECT, b"garbage")
        await served.bus.publish(SUBJECT, make_encoded(9))
        for destination in (NAMES[2], NAMES[2], "com.t*"):
            await served.bus.publish(SUBJECT, make_encoded(9, destination=destination))
        await served.handled(3)
        series = await served.scrape()
        assert series["remaphore_messages_received_total",] == 13
        assert series["remaphore_messages_rejected_total", "false", "busy"] == 1
        assert series["remaphore_messages_rejected_total", "true", "busy"] == 1
        assert series["remaphore_messages_dropped_total", "false", "malformed"] == 1
        assert series["remaphore_messages_dropped_total", "false", "unknown-sender"] == 2
        assert series["remaphore_messages_dropped_total", "true", "unknown-sender"] == 2
        assert total(series, "remaphore_messages_handled_total") == 3
        assert series["remaphore_queue_length", "wait"] == 2
        assert series["remaphore_queue_running", "wait"] == 1
        assert series["remaphore_queue_oldest_seconds", "wait"] > 0
        assert (
            total(
                series,
                "remaphore_messages_handled_total",
                "remaphore_messages_rejected_total",
                "remaphore_messages_dropped_total",
                "remaphore_queue_length",
                "remaphore_queue_running",
            )
            == 13
        )


async def test_runs_are_counted_by_result_and_each_is_in_the_histogram(serving):
    verbs = ("echo", "echo", "bad", "fail", "none")
    async with serving(replace(make_config(2), verbs={verb: VerbSettings() for verb in verbs})) as served:
        await served.send(*verbs)
        await served.handled(5)
        series = await served.scrape()
        runs = {key[1:]: value for key, value in series.items() if key[0] == "remaphore_handler_runs_total"}
        assert runs == {
            ("handler", "ok", "echo"): 2,
            ("handler", "failed", "bad"): 1,
            ("handler", "error", "fail"): 1,
            ("handler", "none", "none"): 1,
        }
        assert series["remaphore_handler_seconds_count", "handler", "echo"] == 2
        assert series["remaphore_handler_seconds_bucket", "+Inf", "handler", "echo"] == 2
        assert total(series, "remaphore_handler_seconds_count") == 5
        assert 0 < series["remaphore_handler_seconds_sum", "handler", "echo"] < 30


async def test_every_reason_and_known_verb_is_there_from_the_start(serving):
    async with serving(replace(make_config(2), verbs={"deploy": VerbSettings()})) as served:
        series = await served.scrape()
    dropped = {key[1:] for key in series if key[0] == "remaphore_messages_dropped_total"}
    assert dropped == set(product(("true", "false"), map(str, DropReason)))
    for rejection in ("busy", "error", "evicted", "expired", "ledger", "not-permitted", "outside-window", "stopping"):
        assert series["remaphore_messages_rejected_total", "false", rejection] == 0
    assert series["remaphore_messages_handled_total", "deploy"] == series["remaphore_queue_length", "deploy"] == 0
    assert series["remaphore_replies_total", "sent"] == series["remaphore_replies_total", "failed"] == 0
    assert series["remaphore_build_info", platform.python_version(), version("remaphore")] == 1


async def test_replies_and_the_connection_are_metrics(serving):
    async with serving() as served:
        async with served.sender.request("echo", to="com.two", timeout=10) as exchange:
            assert [reply.exit_code async for reply in exchange] == [0]
        served.bus.reconnects = 3
        series = await served.scrape()
        assert series["remaphore_replies_total", "sent"] == 1
        assert (series["remaphore_connected",], series["remaphore_reconnects_total",]) == (1, 3)
        await served.bus.close()
        assert (await served.scrape())["remaphore_connected",] == 0


async def test_ten_thousand_verbs_of_a_permitted_peer_add_one_series_to_each_metric(serving):
    def by_metric(series):
        # A histogram is as many series as it has buckets: its le is part of the metric here.
        return Counter((key[0], *(label for label in key[1:] if not label.startswith(verbs))) for key in series)

    verbs = ("wait", "deploy", "other")
    config = replace(make_config(2), verbs={"deploy": VerbSettings()})
    async with serving(config) as served:
        await served.send("deploy")
        await served.handled(1)
        before = by_metric(await served.scrape())
        for number in range(10_000):
            await served.send(f"wait-{number}")
        queued = await served.scrape()
        while queued["remaphore_messages_rejected_total", "false", "busy"] < 10_000 - MAX_WORKERS_PER_SENDER:
            queued = await served.scrape()
        assert queued["remaphore_queue_running", "other"] == MAX_WORKERS_PER_SENDER
        served.handler.release.set()
        await served.handled(1 + MAX_WORKERS_PER_SENDER)
        after = await served.scrape()
        assert after["remaphore_messages_handled_total", "other"] == MAX_WORKERS_PER_SENDER
        assert after["remaphore_handler_runs_total", "handler", "ok", "other"] == MAX_WORKERS_PER_SENDER
        for series in (queued, after):
            assert max((by_metric(series) - before).values()) == 1


async def test_a_reload_brings_new_labels_and_no_counter_goes_down(serving, tmp_path):
    async with serving() as served:
        await served.send("later", "later", "never")
        await served.handled(3)
        assert (await served.scrape())["remaphore_messages_handled_total", "other"] == 3
        (tmp_path / "later").mkdir()
        assert served.daemon.reload(lambda: replace(make_config(2), hooks=(tmp_path,)))
        await served.send("later")
        await served.handled(4)
        series = await served.scrape()
        assert series["remaphore_messages_handled_total", "other"] == 3
        assert series["remaphore_messages_handled_total", "later"] == 1
        assert series["remaphore_handler_runs_total", "handler", "ok", "later"] == 1
        assert served.daemon.reload(lambda: make_config(2))
        assert (await served.scrape())["remaphore_messages_handled_total", "later"] == 1


async def test_a_message_that_a_reload_forbids_is_counted_as_rejected(serving):
    async with serving() as served:
        await served.send("wait", "wait")
        while not served.handler.started:
            await asyncio.sleep(0)
        narrowed = Peer(destination="com.one", key=make_key(1).public, verbs=frozenset({"echo"}))
        served.daemon.reload(lambda: make_config(2, peers=(narrowed,)))
        served.handler.release.set()
        await served.handled(1)
        assert (await served.scrape())["remaphore_messages_rejected_total", "false", "not-permitted"] == 1


async def test_two_daemons_in_one_process_have_separate_counters(serving):
    async with serving() as one, serving() as two:
        await one.send("echo", "echo")
        await one.handled(2)
        assert total(await one.scrape(), "remaphore_messages_received_total", "remaphore_handler_runs_total") == 4
        assert total(await two.scrape(), "remaphore_messages_received_total", "remaphore_handler_runs_total") == 0


async def test_openmetrics_is_served_on_request(serving):
    async with serving() as served:
        accept = "application/openmetrics-text; version=1.0.0"
        text = await asyncio.to_thread(fetch, served.metrics.url, accept)
        assert "remaphore_messages_dropped" in {family.name for family in parse_openmetrics(text)}


async def test_a_scrape_can_name_the_metrics_that_it_wants(serving):
    async with serving() as served:
        text = await asyncio.to_thread(fetch, f"{served.metrics.url}?name[]=remaphore_connected")
        assert "\nremaphore_connected 1.0\n" in text
        assert "remaphore_messages" not in text


@pytest.mark.parametrize("listen", loopbacks())
async def test_shutdown_frees_the_port_and_ends_the_thread(listen):
    plugin, threads = ready_plugin(listen), set(threading.enumerate())
    await plugin.remaphore_startup(stats)
    (thread,) = (thread for thread in set(threading.enumerate()) - threads if thread.name == "metrics")
    address = address_of(plugin)
    assert "remaphore_connected 1.0" in await asyncio.to_thread(fetch, plugin.url)
    await plugin.remaphore_shutdown("stopped")
    assert not thread.is_alive()
    assert plugin.url == ""
    again = ready_plugin(address)
    await again.remaphore_startup(stats)
    await again.remaphore_shutdown("stopped")


async def test_a_port_in_use_is_an_error_with_the_key_and_the_address(serving):
    async with serving() as one:
        address = address_of(one.metrics)
        second = ready_plugin(address)
        with pytest.raises(
            PluginError, match=rf"plugins\.metrics\.listen: cannot listen on {address}: Address already"
        ):
            await second.remaphore_startup(stats)
        await second.remaphore_shutdown("stopped")
        assert total(await one.scrape(), "remaphore_connected") == 1


async def test_with_a_port_in_use_a_daemon_runs_without_metrics(serving):
    with capture_logs() as logged:
        async with serving() as one, serving(listen=address_of(one.metrics)) as two:
            await two.send("echo")
            await two.handled(1)
            assert two.metrics.url == ""
    (line,) = [line for line in logged if line["log_level"] == "error"]
    assert (line["event"], line["plugin"], line["hook"]) == ("plugin_failed", "metrics", "remaphore_startup")
    assert line["hint"] == "stop the process that uses it, or set another address and restart"


async def test_a_silent_client_delays_a_scrape_and_the_stop_only_briefly(monkeypatch):
    monkeypatch.setattr(server, "CONNECTION_SECONDS", 0.05)
    plugin = ready_plugin()
    await plugin.remaphore_startup(stats)
    host, port = address_of(plugin).split(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.settimeout(20)
        assert "remaphore_connected" in await asyncio.to_thread(fetch, plugin.url)
        with socket.create_connection((host, int(port))):
            async with asyncio.timeout(20):
                await plugin.remaphore_shutdown("stopped")
        assert silent.recv(1) == b""


async def test_without_a_free_descriptor_the_server_pauses_and_then_answers():
    metrics, pausing, go_on = (
        MetricsServer(Listen("127.0.0.1", 0), CollectorRegistry()),
        threading.Event(),
        threading.Event(),
    )

    def pause(_seconds):
        pausing.set()
        go_on.wait(30)

    metrics._server.pause = pause
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as client:
        spare = os.dup(client.fileno())
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))  # the next descriptor would have this number
        try:
            client.connect(metrics._server.listen)
            assert await asyncio.to_thread(pausing.wait, 30)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            go_on.set()
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.0 200 OK")
    await asyncio.to_thread(metrics.stop)


async def test_the_numbers_are_read_in_the_thread_that_writes_them():
    readers = []

    def queues():
        readers.append(threading.get_ident())
        return {}

    plugin = ready_plugin()
    await plugin.remaphore_startup(partial(stats, queues))
    await asyncio.to_thread(fetch, plugin.url)
    await plugin.remaphore_shutdown("stopped")
    assert readers == [threading.get_ident()]


def test_a_blocked_loop_fails_the_scrape_instead_of_hanging_it(monkeypatch):
    monkeypatch.setattr(collector, "LOOP_SECONDS", 0.02)
    problems, loop = [], asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, context: problems.append(context))
    blocked = MetricsCollector(make_config(2))
    blocked.attach(stats, loop)
    with pytest.raises(TimeoutError):
        list(blocked.collect())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert not problems


async def test_a_failed_scrape_is_one_line_in_the_log_and_the_next_one_works(caplog):
    def queues():
        if not caplog.records:
            raise RuntimeError("broken")
        return {}

    plugin = ready_plugin()
    caplog.clear()
    await plugin.remaphore_startup(partial(stats, queues))
    caplog.clear()
    with pytest.raises(OSError, match="closed"):
        await asyncio.to_thread(fetch, plugin.url)
    assert [record.getMessage() for record in caplog.records] == ["a scrape failed: RuntimeError('broken')"]
    assert "remaphore_connected" in await asyncio.to_thread(fetch, plugin.url)
    await plugin.remaphore_shutdown("stopped")


async def test_the_locks_of_plugins_are_served_each_by_its_name():
    buckets = {0.5: 2, float("inf"): 1}
    first = LockStats(1, 2, 3, 4, 5, {"evicted": 6}, 7.5, buckets)
    others = LockStats(0, 0, 1, 0, 0, {}, 0.1, buckets)
    plugin = ready_plugin()
    await plugin.remaphore_startup(lambda: DaemonStats(locks={"deploy": first, "other": others, "": others}))
    series = await asyncio.to_thread(scrape, plugin.url)
    await plugin.remaphore_shutdown("stopped")
    assert {key: value for key, value in series.items() if "deploy" in key} == {
        ("remaphore_locks_held", "deploy"): 1,
        ("remaphore_locks_waiting", "deploy"): 2,
        ("remaphore_lock_acquisitions_total", "deploy", "acquired"): 3,
        ("remaphore_lock_acquisitions_total", "deploy", "not-acquired"): 4,
        ("remaphore_lock_renewal_failures_total", "deploy"): 5,
        ("remaphore_lock_losses_total", "deploy", "evicted"): 6,
        ("remaphore_lock_losses_total", "deploy", "expired"): 0,
        ("remaphore_lock_losses_total", "deploy", "set-back"): 0,
        ("remaphore_lock_losses_total", "deploy", "taken"): 0,
        ("remaphore_lock_wait_seconds_bucket", "0.5", "deploy"): 2,
        ("remaphore_lock_wait_seconds_bucket", "+Inf", "deploy"): 3,
        ("remaphore_lock_wait_seconds_count", "deploy"): 3,
        ("remaphore_lock_wait_seconds_sum", "deploy"): 7.5,
    }
    assert {key[1] for key in series if key[0] == "remaphore_locks_held"} == {"deploy", "other", "(other)"}


def test_without_prometheus_client_the_hint_is_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("prometheus_client", "remaphore_plugins.metrics"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    plugins = manager.load(["metrics"])
    with pytest.raises(PluginError, match=r"plugin 'metrics'.*prometheus_client is not installed") as caught:
        manager.configure(plugins, make_config(2))
    assert caught.value.hint == install_hint("metrics")


async def test_a_shutdown_without_a_startup_does_nothing():
    plugin = ready_plugin()
    await plugin.remaphore_shutdown("stopped")
    assert plugin.url == ""


# Counts one run of a handler, and prints what a scrape shows of it. The library reads variables when it is imported.
COUNT = """
import sys
from prometheus_client import generate_latest
from remaphore import Outcome, Reply
from remaphore_plugins.metrics.collector import MetricsCollector
from tests.harness.nodes import make_config
collector = MetricsCollector(make_config(2))
collector.count("deploy", (Outcome("remaphore_message", "hooks-d", 0.3, Reply(0, b"")),))
class Runs:
    collect = staticmethod(collector._runs.families)
collector.registry.register(Runs)
sys.stdout.buffer.write(generate_latest(collector.registry))
"""


@pytest.mark.parametrize(
    ("name", "folder"), [("PROMETHEUS_MULTIPROC_DIR", "missing"), ("prometheus_multiproc_dir", "existing")]
)
def test_variables_for_other_programs_that_use_the_library_change_nothing(name, folder, tmp_path):
    (tmp_path / "existing").mkdir()
    env = os.environ | {name: str(tmp_path / folder), "PROMETHEUS_DISABLE_CREATED_SERIES": "True"}
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[2] == (
        'remaphore_handler_runs_total{plugin="hooks-d",result="ok",verb="other"} 1.0'
    )
    assert 'remaphore_handler_seconds_bucket{le="1.0",plugin="hooks-d",verb="other"} 1.0' in done.stdout
    assert 'remaphore_handler_seconds_bucket{le="0.25",plugin="hooks-d",verb="other"} 0.0' in done.stdout
    assert 'remaphore_handler_seconds_sum{plugin="hooks-d",verb="other"} 0.3' in done.stdout
    assert list((tmp_path / "existing").iterdir()) == []
