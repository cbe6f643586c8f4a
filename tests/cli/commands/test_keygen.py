"""What `keygen` creates and prints, and what it reports about a file that exists."""

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.keygen import Keygen
from remaphore.errors import UsageError
from remaphore.protocol.keys import PrivateKey
from tests.cli.commands.typed import rejected


def test_the_file_is_needed():
    assert arguments.read(["keygen", "f"]) == Keygen(file="f")
    with pytest.raises(UsageError, match="required: FILE"):
        arguments.read(["keygen"])


def test_only_the_public_key_is_printed(run, tmp_path):
    code, out, err = run("keygen ops.key")
    assert (code, err) == (0, "")
    assert out == PrivateKey.from_text((tmp_path / "ops.key").read_text().strip()).public + "\n"
    rejected(run("keygen ops.key"), "ops.key: already exists")


@pytest.mark.parametrize("file", ["ops.key", "nosuch/ops.key"])
def test_a_file_that_cannot_be_created_is_an_error_that_does_not_refer_to_the_configuration(run, tmp_path, file):
    (tmp_path / "ops.key").touch()
    done = run(["keygen", file])
    rejected(done, file)
    assert "hint: " in done[2]
    assert "remaphore.toml" not in done[2]
    assert (tmp_path / "ops.key").read_text() == ""
