"""Nothing is open to the network without TLS, nor to another server without a certificate."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore.embedded.addresses import Address, listen_address
from remaphore.embedded.certificates import TlsFiles
from remaphore.embedded.server_config import Cluster, Settings, quote, render
from remaphore.errors import UsageError

PAIR = TlsFiles(cert=Path("/c"), key=Path("/k"))
CLUSTER = Cluster(listen=Address("10.0.0.1", 6222), routes=(Address("two.example.com", 6222),))


@pytest.mark.parametrize("text", ["0.0.0.0:4222", ":4222", "[::]:4222", "10.0.0.1:4222", "broker.example.com:4222"])
def test_other_addresses_than_loopback_need_tls_unless_they_are_permitted(text: str) -> None:
    with pytest.raises(UsageError, match="is not loopback: without TLS") as caught:
        Settings(listen=listen_address(text))
    assert "--tls-cert" in caught.value.hint
    assert "tls" not in render(Settings(listen=listen_address(text), clear_text=True), "")
    assert 'cert_file: "/c"' in render(Settings(listen=listen_address(text), tls=PAIR), "")


@pytest.mark.parametrize("tls", [None, PAIR], ids=["no TLS", "no CA"])
def test_a_cluster_needs_a_ca_whatever_its_address(tls: TlsFiles | None) -> None:
    with pytest.raises(UsageError, match="a cluster needs certificates"):
        Settings(tls=tls, cluster=CLUSTER, clear_text=True)


def test_a_confirmed_record_is_on_the_disk() -> None:
    for folder, store in ((Path("/d"), "/d"), (None, "/var/lib/nats")):
        text = render(Settings(), "", folder=folder)
        assert f'jetstream {{\n  store_dir: "{store}"\n  sync_interval: always\n' in text
        assert "server_name" not in text


def test_a_server_of_a_cluster_has_a_name_of_its_own() -> None:
    tls = replace(PAIR, ca=Path("/a"))
    ports = (6222, 6223)
    clusters = [Cluster(listen=Address("127.0.0.1", port), routes=CLUSTER.routes) for port in ports]
    names = {re.search(r"^server_name: .+$", render(Settings(tls=tls, cluster=each), ""), re.M) for each in clusters}
    assert len({found[0] for found in names if found}) == 2


def test_there_is_no_other_port() -> None:
    text = render(Settings(tls=PAIR), "", folder=Path("/d"))
    assert not {
        "http",
        "https",
        "monitor_port",
        "leafnodes",
        "gateway",
        "websocket",
        "mqtt",
        "cluster",
    } & {line.partition(":")[0].partition(" ")[0] for line in text.splitlines()}


@pytest.mark.parametrize(("text", "quoted"), [('a"\\b\n', '"a\\"\\\\b\\n"'), ("zürich", '"zürich"')])
def test_a_text_stays_what_it_is(text: str, quoted: str) -> None:
    assert quote(text) == quoted
