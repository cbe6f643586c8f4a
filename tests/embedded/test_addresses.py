"""Which addresses are loopback, and so need no TLS; and what is no address at all."""

from __future__ import annotations

import pytest

from remaphore.embedded.addresses import Address, listen_address, port_number, route_address
from remaphore.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:4222", "127.0.0.1", 4222),
        ("127.0.0.1", "127.0.0.1", 4222),
        ("127.255.255.254:0", "127.255.255.254", 0),
        ("[::1]:1", "::1", 1),
        ("[::1]", "::1", 4222),
        ("[0:0:0:0:0:0:0:1]:65535", "0:0:0:0:0:0:0:1", 65535),
        ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1),
        # Whatever the name service makes of it, it is this address that the server listens on.
        ("localhost:1", "127.0.0.1", 1),
        ("LocalHost.:1", "127.0.0.1", 1),
    ],
)
def test_an_address_of_this_machine_is_loopback(text: str, host: str, port: int) -> None:
    assert listen_address(text) == Address(host, port)
    assert listen_address(text).is_loopback


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:4222", "0.0.0.0:4222"),
        (":4222", "0.0.0.0:4222"),
        ("*:4222", "0.0.0.0:4222"),
        ("*", "0.0.0.0:4222"),
        ("[::]:4222", "[::]:4222"),
        ("[::ffff:0.0.0.0]:1", "[::ffff:0.0.0.0]:1"),
        ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]:1"),
        ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1"),
        ("10.0.0.1", "10.0.0.1:4222"),
        ("128.0.0.1:1", "128.0.0.1:1"),
        ("broker.example.com:1", "broker.example.com:1"),
        # Names, which a name service may resolve to anything.
        ("localhost.example.com:1", "localhost.example.com:1"),
        ("localhost.localdomain:1", "localhost.localdomain:1"),
        ("ip6-localhost:1", "ip6-localhost:1"),
        ("0x7f.1:1", "0x7f.1:1"),
    ],
)
def test_all_other_addresses_are_not(text: str, address: str) -> None:
    assert str(listen_address(text)) == address
    assert not listen_address(text).is_loopback


@pytest.mark.parametrize(
    "text",
    [
        "", "4222", "127.1:4222", "0:4222", "127.0.0.1.:1", "1.2.3.4.5:1", "256.0.0.1:1", "::1", "::1:4222", "::",
        "[::1", "[::1]4222", "[::1]]:1", "[]:1", "[127.0.0.1]:1", "[localhost]:1", '[::1%"x]:1', "[::1%a\n]:1", "a:b:1",
        "a b:1", "a..b:1", "-a:1", "\uff4cocalhost:1", "localhost\u200b:1", "nats://localhost:1", "a/b:1", "a\n:1",
        "x" * 300,
        "localhost:", "localhost:-1", "localhost:+1", "localhost: 1", "localhost:1 ", "localhost:65536", "localhost:٤",
        "localhost:1e3", "localhost:0x10", "localhost:000000", "127.0.0.1:4222\n",
    ],
)  # fmt: skip
def test_what_is_no_address_is_a_usage_error_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        listen_address(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["two.example.com", "two.example.com.:6222", "nats://two.example.com:6222"])
def test_a_route_leads_to_the_name_of_another_server(text: str) -> None:
    assert route_address(text) == Address("two.example.com", 6222)


@pytest.mark.parametrize("text", ["10.0.0.2:6222", "[::1]:6222", ":6222", "*:6222", "two:0", "two:x", "http://two"])
def test_a_route_to_an_address_that_no_certificate_is_compared_with_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        route_address(text)
    assert caught.value.hint
    if text[0] in "1[":
        assert "compares no IP addresses" in caught.value.hint


def test_a_port_is_a_number() -> None:
    assert [port_number(text) for text in ("0", "4222", "65535")] == [0, 4222, 65535]
