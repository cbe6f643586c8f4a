"""The built-in reply to `ping`: read back as it was written, and nothing else is taken for it."""

import pytest

from remaphore.protocol.ping import Invocation, format_reply, format_uptime, parse_reply

RUN = Invocation("0123456789abcdef", "main")
LINE = b"remaphore 0.1.0, up 3d 4h, invocation 0123456789abcdef, instance main\n"


def test_the_line_is_read_as_it_was_written():
    assert format_reply(RUN, version="0.1.0", uptime_seconds=3 * 86400 + 4 * 3600 + 59) == LINE
    assert parse_reply(LINE) == parse_reply(LINE.rstrip()) == RUN


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"no handler\n",
        b"hello from two, up 5 s, remaphore 0.1.0\n",
        b"x" + LINE,
        LINE + LINE,
        LINE.replace(b"abcdef", b"abcdeg"),
        LINE.replace(b"abcdef", b"abcde"),
        LINE.replace(b"main", b""),
        LINE.replace(b"main", b"a b"),
        LINE.replace(b"main", b"\x1b[31m"),
        LINE.replace(b"main", b"\xff"),
    ],
)
def test_other_output_has_no_invocation(output):
    assert parse_reply(output) is None


@pytest.mark.parametrize("value", [None, 1, "", ["a"], "g" * 16, "a" * 17])
def test_an_invocation_of_another_form_is_none(value):
    assert Invocation.of(value, "main") is None
    assert Invocation.of("a" * 16, value) is None or value in ("g" * 16, "a" * 17)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m 0s"), (3661, "1h 1m"), (86400, "1d 0h"), (400 * 86400, "400d 0h")],
)
def test_an_uptime_has_the_two_largest_units(seconds, text):
    assert format_uptime(seconds) == text
