"""The peer line: read as written, rejected if cut or changed, and never a secret in an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.config import peer_line
from remaphore.errors import UsageError
from remaphore.protocol.keys import NatsKey, PrivateKey
from tests.harness.factories import bounded, make_key

KEY = make_key(1).public
LINE = peer_line.write(destination="com.example.us.left", key=KEY)


def rejection(text, **options):
    with pytest.raises(UsageError) as caught:
        peer_line.read_all(text, "the peer line", **options)
    assert "\n" not in str(caught.value)
    return f"{caught.value}; hint: {caught.value.hint}"


def test_the_form_is_that_of_version_1():
    known = peer_line.write(destination="com.a", key="3v96")
    assert known == "remaphore-peer:1 com.a 3v96 4e6879f6"


def test_a_line_is_read_as_it_was_written_whatever_white_space_a_chat_adds():
    expected = (("com.example.us.left", KEY),)
    assert peer_line.read_all(LINE, "x") == expected
    assert peer_line.read_all(f"\n  {LINE.replace(' ', '   ')} \r\n\n", "x") == expected


@pytest.mark.parametrize("character", "\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")
def test_only_a_new_line_ends_a_line(character):
    hidden = peer_line.write(destination="com.evil", key=make_key(2).public)
    shown = peer_line.write(destination="com.a", key=make_key(1).public)
    text = f"# a comment{character}{hidden}\n{shown}\n"
    assert peer_line.read_all(text, "stdin") == (("com.a", make_key(1).public),)


def test_several_lines_are_read_in_order_with_comments_between():
    other = peer_line.write(destination="com.b", key=make_key(2).public)
    found = peer_line.read_all(f"# ours\n{LINE}\n\n{other}\n", "x")
    assert found == (("com.example.us.left", KEY), ("com.b", make_key(2).public))
    assert rejection(f"# ours\n{LINE}\n\n{other[:-1]}\n").startswith(
        "the peer line, line 4: the peer line does not match its"
    )


@pytest.mark.parametrize("length", range(len(LINE)))
def test_a_line_cut_at_any_place_is_refused(length):
    said = rejection(LINE[:length])
    assert "remaphore peer show" in said or "this remaphore reads" in said
    assert KEY[:8] not in said


@bounded
@given(place=st.integers(0, len(LINE) - 1), character=st.characters(codec="ascii"))
def test_a_line_with_one_character_changed_is_refused_or_the_same(place, character):
    changed = LINE[:place] + character + LINE[place + 1 :]
    if changed.split() == LINE.split() and len(changed.splitlines()) == 1:
        assert peer_line.read_all(changed, "x") == (("com.example.us.left", KEY),)
    else:
        assert KEY[:12] not in rejection(changed)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no peer line in the peer line; hint: copy the whole line that `remaphore peer show` prints"),
        ("# nothing\n\n", "no peer line in"),
        (f"{LINE} {LINE}", "has 8 words instead of 4: it was cut or joined"),
        (
            LINE.replace(":1", ":2"),
            "is not the one that this remaphore reads, remaphore-peer:1; hint: update the older",
        ),
        (f"com.a {KEY}", "not a peer line, which begins with remaphore-peer:1; hint: copy"),
        (f"com.a {KEY}", "--compatibility legacy DESTINATION PUBLICKEY"),
        (peer_line.write(destination="com.*", key=KEY), "a destination cannot contain *"),
        (peer_line.write(destination="com.a,b", key=KEY), "a destination cannot contain a comma"),
        (peer_line.write(destination="com.a\x1b[2J", key=KEY), "control character"),
        (peer_line.write(destination="com.a", key=KEY[:-3]), "invalid public key"),
        (peer_line.write(destination="com.a", key="0OIl"), "invalid public key"),
    ],
)
def test_each_mistake_is_reported(text, part):
    assert part in rejection(text)


@pytest.mark.parametrize(
    "text",
    [
        make_key(1).reveal(),
        f"remaphore-peer:1 com.a {make_key(1).reveal()} c0ffee12",
        peer_line.write(destination="com.a", key=make_key(1).reveal()),
        f"com.a {make_key(1).reveal()} [ping]",
        f"{KEY} {make_key(1).reveal()} [ping]",
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_a_private_key_is_reported_as_such_with_the_hint_and_is_not_repeated(text, bare):
    said = rejection(text, bare=bare)
    assert "this is a private key; hint: create a new key" in said
    assert "on its own node; a private key must never leave it" in said
    assert "remaphore keygen" in said
    assert make_key(1).reveal()[:10] not in said


def test_a_private_key_cut_in_half_is_refused_and_not_repeated():
    half = make_key(1).reveal()[:44]
    assert half[:10] not in rejection(half)
    assert half[:10] not in rejection(f"remaphore-peer:1 com.a {half} c0ffee12")


def test_a_seed_of_nats_is_reported_as_such_and_is_not_repeated():
    seed = NatsKey("user").seed
    said = rejection(f"com.a {seed}")
    assert "a secret NATS seed" in said
    assert seed[:10] not in said


def test_a_node_of_the_legacy_format_is_named_by_destination_and_key_where_that_is_asked_for():
    assert peer_line.read_all(f"com.a {KEY}", "x", bare=True) == (("com.a", KEY),)
    assert peer_line.read_all(LINE, "x", bare=True) == (("com.example.us.left", KEY),)
    assert "invalid public key" in rejection(f"com.a {KEY[:-2]}", bare=True)
    assert "neither a peer line nor DESTINATION PUBLICKEY" in rejection("com.a", bare=True)
    assert "neither a peer line nor DESTINATION PUBLICKEY" in rejection(f"com.a {KEY} [ping]", bare=True)


@bounded
@given(text=st.text(max_size=80))
def test_any_other_text_is_refused_in_one_line(text):
    assert "\n" not in rejection(text)


def test_a_public_key_is_no_secret():
    assert peer_line.secret_problem(KEY) is None
    assert peer_line.secret_problem("com.example.us.left") is None
    assert peer_line.secret_problem(PrivateKey.generate().reveal()) is not None
