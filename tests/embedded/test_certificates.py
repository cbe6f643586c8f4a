"""Each mistake in a broker's certificate is named before the server starts, with what to do about it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore.embedded.certificates import TlsFiles, check, check_name
from remaphore.errors import ConfigError
from tests.harness.certificates import Authority

DAY = 86400

pytestmark = pytest.mark.xdist_group("certificates")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> TlsFiles:
    return authority.issue("server", "DNS:one.example.com", "DNS:*.example.com", "IP:10.0.0.1", "IP:::1")


def test_names_and_addresses_of_a_good_certificate_are_returned(server: TlsFiles) -> None:
    names = ("one.example.com", "*.example.com", "10.0.0.1", "0:0:0:0:0:0:0:1")
    found = check(replace(server, ca=None), routes=False)
    assert found.names == check(server, routes=False).names == names
    assert check(server, routes=True).names == names[:2]
    assert 29 * DAY < found.expires - time.time() <= 30 * DAY


@pytest.mark.parametrize("host", ["a.example.com", "A.example.com", "x.b.example.com", "10.0.0.1"])
def test_a_name_of_the_certificate_is_one_to_listen_on(host: str, server: TlsFiles) -> None:
    check_name(host, ["a.Example.com", "*.b.example.com", "10.0.0.1"], server)


@pytest.mark.parametrize("host", ["b.example.com", "x.y.b.example.com", "x.a.example.com", "example.com", "com"])
def test_a_certificate_for_another_name_than_that_to_listen_on_is_named(host: str, server: TlsFiles) -> None:
    with pytest.raises(ConfigError, match=f"is for a.example.com, .*, not for {host}") as caught:
        check_name(host, ["a.example.com", "*.b.example.com"], server)
    assert "request one for this name" in caught.value.hint


def test_a_self_signed_certificate_is_good_for_one_server(authority: Authority, tmp_path: Path) -> None:
    files = TlsFiles(cert=tmp_path / "c", key=tmp_path / "k")
    words = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2, "-subj", "/CN=x")
    authority.openssl(
        "req", "-x509", *words, "-addext", "subjectAltName=DNS:x", "-keyout", files.key, "-out", files.cert
    )
    files.key.chmod(0o600)
    assert check(files, routes=False).names == ("x",)


def broken(case: str, good: TlsFiles, authority: Authority, folder: Path) -> TlsFiles:
    """Return *good* with one of its files in another state."""
    path = folder / "file"
    field, _, state = case.partition(" ")
    original: Path = getattr(good, field)
    if state in ("FIFO", "directory"):
        os.mkfifo(path, 0o600) if state == "FIFO" else path.mkdir()
    elif state != "missing":
        path.write_text({"empty": "", "no PEM": "x" * 100}.get(state, original.read_text()))
        path.chmod({"readable": 0o644, "writable": 0o666, "writable by the group": 0o620}.get(state, 0o600))
    if state == "encrypted":
        words = ("-in", original, "-aes256", "-passout", "pass:secret")
        authority.openssl("pkey", *words, "-out", path)
        path.chmod(0o600)
    elif state == "with half its lines":
        lines = original.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines[:2], *lines[-1:]]))
    elif state == "another":
        path.write_bytes(getattr(authority.issue("another", "DNS:one.example.com"), field).read_bytes())
    elif state == "another authority":
        path.write_bytes(Authority(folder, name="other").file.read_bytes())
    return replace(good, **{field: path})


@pytest.mark.parametrize(
    ("case", "message", "hint"),
    [
        ("cert missing", "--tls-cert: no such file", "check the name"),
        ("key missing", "--tls-key: no such file", "check the name"),
        ("ca missing", "--tls-ca: no such file", "check the name"),
        ("cert directory", "--tls-cert: is a directory", "name a file in it"),
        ("key directory", "--tls-key: is a directory", "name a file in it"),
        ("cert FIFO", "--tls-cert: cannot be read: is a FIFO", "check the name"),
        ("key FIFO", "--tls-key: cannot be read: is a FIFO", "check the name"),
        ("ca FIFO", "--tls-ca: cannot be read: is a FIFO", "check the name"),
        ("cert empty", "not a certificate", "PEM"),
        ("cert no PEM", "not a certificate", "PEM"),
        ("ca no PEM", "not a certificate", "PEM"),
        ("cert with half its lines", "not a certificate", "PEM"),
        ("key empty", "empty file", "write the secret to it"),
        ("key no PEM", "cannot be used with", "PEM"),
        ("key with half its lines", "cannot be used with", "PEM"),
        ("key readable", "others can read it", "chmod 0600"),
        ("key writable by the group", "group or others can write it", "chmod 0600"),
        ("key encrypted", "encrypted with a passphrase", "openssl pkey -in"),
        ("key another", "not the private key of", "made together"),
        ("cert another", "not the private key of", "made together"),
        ("ca another authority", "rejected (", "name the CA"),
        ("ca writable", "--tls-ca: writable by others", "chmod go-w"),
    ],
)
def test_an_unusable_file_is_named_with_a_hint(
    case: str, message: str, hint: str, server: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    files = broken(case, server, authority, tmp_path)
    for routes in (False, True):
        with pytest.raises(ConfigError) as caught:
            check(files, routes=routes)
        assert message in str(caught.value)
        assert str(tmp_path / "file") in str(caught.value) or state_of_pair(case)
        assert hint in caught.value.hint


def state_of_pair(case: str) -> bool:
    """Return whether the error is about two files, and names the other one first."""
    return case in ("cert another", "ca another authority")


def test_a_certificate_that_is_not_valid_now_is_named(authority: Authority) -> None:
    with pytest.raises(ConfigError, match=r"expired\.crt: expired") as caught:
        check(authority.issue("expired", "DNS:a", days=-1), routes=False)
    assert "clock" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "routes"), [((), False), ((), True), (("IP:10.0.0.1",), True), (("email:a@b",), False)]
)
def test_a_certificate_without_a_name_is_rejected(names: tuple[str, ...], routes: bool, authority: Authority) -> None:
    with pytest.raises(ConfigError, match="the certificate has n") as caught:
        check(authority.issue("nameless", *names), routes=routes)
    assert "subjectAltName" in caught.value.hint


def test_a_server_of_a_cluster_needs_a_certificate_for_both_roles(authority: Authority) -> None:
    server = authority.issue("server-only", "DNS:a", usage="serverAuth")
    assert check(server, routes=False).names == ("a",)
    with pytest.raises(ConfigError, match="not a certificate for a client") as caught:
        check(server, routes=True)
    assert "clientAuth" in caught.value.hint
    with pytest.raises(ConfigError, match="not a certificate for a server"):
        check(authority.issue("client-only", "DNS:a", usage="clientAuth"), routes=True)
    assert check(authority.issue("both", "DNS:a", usage="serverAuth,clientAuth"), routes=True).names == ("a",)
