"""Addresses are understood as people write them, and failures are told apart: final, or worth another try."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from remaphore.transport.outage import FIRST_DELAY, LONGEST_DELAY, delays
from remaphore.transport.servers import Failure, Server, all_final, discovered, explain, parse, summary


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("nats://broker", "nats://broker:4222"),
        ("broker", "nats://broker:4222"),
        ("broker:4333", "nats://broker:4333"),
        ("tls://broker:4333", "tls://broker:4333"),
        ("nats://[::1]:4333", "nats://[::1]:4333"),
    ],
)
def test_an_address_gets_its_scheme_and_port(text: str, url: str) -> None:
    assert parse(text) == Server(url, url)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://broker", "http:// is not spoken here"),
        ("ws://broker", "ws:// is not spoken here"),
        ("nats://broker:99999", "not an address"),
        ("nats://broker:port", "not an address"),
        ("nats://a..b", "not an address"),
        ("nats://[::1", "not an address"),
        ("nats://:4222", "no host"),
        ("nats://" + "\u00e9." * 100_000, "more than 1024 characters"),  # the codec of such names would take seconds
    ],
)
def test_what_is_no_address_has_its_problem_named(text: str, problem: str) -> None:
    assert problem in parse(text).problem


@pytest.mark.parametrize("text", ["nats://joe:secret@broker", "http://joe:secret@broker", "nats://joe:secret@broker:x"])
def test_a_password_in_an_address_is_never_shown(text: str) -> None:
    server = parse(text)
    assert "secret" not in server.shown + server.problem + repr(server)
    assert "joe:secret@broker" in server.url


def test_a_server_discovered_by_ip_must_show_the_certificate_of_the_name_we_came_by() -> None:
    via = parse("tls://broker.example:4222")
    assert discovered("tls://10.0.0.2:4222", via).tls_name == "broker.example"
    assert discovered("tls://10.0.0.3:4222", discovered("tls://10.0.0.2:4222", via)).tls_name == "broker.example"
    assert discovered("tls://other.example:4222", via).tls_name == ""
    assert discovered("tls://10.0.0.2:4222", parse("tls://10.0.0.1")).tls_name == ""


@pytest.mark.parametrize(
    ("error", "text", "final"),
    [
        (TimeoutError(), "no answer within 2 s", False),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"),
            "connection refused",
            False,
        ),
        (OSError("Multiple exceptions: [Errno 111] x, [Errno 111] y"), "connection refused", False),
        (TimeoutError(errno.ETIMEDOUT, "x"), "connection timed out", False),
        (ConnectionResetError("Connection lost"), "connection lost", False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "unknown host (Temporary failure)", False),
        (socket.gaierror(socket.EAI_NONAME, "not known"), "unknown host (not known); check servers", True),
        (ssl.SSLEOFError(8, "EOF"), "the connection was closed during the TLS handshake", False),
        (ssl.SSLError(1, "x"), "TLS failed", True),
        (Exception("nats: 'Authorization Violation'"), "Authorization Violation: wrong, expired or revoked", True),
        (Exception("nats: 'User Authentication Expired'"), "User Authentication Expired", True),
        (Exception("nats: 'maximum connections exceeded'"), "maximum connections exceeded", False),
        (ValueError("two\nlines"), "what it says makes no sense (ValueError: two lines)", False),
    ],
)
def test_a_failure_is_final_only_if_trying_again_cannot_help(error: Exception, text: str, final: bool) -> None:
    failure = explain(error, source="x.creds", timeout=2.0)
    assert failure.text.startswith(text)
    assert failure.final is final


def test_the_summary_names_every_server_once_and_every_cause_once() -> None:
    failures = {"nats://a:1": Failure("down"), "nats://b:1": Failure("up"), "nats://c:1": Failure("down")}
    assert summary(failures) == "nats://a:1, nats://c:1: down; nats://b:1: up"
    assert summary({}) == "no answer yet"


def test_one_transient_failure_makes_another_try_worthwhile() -> None:
    assert all_final([Failure("a", final=True), Failure("b", final=True)])
    assert not all_final([Failure("a", final=True), Failure("b")])


def test_retries_begin_at_once_and_spread_out_to_two_seconds() -> None:
    runs = [[next_delay for next_delay, _ in zip(delays(), range(12), strict=False)] for _ in range(200)]
    assert max(run[0] for run in runs) <= FIRST_DELAY
    last = sorted(run[-1] for run in runs)
    assert last[-1] <= LONGEST_DELAY
    # Full jitter: 500 nodes come back spread over the whole of it.
    assert last[0] < LONGEST_DELAY / 10
    assert last[-1] > LONGEST_DELAY * 9 / 10
