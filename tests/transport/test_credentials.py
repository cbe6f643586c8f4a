"""Logins are read in every form that tools write, and rejected with a clear error before nats-py reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from remaphore.config.settings import Auth, Problem
from remaphore.errors import ConfigError
from remaphore.protocol.keys import NatsKey
from remaphore.transport import credentials
from tests.harness.node_files import write_private

JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVIn0.c2ln-_"
SEED = NatsKey("user").seed
CREDS = credentials.form(JWT, SEED)


def parse(text: str) -> str:
    return credentials.parse(text, "/etc/x.creds")


@pytest.mark.parametrize(
    "text",
    [
        CREDS,
        CREDS.replace("\n", "\r\n"),
        "".join(f"   {line}\t\n" for line in CREDS.splitlines()),
        CREDS[: CREDS.index(SEED) + len(SEED)],
        "# made by hand\n" + CREDS.replace("-----\n", "-----\n\n"),
    ],
    ids=["as it should be", "CRLF", "indented", "ends at the seed", "blank lines and a comment"],
)
def test_every_usual_form_of_a_creds_file_becomes_the_one_that_nats_py_reads(text: str) -> None:
    assert parse(text) == CREDS


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no line BEGIN NATS USER JWT"),
        ("garbage", "no line BEGIN NATS USER JWT"),
        (CREDS[CREDS.index("-----BEGIN USER") :], "no line BEGIN NATS USER JWT"),
        (CREDS[: CREDS.index("-----BEGIN USER")], "no line BEGIN USER NKEY SEED"),
        (CREDS.replace(JWT, ""), "not a JWT"),
        (CREDS.replace(JWT, JWT.replace(".", "")), "not a JWT"),
        (CREDS.replace(SEED, ""), "not the seed of a NATS user"),
        (CREDS.replace(SEED, SEED[:-4]), "not the seed of a NATS user"),
        (CREDS.replace(SEED, NatsKey("account").seed), "not the seed of a NATS user"),
    ],
)
def test_a_creds_file_that_lacks_a_part_is_refused_by_name(text: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause) as caught:
        parse(text)
    assert "/etc/x.creds" in str(caught.value)
    assert caught.value.hint.startswith(("get a new credentials file", "copy the whole file"))
    assert "\n" not in str(caught.value)


def test_no_error_quotes_the_secret() -> None:
    secret = NatsKey("account").seed
    with pytest.raises(ConfigError) as caught:
        parse(CREDS.replace(SEED, secret))
    assert secret not in str(caught.value)


def test_each_kind_of_login_becomes_the_options_of_the_client(tmp_path: Path) -> None:
    def login(kind: str, text: str) -> object:
        auth = Auth(kind=kind, file=write_private(tmp_path / "secret", text), user="joe")  # type: ignore[arg-type]
        return credentials.login(auth, warn=pytest.fail)

    assert login("credentials", CREDS) == {"user_credentials": CREDS}
    assert login("nkey", f"{SEED}\n") == {"nkeys_seed_str": SEED}
    assert login("password", "se cret\n") == {"user": "joe", "password": "se cret"}
    assert login("token", "t0ken\n") == {"token": "t0ken"}
    assert credentials.login(Auth(kind="none"), warn=pytest.fail) == {}


def test_an_invalid_nkey_seed_is_rejected(tmp_path: Path) -> None:
    file = write_private(tmp_path / "user.nk", "hunter2")
    with pytest.raises(ConfigError, match="not the seed of a NATS user") as caught:
        credentials.login(Auth(kind="nkey", file=file), warn=pytest.fail)
    assert "hunter2" not in str(caught.value)


def test_a_login_that_others_can_read_is_refused_unless_the_configuration_is_the_originals(tmp_path: Path) -> None:
    file = write_private(tmp_path / "x.creds", CREDS)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"others can read it \(mode 0644\)$") as caught:
        credentials.login(Auth(kind="credentials", file=file), warn=pytest.fail)
    assert caught.value.hint.startswith("chmod ")
    warnings: list[Problem] = []
    lenient = Auth(kind="credentials", file=file, lenient=True)
    assert credentials.login(lenient, warn=warnings.append) == {"user_credentials": CREDS}
    assert len(warnings) == 1
