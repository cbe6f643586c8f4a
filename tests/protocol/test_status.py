"""The status of a daemon: what is sent is what is read, it has a size that can be sent, and nothing else is read."""

import json
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remaphore.errors import DecodeError
from remaphore.protocol import status as module
from remaphore.protocol.ping import Invocation
from remaphore.protocol.status import Ended, Running, Status, Waiting, cut, parse, to_document
from remaphore.receiving.ledger.ledger import RECORDED_OUTPUT
from remaphore.text import to_json

UUID, DIGEST = b"release-42", bytes(range(8))
RUNNING = Running(
    verb="deploy", uuid=UUID, peer="com.two", digest=DIGEST, state="running", since_ns=10**18, seconds=1.25
)
WAITING = Waiting(verb="deploy", messages=3, oldest_seconds=0.5)
ENDED = Ended(
    verb="deploy",
    uuid=b"\x00\xff",
    peer="com.two",
    digest=DIGEST,
    result="handled",
    reason="",
    exit_code=-1,
    reply_sent=False,
    seconds=2.0,
    ended_ns=10**18,
    ago_seconds=3.0,
)
NEVER_BEGUN = replace(
    ENDED, uuid=b"", result="rejected", reason="expired", exit_code=None, reply_sent=None, seconds=None
)
STATUS = Status(
    destination="com.one",
    version="0.1.0",
    invocation=Invocation("0123456789abcdef", "main"),
    state="receiving",
    problem="",
    time_ns=10**18,
    uptime_seconds=60.0,
    running=(RUNNING,),
    waiting=(WAITING,),
    ended=(ENDED, NEVER_BEGUN),
    omitted=(1, 2, 3),
)


def text(status=STATUS):
    return to_json(to_document(status))


def changed(path, value):
    """Return the document of STATUS with another *value* at *path*, such as `running.0.verb`."""
    document = json.loads(text())
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[int(last) if last.isdigit() else last] = value
    return document


def test_what_is_written_is_what_is_read():
    assert parse(text().encode()) == STATUS
    assert parse(text(replace(STATUS, problem="x" * 5000))).problem == "x" * module.MAX_TEXT


def test_unknown_keys_are_ignored():
    assert parse(json.dumps(changed("later", {"key": [1]}))) == STATUS
    assert parse(json.dumps(changed("running.0.later", None))) == STATUS


KEYS = [
    *json.loads(text()),
    *(f"{name}.0.{key}" for name in ("running", "waiting", "ended") for key in json.loads(text())[name][0]),
]
NOT_READ = ("running.0.id", "ended.0.id")  # made from id_hex
NULL = ("ended.0.exit_code", "ended.0.reply_sent", "ended.0.seconds")


@pytest.mark.parametrize("path", [path for path in KEYS if path not in NOT_READ])
def test_each_key_is_needed_and_has_one_type(path):
    document = changed(path, 1)
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    del place[last]
    with pytest.raises(DecodeError, match=rf"{last} is missing|malformed"):
        parse(json.dumps(document))
    value = json.loads(text())
    for name in path.split("."):
        value = value[int(name) if name.isdigit() else name]
    others = [None, True, "1", 1, 1.5, [], {}, -1, 10**30, 1e300, "\u00e9" * 2000, [1], [[]]]
    for other in others:
        if (
            isinstance(other, type(value))
            or (other is None and path in NULL)
            or {type(other), type(value)} <= {int, float}
        ):
            continue
        with pytest.raises(DecodeError):
            parse(json.dumps(changed(path, other)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2),
        ("schema", 0),
        ("invocation", "x"),
        ("instance", "a/b"),
        ("time_ns", 2**63),
        ("time_ns", -1),
        ("uptime_seconds", -0.5),
        ("uptime_seconds", 1e13),
        ("uptime_seconds", 10**400),
        ("running.0.id_hex", "0"),
        ("running.0.id_hex", "00" * 33),
        ("running.0.digest", "GG"),
        ("running.0.seconds", True),
        ("ended.0.exit_code", 10**10),
        ("ended.0.exit_code", True),
        ("ended.0.reply_sent", 1),
        ("waiting", [None]),
        ("running", [[]] * (module.MAX_ROWS + 1)),
        ("destination", "x" * (module.MAX_TEXT + 1)),
    ],
)
def test_a_value_out_of_range_is_an_error(path, value):
    with pytest.raises(DecodeError):
        parse(json.dumps(changed(path, value)))


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", "not JSON"),
        (b"\xff", "not text"),
        (b"hello\n", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b'{"schema": 1, "schema": 1}', "a key is there twice"),
        (b'{"schema": NaN}', "NaN is not a number"),
        (b'{"schema": -Infinity}', "-Infinity is not a number"),
        (b'{"schema": 1%s}' % (b"0" * 5000), "not JSON"),
        (b'{"schema": 1e400}', "schema is of a wrong type"),
        (b"[]", "status is not an object"),
        (b"null", "status is not an object"),
        (b"{}", "schema is missing"),
    ],
)
def test_what_is_no_status_is_an_error_of_one_line(raw, error):
    with pytest.raises(DecodeError, match=error) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


def test_a_value_that_is_not_there_is_none():
    fields = module.Fields({"key": [1]}, "object")
    assert (fields.value("key"), fields.value("other")) == ([1], None)


def test_infinite_seconds_are_no_number():
    raw = text().replace('"uptime_seconds": 60.0', '"uptime_seconds": 1e999')
    with pytest.raises(DecodeError, match="uptime_seconds"):
        parse(raw)


verbs = st.text(st.characters(codec="utf-8", exclude_characters=","), min_size=1, max_size=64)


@settings(max_examples=30)
@given(verb=verbs, number=st.integers(0, 120))
@example(verb="\x01" * 64, number=120)
def test_whatever_a_peer_sends_a_status_fits_and_counts_what_is_left_out(verb, number):
    many = replace(
        STATUS,
        running=(replace(RUNNING, verb=verb),) * number,
        waiting=(replace(WAITING, verb=verb),) * number,
        omitted=(5, 0, 0),
    )
    sent = cut(many)
    assert len(text(sent)) <= module.MAX_BYTES
    assert len(sent.running) + sent.omitted[0] == number + 5
    assert len(sent.waiting) + sent.omitted[1] == number
    assert parse(text(sent)) == sent


def test_long_rows_of_one_list_do_not_displace_those_of_the_others():
    """A verb has at most 256 bytes, of which each may need six in JSON; the largest status is within all limits."""
    long = replace(RUNNING, verb="\x01" * 256, peer="\x01" * 255)
    sent = cut(replace(STATUS, running=(long,) * 1000))
    assert (sent.waiting, sent.ended) == (STATUS.waiting, STATUS.ended)
    assert 0 < len(sent.running) < 1000
    assert len(text(sent)) <= module.MAX_BYTES < RECORDED_OUTPUT
