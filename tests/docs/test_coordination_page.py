"""docs/coordination.md: what refuses an old token there does so, and its table of exit codes is that of the command."""

import re
import sqlite3

import pytest

from remaphore.cli import holding
from remaphore.coordination import held_lock
from tests.docs.pages import ROOT, fences

PAGE = (ROOT / "docs" / "coordination.md").read_text()
FUNCTIONS: dict = {}
for language, text in fences(PAGE)[0]:
    if language == "python" and "token" in text:
        exec(text, FUNCTIONS)


class Bucket:
    """An S3 client of one object: a conditional write fails if the object was written since it was read."""

    def __init__(self):
        self.object, self.metadata, self.number = b"", {}, 0

    def head_object(self, **_of):
        return {"ETag": str(self.number), "Metadata": self.metadata}

    def put_object(self, *, Body, Metadata, IfMatch, **_of):  # noqa: N803 - the names of the parameters of boto3
        if str(self.number) != IfMatch:
            raise RuntimeError("412")
        self.object, self.metadata, self.number = Body, Metadata, self.number + 1


def file_server(tmp_path):
    return lambda value, token: FUNCTIONS["store"](tmp_path, "file", b"%d" % value, token), (
        lambda: int((tmp_path / "file").read_bytes())
    )


def bucket(_tmp_path):
    made = Bucket()
    return lambda value, token: FUNCTIONS["put"](made, "bucket", "key", b"%d" % value, token), (
        lambda: int(made.object)
    )


def database(_tmp_path):
    made = sqlite3.connect(":memory:")
    made.execute("CREATE TABLE account (id INTEGER, balance INTEGER, token INTEGER)")
    made.execute("INSERT INTO account VALUES (1, 0, 0)")
    return lambda value, token: FUNCTIONS["save"](made, value, token), (
        lambda: made.execute("SELECT balance FROM account").fetchone()[0]
    )


@pytest.mark.parametrize("protected", [file_server, bucket, database])
def test_what_the_page_protects_refuses_the_token_of_an_earlier_lease(protected, tmp_path):
    write, read = protected(tmp_path)
    old, new = 1_790_000_000_000_001, 1_790_000_000_000_002
    assert write(1, old)
    assert write(2, old)  # a holder writes more than once
    assert write(3, new)
    assert not write(4, old)
    assert read() == 3
    assert write(5, new)
    assert read() == 5


def test_a_conditional_write_fails_if_another_came_between():
    client = Bucket()
    before = client.head_object

    def head_object(**of):
        found = before(**of)
        client.put_object(Body=b"2", Metadata={"token": "2"}, IfMatch=str(client.number))
        return found

    client.head_object = head_object
    with pytest.raises(RuntimeError, match="412"):
        FUNCTIONS["put"](client, "bucket", "key", b"1", 1)
    assert client.object == b"2"


def test_the_exit_codes_and_the_variables_are_those_of_the_command():
    codes = set(map(int, re.findall(r"\b(\d{1,3})\b", PAGE.partition("| code | meaning |")[2].partition("\n\n")[0])))
    assert set(holding.EXIT_CODES) <= codes
    for name in (holding.NAME, holding.SLOT, holding.TOKEN, holding.NAMES):
        assert f"| `{name}` |" in PAGE
    assert holding.GRACE == held_lock.GRACE
