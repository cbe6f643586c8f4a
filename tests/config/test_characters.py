"""What cannot be seen is named by its code point and place, wherever a person writes or pastes it."""

import pytest

from remaphore.config import characters, checks, creation, legacy, peer_line, search, secrets
from remaphore.errors import ConfigError, RemaphoreError, UsageError
from remaphore.text import describe_character
from remaphore.transport import credentials
from tests.harness.factories import make_key
from tests.harness.machine import peer
from tests.harness.node_files import Entry, write_legacy, write_toml

DECEPTIVE = {
    "\u200b": "U+200B zero width space",
    "\u00a0": "U+00A0 no-break space",
    "\ufeff": "U+FEFF zero width no-break space",
    "\u200f": "U+200F right-to-left mark",
    "\ufe0f": "U+FE0F variation selector-16",
    "\u3164": "U+3164 hangul filler",
    "\u2800": "U+2800 braille pattern blank",
    "\u00ad": "U+00AD soft hyphen",
    "\u2028": "U+2028 line separator",
    "\u3000": "U+3000 ideographic space",
    "\U000e0061": "U+E0061 tag latin small letter a",
    "\u201c": "U+201C left double quotation mark",
    "\u2013": "U+2013 en dash",
    "\uff1a": "U+FF1A fullwidth colon",
    "\x85": "U+0085 control character",
}


@pytest.mark.parametrize(("character", "name"), DECEPTIVE.items(), ids=DECEPTIVE.values())
def test_each_is_found_and_named(character, name):
    assert characters.find(f"a{character}b") == 1
    assert characters.describe(f"x\ny\n  ab{character}") == f"{name} at line 3, column 5"
    assert checks.destination_problem(f"com.{character}b").what.endswith(f" cannot contain {name}, its character 5")


@pytest.mark.parametrize(
    "text", ["", "a b", "z\u00fcrich", "\u043f\u0440\u0438\u0432\u0435\u0442", "\u6771\u4eac", "a-b_c.d"]
)
def test_letters_of_any_alphabet_and_inner_spaces_are_none(text):
    assert characters.find(text) is None
    assert characters.describe(text) == ""


@pytest.mark.parametrize(("text", "index"), [(" a", 0), ("a ", 1), ("a  ", 1), (" ", 0), ("a\tb", 1)])
def test_a_space_at_an_end_is_one(text, index):
    assert characters.find(text) == index


def hint_of(call, *arguments):
    with pytest.raises(RemaphoreError) as caught:
        call(*arguments)
    return caught.value.hint


EDITS = {
    "destination": ('"com.one"', '"com.one{}"'),
    "server": (":4222", ":42{}22"),
    "peer": ('"com.two"', '"com{}.two"'),
    "verb": ('["*"]', '["say{}"]'),
    "key": ('key = "', 'key = "{}'),
    "skew": ('auth = "none"', 'auth = "none"\nallow_skew = "5s{}"'),
    "name of a setting": ("auth =", '"auth{}" ='),
    "before an equals sign": ("auth =", "auth{}="),
    "instead of a quote": ('"none"', "{}none"),
}


@pytest.mark.parametrize("character", ["\u200b", "\u00a0", "\uff1a", "\u201d"], ids=ascii)
@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_a_configuration_names_the_character_with_line_and_column(tmp_path, old, new, character):
    main = write_toml(tmp_path / "a.toml", 1, "com.one", peers=[Entry("com.two", 2)])
    text = "# \u201cquoted\u201d in a comment\n" + main.read_text().replace(old, new.format(character), 1)
    main.write_text(text)
    index = text.index(character, text.index("\n"))
    place = f"line {text.count(chr(10), 0, index) + 1}, column {index - text.rfind(chr(10), 0, index)}"
    hint = hint_of(search.load, str(main), {})
    assert hint == f"delete or replace {describe_character(character)} at {place}"


def test_a_character_that_is_escaped_can_be_seen(tmp_path):
    main = write_toml(tmp_path / "a.toml", 1, r"com.one\u200b")
    assert hint_of(search.load, str(main), {}) == "use a name such as com.example.us.left"


def test_a_drop_in_names_it_as_well(tmp_path):
    main = write_toml(tmp_path / "a.toml", 1, "com.one")
    (tmp_path / "peers.d").mkdir(mode=0o755)
    (tmp_path / "peers.d" / "two.toml").write_text(peer("com.two\u200b", make_key(2)))
    assert hint_of(search.load, str(main), {}) == "delete or replace U+200B zero width space at line 2, column 23"


def test_a_legacy_configuration_names_it_as_well(tmp_path):
    path = write_legacy(tmp_path / "a.conf", 1, "com.one", server="nats://h\u200b", credentials="c")
    assert hint_of(search.load, str(path), {}) == "delete or replace U+200B zero width space at line 1, column 17"
    path.write_text(path.read_text().replace("\u200b", "").replace("com.one", "com\u00ad.one"))
    (warning,) = legacy.parse(path.read_text(), "a.conf").warnings
    assert warning.hint == "delete or replace U+00AD soft hyphen at line 3, column 17"


def test_key_credentials_and_peer_line_name_it_and_nothing_else(tmp_path):
    secret = make_key(1).reveal()
    file = tmp_path / "a.key"
    file.touch(mode=0o600)
    file.write_text(f"{secret[:40]}\u200b{secret[40:]}\n")
    load = secrets.private_key_loader(file, public=make_key(1).public, what="private key")
    for call, *given in ((load,), (creation.read_key, file)):
        with pytest.raises(ConfigError) as caught:
            call(*given)
        assert caught.value.hint == "delete U+200B zero width space at line 1, column 41"
        assert secret[:8] not in str(caught.value)
    creds = tmp_path / "a.creds"
    creds.touch(mode=0o600)
    creds.write_text(credentials.form("a.b\u00a0.c", "SU"))
    auth = credentials.Auth(kind="credentials", file=creds)
    with pytest.raises(ConfigError) as caught:
        credentials.login(auth, warn=print)
    assert caught.value.hint == "delete U+00A0 no-break space at line 2, column 4"
    line = peer_line.write(destination="com.two", key=make_key(2).public)
    with pytest.raises(UsageError) as caught:
        peer_line.read_all(f"\n{line[:30]}\u200b{line[30:]}", "stdin")
    assert caught.value.hint == "delete U+200B zero width space at line 2, column 31"


def test_a_file_name_with_one_or_with_a_tilde_is_explained(tmp_path):
    for name, hint in {
        "a.key\u200b": "delete or replace U+200B zero width space in the name",
        "a.key ": "delete or replace U+0020 space in the name",
        "~/a.key": "write the full path: neither ~ nor a variable is replaced in a file name",
        "$HOME/a.key": "write the full path: neither ~ nor a variable is replaced in a file name",
        "a b.key": "check the name of the file",
    }.items():
        with pytest.raises(ConfigError) as caught:
            secrets.read_file(tmp_path / name, what="private key")
        assert caught.value.hint == hint


def test_utf_16_is_named(tmp_path):
    (tmp_path / "a.toml").write_bytes("destination".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"a.toml:1: not UTF-8 \(it begins like UTF-16\)$"):
        search.load(str(tmp_path / "a.toml"), {})
