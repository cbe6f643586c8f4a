"""A payload that cannot be read is an error before anything is sent."""

import io
import sys

import pytest

from remaphore.cli.main import main
from tests.harness.fleet import Fleet


@pytest.mark.parametrize("command", ["send", "request"])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "@/nonexistent/file",
            "cannot read the payload from /nonexistent/file: No such file or directory\nremaphore: hint: check",
        ),
        ("@/", "cannot read the payload from /: Is a directory"),
        ("@/dev/zero", "the payload in /dev/zero is larger than 1048576 bytes, the limit for a message"),
        ("@", "no file name after @\nremaphore: hint: write @FILE, or @@ for the text @"),
        ("-", "the payload in stdin is larger than 1048576 bytes"),
    ],
)
def test_the_error_names_the_source(tmp_path, capsys, monkeypatch, command, source, message):
    # No server is running: if the command connected before it read the payload, the error would be another one.
    config = Fleet(tmp_path).config("one", server="nats://127.0.0.1:1", credentials=tmp_path / "none.creds")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * (1024 * 1024 + 1))))
    assert main([command, "-c", str(config), source]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"remaphore: error: {message}")
    assert (shown.out, shown.err.count("error: ")) == ("", 1)
