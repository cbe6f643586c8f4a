"""The document of a request in a file: what --save writes safely, and what --retry accepts."""

import io
import json
import os
import sys

import pytest

from remaphore.cli import document
from remaphore.cli.main import main
from remaphore.errors import ConfigError, UsageError
from tests.harness.node_files import Entry, write_toml

KINDS = ("ok", "without_code", "failed", "rejected", "missing", "not_asked")


def text_of(verb="deploy", **kinds):
    summary = {kind: kinds.get(kind, []) for kind in KINDS}
    return json.dumps({"requests": [{"verb": verb}], "summary": summary})


@pytest.fixture
def retry(tmp_path, capsys, monkeypatch):
    """Return a function that writes a document, asks again without a network, and returns code, stdout and stderr."""
    names = ("com.web.1", "com.web.2", "com.web.10", "com.db.1")
    peers = [Entry(name, number, []) for number, name in enumerate(names, 2)]
    config = write_toml(tmp_path / "admin.toml", 1, "com.admin", servers=["nats://127.0.0.1:1"], peers=peers)
    monkeypatch.chdir(tmp_path)

    def retry(text, *words, source="saved"):
        if text is not None:
            (tmp_path / "saved").write_bytes(text if isinstance(text, bytes) else text.encode())
        words = words or ("--verb", "deploy", "--dry-run")
        code = main(["request", "-c", str(config), "--retry", source, *words])
        shown = capsys.readouterr()
        return code, [line.split()[1] for line in shown.out.splitlines() if line.startswith("ask ")], shown.err

    return retry


def test_exactly_those_without_success_are_asked_again_in_natural_order(retry):
    text = text_of(ok=["com.db.1"], failed=["com.web.10"], rejected=["com.web.2"], missing=["com.web.1"])
    assert retry(text)[:2] == (0, ["com.web.1", "com.web.2", "com.web.10"])
    assert retry(text_of(not_asked=["com.web.10"], without_code=["com.web.1"]))[1] == ["com.web.10"]
    assert retry(text, "--verb", "deploy", "--dry-run", "--except", "com.web.[1-2]")[1] == ["com.web.10"]


def test_a_document_of_a_request_that_was_not_sent_has_no_verb_and_can_be_retried(retry):
    text = text_of(missing=["com.web.1"], not_asked=["com.web.2"]).replace('[{"verb": "deploy"}]', "[]")
    assert retry(text)[:2] == (0, ["com.web.1", "com.web.2"])


def test_nothing_to_retry_is_a_success_and_nothing_is_sent(retry):
    code, asked, err = retry(text_of(ok=["com.web.1"]), "--verb", "deploy")
    assert (code, asked) == (0, [])
    what = "no destination in saved failed, rejected the message, is missing, or was not asked"
    assert err == f"remaphore: nothing to retry: {what}\n"
    code, _, err = retry(text_of(missing=["com.gone"]), "--verb", "deploy", "--except", "com.gone")
    assert (code, err) == (0, f"remaphore: nothing to retry: {what}; those of --except do not count\n")


@pytest.mark.parametrize(
    ("text", "words", "code", "message"),
    [
        (text_of(failed=["com.web.1"]), ["--verb", "status"], 2, "is about the verb 'deploy', not 'status'"),
        (text_of(failed=["com.web.1"]), ["v42"], 2, "not 'ping'\nremaphore: hint: use --verb deploy\n"),
        (text_of(failed=["com.gone"]), ["--verb", "deploy"], 3, "has the destination 'com.gone' of saved"),
        (text_of(), ["--to", "com.web.1"], 2, "--retry cannot be combined with --to and --to-file"),
        (text_of(), ["--to-file", "x"], 2, "--retry cannot be combined with --to and --to-file"),
        (None, ["--verb", "deploy"], 2, "--retry: saved: document: no such file"),
        ("", [], 2, "--retry: saved: not a JSON document"),
        (text_of()[:-1], [], 2, "--retry: saved: not a JSON document"),
        (b"\xff", [], 2, "--retry: saved: not a JSON document"),
        ("[" * 100_000, [], 2, "--retry: saved: not a JSON document"),
        ('{"kind": "request"}\n{"kind": "summary"}\n', [], 2, "--retry: saved: not a JSON document"),
        ("[]", [], 2, "--retry: saved: not the document of a request"),
        ("{}", [], 2, "not the document of a request"),
        ('{"requests": [], "summary": {}}', [], 2, "not the document of a request"),
        ('{"requests": [{"verb": []}], "summary": {}}', [], 2, "not the document of a request"),
        (text_of(failed=[1]), [], 2, "not the document of a request"),
        (text_of(failed="com.web.1"), [], 2, "not the document of a request"),
        (text_of(failed=None), [], 2, "not the document of a request"),
        (text_of(verb=1), [], 2, "not the document of a request"),
    ],
)
def test_a_document_that_cannot_be_used_is_an_error(retry, text, words, code, message):
    found, _, err = retry(text, *(words or ["--verb", "deploy"]))
    assert (found, message in err) == (code, True), err
    assert "\nremaphore: hint: " in err


def test_a_document_has_a_largest_size(retry, tmp_path, monkeypatch):
    monkeypatch.setattr(document, "MAX_DOCUMENT_BYTES", 100_000)
    code, _, err = retry(text_of() + " " * 100_000)
    assert code == 2
    assert "saved: document: larger than 100000 bytes" in err


def test_a_document_is_written_for_its_owner_in_place_of_what_had_the_name(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    saved = tmp_path / "saved"
    for content in (b"{}", b"[]"):
        saver = document.saver_of(str(saved))
        if content == b"{}":
            saved.symlink_to(victim)  # by another user, who has seen that it is not there
        saver(content)
        assert saver.error is None
        assert (saved.read_bytes(), saved.stat().st_mode & 0o777, saved.is_symlink()) == (content, 0o600, False)
    assert victim.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["saved", "victim"]


@pytest.mark.parametrize("path", ["nosuch/saved", ".", "/dev/null", "/dev/stdout", "fifo", "link", "dangling"])
def test_a_place_that_cannot_be_written_is_an_error_before_anything_is_sent(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    (tmp_path / "link").symlink_to("other")
    (tmp_path / "dangling").symlink_to("nosuch")
    (tmp_path / "other").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        document.saver_of(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dangling", "fifo", "link", "other"]


def test_stdin_can_be_retried_and_stdout_is_what_json_is_for(retry, tmp_path, monkeypatch):
    def type_in(text, *words):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return retry(None, "--verb", "deploy", "--dry-run", *words, source="-")

    assert type_in(text_of(failed=["com.web.10"]))[:2] == (0, ["com.web.10"])
    assert "--retry: stdin: not a JSON document" in type_in("")[2]
    assert "stdin cannot be both the payload and --retry" in type_in(text_of(failed=["com.web.10"]), "-")[2]
    with pytest.raises(UsageError) as caught:
        document.saver_of("-")
    assert caught.value.hint == "--json prints the document to stdout"


def test_an_error_at_the_end_is_reported_after_the_replies_and_the_earlier_document_stays(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    saver = document.saver_of(str(folder / "saved"))
    folder.rmdir()
    saver(b"{}")
    assert "saved: cannot be written: " in str(saver.error)
    assert "its replies are not saved" in saver.error.hint
