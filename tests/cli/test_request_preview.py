"""`request --dry-run` tells who would be asked, and why not the others, without any network."""

import pytest

from remaphore.cli.main import main
from tests.e2e.conftest import Fleet

NOWHERE = {"server": "nats://127.0.0.1:1", "credentials": "none.creds"}


@pytest.fixture
def config(tmp_path):
    def write(**changes):
        return str(Fleet(tmp_path).config("one", **{**NOWHERE, "credentials": tmp_path / "none.creds", **changes}))

    return write


def preview(capsys, config, *words):
    code = main(["request", "-c", config, "--dry-run", *words])
    return code, *capsys.readouterr()


def test_who_is_addressed_would_be_asked_and_the_others_are_skipped_with_the_reason(config, capsys):
    assert preview(capsys, config(), "--to", "com.**") == (
        0,
        "ask   com.example.two\nskip  org.example.three: the pattern 'com.**' does not match it\n",
        "remaphore: 1 would be asked\n",
    )


def test_nobody_would_be_asked_if_the_identity_may_not_send_the_verb(config, capsys):
    code, out, err = preview(capsys, config(verbs="ping"), "--verb", "deploy")
    assert code == 3
    reasons = [line.partition(": ")[2] for line in out.splitlines()]
    assert [line.split(":")[0] for line in out.splitlines()] == ["skip  com.example.two", "skip  org.example.three"]
    assert all("may send ping, not 'deploy'" in reason for reason in reasons)
    assert err.startswith("remaphore: error: no private key with sender permission found")


def test_a_pattern_that_reaches_nobody_is_the_error_that_the_request_would_be(config, capsys):
    code, out, err = preview(capsys, config(), "--to", "net.**")
    assert (code, out.count("skip  ")) == (3, 2)
    assert "no known receivers" in err


def test_a_key_that_is_listed_twice_counts_for_its_first_destination(config, capsys, tmp_path):
    path = config()
    text = (tmp_path / "one.toml").read_text()
    key = text.rpartition('key = "')[2].partition('"')[0]
    (tmp_path / "one.toml").write_text(text + f'[[peers]]\ndestination = "com.again"\nkey = "{key}"\nverbs = []\n')
    _, out, _ = preview(capsys, path, "--to", "com.again", "--to", "**")
    assert out.splitlines() == [
        "ask   com.example.two",
        "ask   org.example.three",
        "skip  com.again: its key is listed before under another destination, and the first counts",
    ]


def test_batches_are_numbered_as_they_would_be_asked(config, capsys):
    assert preview(capsys, config(), "--batch", "1") == (
        0,
        "ask   com.example.two  batch 1 of 2\nask   org.example.three  batch 2 of 2\n",
        "remaphore: 2 would be asked, in batches: 2\n",
    )


def test_the_payload_is_not_read(config, capsys):
    assert preview(capsys, config(), "@/nonexistent")[0] == 0
