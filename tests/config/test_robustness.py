"""Whatever the file holds, a reader raises nothing but ConfigError, and it reads a large one without delay."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remaphore.config import legacy, toml
from remaphore.errors import ConfigError
from remaphore.protocol.keys import PrivateKey, encode_base58

OURS = PrivateKey(b"\1" * 32)
CONF = f"""server: nats://a:4222
credentials: c
subject: remaphore
destination: d
allow_skew: 5s
[ Identities ]
{OURS.public} {OURS.reveal()} [ping, *]
[ Peers ]
"""
TOML = f"""destination = "d"
servers = ["nats://a:4222"]
allow_skew = "5s"
hooks = ["h"]
[auth]
user = "u"
password_file = "p"
[[identities]]
key = "{OURS.public}"
private_key_file = "k"
verbs = ["ping", "*"]
[verbs.deploy]
timeout = "1m"
concurrency = 2
[plugins]
enable = ["metrics"]
[plugins.metrics]
listen = "127.0.0.1:0"
"""
READERS = {
    "conf": lambda text: legacy.parse(text, "f.conf"),
    "toml": lambda text: toml.parse(text, "f.toml", Path("/base")),
}
TEXTS = st.text(st.characters(), max_size=200)
LIKELY = st.text('[]{}=:.,#"\\\n\t 0159abz-*', max_size=200)


@st.composite
def mutations(draw, valid):
    """Replace up to three pieces of *valid* by something else, or by another piece of it."""
    text = valid
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 80)))
        other = draw(st.integers(0, len(valid)))
        piece = draw(st.one_of(LIKELY, TEXTS, st.just(valid[other : other + 60])))
        text = text[:start] + piece + text[end:]
    return text


def complaint(read, text):
    """Return the words of the ConfigError that *read* raises, or none."""
    try:
        read(text)
    except ConfigError as error:
        return str(error)
    return "f. accepted"


def refuses_cleanly(read, text):
    said = complaint(read, text)
    assert said.startswith("f.")
    assert OURS.reveal()[:24] not in said
    assert "\n" not in said


@pytest.mark.parametrize("kind", ["conf", "toml"])
@settings(max_examples=150, deadline=None)
@given(text=st.one_of(TEXTS, LIKELY))
def test_any_text_raises_nothing_but_a_configuration_error_of_one_line(kind, text):
    refuses_cleanly(READERS[kind], text)


@settings(max_examples=250, deadline=None)
@given(text=mutations(CONF))
def test_a_damaged_conf_raises_nothing_but_a_configuration_error_of_one_line(text):
    refuses_cleanly(READERS["conf"], text)


@settings(max_examples=250, deadline=None)
@given(text=mutations(TOML))
def test_a_damaged_toml_raises_nothing_but_a_configuration_error_of_one_line(text):
    refuses_cleanly(READERS["toml"], text)


def peers(count):
    return [(f"com.host{number}", encode_base58(number.to_bytes(32, "little")).decode()) for number in range(count)]


LARGE = {  # before the peers, and each
    "conf": (CONF, "{} {} [ping, deploy]\n"),
    "toml": (TOML, '[[peers]]\ndestination = "{}"\nkey = "{}"\nverbs = ["ping", "deploy"]\n'),
}


@pytest.mark.parametrize("kind", ["conf", "toml"])
def test_ten_thousand_peers_are_read_without_quadratic_work(kind):
    head, line = LARGE[kind]
    text = head + "".join(line.format(*peer) for peer in peers(10_000))
    start = time.process_time()
    config = READERS[kind](text)
    spent = time.process_time() - start
    assert len(config.peers) == 10_000
    assert spent < 1.0  # measured: 0.1 to 0.2 s; anything quadratic takes several
