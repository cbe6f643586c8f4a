"""The flags of the Go implementation keep their meaning."""

import pytest

from remaphore.cli.commands.receive import Receive
from remaphore.cli.commands.request import Request
from remaphore.cli.commands.send import Send
from remaphore.cli.legacy.example import Example
from remaphore.cli.legacy.flags import read
from remaphore.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["-s"], Send(to="**")),
        (["-s", "-u", "upload_done"], Send(to="**", id="upload_done")),
        (["-s", "a", "b c"], Send(to="**", payload="a b c")),
        (
            ["-s", "-v", "update, ping", "-D", "com.*", "-p", "K", "x"],
            Send(to="com.*", verb="update", key="K", payload="x"),
        ),
        (["-s", "-v", " , ", "x"], Send(to="**", payload="x")),
        (["-s", "-t", "5s"], Send(to="**")),
        (["-s", "-c", "f", "-S", "blue"], Send(to="**", config="f", subject="blue")),
        (["-r", "-t", "1.5s", "hi"], Request(to="**", timeout=1.5, payload="hi")),
        (["-r"], Request(to="**")),
        (["-r", "-t", "0"], Request(to="**")),
        (["-r", "-t", "-5s"], Request(to="**")),
        ([], Receive()),
        (["-o", "-t", "100ms"], Receive(once=True, timeout=0.1)),
        (["-u", "x"], Receive(id="x", once=True)),
        (["-u", "x", "-o=false"], Receive(id="x", once=True)),
        (["-v", "a,b, c"], Receive(verbs=("a", "b", "c"))),
        (["-v", "Ping"], Receive(verbs=("Ping",))),
        (["-d", "-p", "K", "./run", "-x", "y"], Receive(any_destination=True, key="K", script=("./run", "-x", "y"))),
        (["-D", "com.**"], Receive(pattern="com.**")),
        (["--", "run"], Receive(script=("run",))),
        (["script", "-s"], Receive(script=("script", "-s"))),
        (["-C"], Example()),
        (["-C", "-r", "-s"], Example()),
    ],
)
def test_flags_mean_what_they_meant(typed, expected):
    assert read(typed) == expected
    assert type(read(typed)) is type(expected)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["-r", "-s"], "-r and -s are mutually exclusive"),
        (["-d", "-D", "x"], "-d and -D are mutually exclusive"),
        (["-s", "-d", "-D", "x"], "-d and -D are mutually exclusive"),
    ],
)
def test_flags_that_exclude_each_other_are_a_usage_error(typed, message):
    with pytest.raises(UsageError, match=message):
        read(typed)
