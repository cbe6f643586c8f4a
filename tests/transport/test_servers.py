"""Addresses are read as people write them, and failures are final, or worth another try; each has its own hint."""

from __future__ import annotations

import errno
import ssl

import pytest

from remaphore.transport.outage import FIRST_DELAY, LONGEST_DELAY, delays
from remaphore.transport.servers import (
    MAX_LISTED,
    Failure,
    Server,
    all_final,
    discovered,
    explain,
    hints,
    parse,
    summary,
)


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
        ("http://broker", "unsupported scheme http://"),
        ("ws://broker", "unsupported scheme ws://"),
        ("nats://broker:99999", "not an address"),
        ("nats://broker:port", "not an address"),
        ("nats://a..b", "not an address"),
        ("nats://[::1", "not an address"),
        ("nats://:4222", "address without a host"),
        ("nats://" + "\u00e9." * 100_000, "more than 1024 characters"),  # the codec of such names would take seconds
    ],
)
def test_an_invalid_address_has_its_problem_named_and_a_hint(text: str, problem: str) -> None:
    assert problem in parse(text).problem
    assert parse(text).hint == "write nats://HOST:PORT or tls://HOST:PORT"


@pytest.mark.parametrize("text", ["nats://joe:secret@broker", "http://joe:secret@broker", "nats://joe:secret@broker:x"])
def test_a_password_in_an_address_is_never_shown(text: str) -> None:
    server = parse(text)
    assert "secret" not in server.shown + server.problem + repr(server)
    assert "joe:secret@broker" in server.url


def test_a_server_discovered_by_ip_must_show_the_certificate_of_the_name_that_we_know() -> None:
    via = parse("tls://broker.example.com:4222")
    assert discovered("tls://10.0.0.2:4222", via).tls_name == "broker.example.com"
    assert discovered("tls://10.0.0.3:4222", discovered("tls://10.0.0.2:4222", via)).tls_name == "broker.example.com"
    assert discovered("tls://other.example.com:4222", via).tls_name == ""
    assert discovered("tls://10.0.0.2:4222", parse("tls://10.0.0.1")).tls_name == ""


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def certificate_error(code: int, text: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, text)
    error.verify_code, error.verify_message = code, text
    return error


@pytest.mark.parametrize(
    ("error", "text", "hint", "final"),
    [
        (TimeoutError(), "no answer within 2 s", "", False),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"),
            "connection refused",
            "",
            False,
        ),
        (PermissionError(errno.EPERM, "x"), "operation not permitted", "firewall", False),
        (PermissionError(errno.EACCES, "x"), "permission denied", "firewall", False),
        (OSError(errno.EMFILE, "x"), "too many open files", "LimitNOFILE=", False),
        (OSError(errno.ENETUNREACH, "x"), "network is unreachable", "routes", False),
        (OSError(errno.EAFNOSUPPORT, "x"), "address family not supported", "enable IPv6", False),
        (OSError(errno.EADDRNOTAVAIL, "x"), "cannot assign requested address", "local ports", False),
        (TimeoutError(errno.ETIMEDOUT, "x"), "connection timed out", "", False),
        (ConnectionResetError("Connection lost"), "connection lost", "", False),
        (ssl.SSLEOFError(8, "EOF"), "connection closed during the TLS handshake", "", False),
        (ssl.SSLError(1, "x"), "TLS failed", "[tls]", False),
        (tls_error("WRONG_VERSION_NUMBER"), "TLS failed (WRONG_VERSION_NUMBER)", "[tls]", False),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "TLS failed (TLSV13_ALERT", "[tls]", True),
        (certificate_error(18, "self-signed certificate"), "certificate rejected (self-signed", "tls.ca_file", True),
        (certificate_error(62, "Hostname mismatch"), "certificate rejected (Hostname", "host name", True),
        (certificate_error(9, "certificate is not yet valid"), "certificate rejected (cert", "clock", False),
        (certificate_error(10, "certificate has expired"), "certificate rejected (certificate has", "renew", False),
        (Exception("nats: 'Authorization Violation'"), "Authorization Violation (login: x.creds)", "x.creds", True),
        (Exception("nats: 'User Authentication Expired'"), "User Authentication Expired", "x.creds", True),
        (Exception("nats: 'maximum connections exceeded'"), "maximum connections exceeded", "", False),
        (ValueError("two\nlines"), "unexpected data from the server (ValueError: two lines)", "", False),
    ],
)
def test_a_failure_has_a_hint_and_is_final_only_if_trying_again_cannot_help(
    error: Exception, text: str, hint: str, final: bool
) -> None:
    failure = explain(error, source="x.creds", timeout=2.0)
    assert failure.text.startswith(text)
    assert hint in failure.hint
    assert bool(hint) is bool(failure.hint)
    assert failure.final is final


def test_the_summary_names_every_server_once_and_every_cause_once() -> None:
    failures = {"nats://a:1": Failure("down"), "nats://b:1": Failure("up"), "nats://c:1": Failure("down")}
    assert summary(failures) == "nats://a:1, nats://c:1: down; nats://b:1: up"
    assert summary({}) == "no answer yet"


def test_a_line_lists_only_some_of_many_servers() -> None:
    failures = {f"a{number}": Failure("down") for number in range(MAX_LISTED + 32)}
    assert summary(failures) == ", ".join(f"a{number}" for number in range(MAX_LISTED)) + " and 32 more: down"


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ({"A": Failure("down")}, ""),
        ({"A": Failure("denied", "check a")}, "check a"),
        ({"A": Failure("denied", "check a"), "B": Failure("expired", "check a")}, "check a"),
        ({"A": Failure("denied", "check a"), "B": Failure("down")}, "A: check a"),
        ({"A": Failure("down"), "B": Failure("denied", "check b")}, "B: check b"),
        (
            {"A": Failure("x", "check a"), "B": Failure("y", "check b"), "C": Failure("z", "check a")},
            "A, C: check a; B: check b",
        ),
    ],
)
def test_a_hint_is_given_for_the_server_that_it_is_for(failures: dict[str, Failure], expected: str) -> None:
    assert hints(failures) == expected


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
