"""A payload that cannot be had is an error before anything is sent."""

import io
import sys

import pytest

from remaphore.cli.main import main
from tests.e2e.conftest import Fleet


@pytest.mark.parametrize("word", ["send", "request"])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "@/nonexistent/file",
            "the payload cannot be read from /nonexistent/file: No such file or directory; write @@",
        ),
        ("@/", "the payload cannot be read from /: Is a directory"),
        ("@/dev/zero", "the payload in /dev/zero has more than 1048576 bytes, the most of a message"),
        ("@", "@ names no file; write @FILE, or @@ for the text @"),
        ("-", "the payload in stdin has more than 1048576 bytes"),
    ],
)
def test_it_is_one_line_that_names_the_source(tmp_path, capsys, monkeypatch, word, source, message):
    # No server is there: whoever connects before the payload is read gets another error.
    config = Fleet(tmp_path).config("one", server="nats://127.0.0.1:1", credentials=tmp_path / "none.creds")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * (1024 * 1024 + 1))))
    assert main([word, "-c", str(config), source]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"remaphore: error: {message}")
    assert (shown.out, shown.err.count("error: ")) == ("", 1)
