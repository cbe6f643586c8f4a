"""Which file is read, in which format, and the error if there is none that can be used."""

import errno
import os

import pytest

from remaphore.config import legacy, search
from remaphore.errors import ConfigError
from remaphore.protocol.keys import PrivateKey

OURS = PrivateKey(b"\1" * 32)
CONF = legacy.example()
TOML = f"""
destination = "all"
servers = ["nats://a"]
auth = "none"
hooks = ["hooks.d"]
[[identities]]
key = "{OURS.public}"
private_key_file = "ops.key"
verbs = []
"""
CREATE = "create one with: remaphore init (or in the legacy .conf format: remaphore -C > FILE)"


def write(path, text, *, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def rejection(path, environ=None, defaults=()):
    with pytest.raises(ConfigError) as caught:
        search.load(path, environ or {}, defaults=defaults)
    return f"{caught.value}; hint: {caught.value.hint}"


def test_the_documented_places_are_the_defaults():
    assert search.DEFAULT_PATHS == ("/etc/remaphore/remaphore.toml", "/etc/remaphore/remaphore.conf")
    assert search.default_paths({}, user=0) == search.DEFAULT_PATHS


@pytest.mark.parametrize(
    ("environ", "own"),
    [
        ({"HOME": "/home/me"}, ("/home/me/.config/remaphore/remaphore.toml",)),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "/xdg"}, ("/xdg/remaphore/remaphore.toml",)),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "relative"}, ("/home/me/.config/remaphore/remaphore.toml",)),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": ""}, ("/home/me/.config/remaphore/remaphore.toml",)),
        ({"HOME": "relative"}, ()),
        ({"HOME": ""}, ()),
        ({}, ()),
    ],
)
def test_the_users_own_file_goes_before_the_systems_but_not_for_root(environ, own):
    assert search.default_paths(environ, user=1000) == (*own, *search.DEFAULT_PATHS)
    assert search.default_paths(environ, user=0) == search.DEFAULT_PATHS


def test_the_option_goes_before_the_variable_and_that_before_the_defaults_in_their_order(tmp_path):
    paths = [write(tmp_path / name, CONF) for name in ("option", "variable", "first", "second")]
    option, variable, first, second = paths
    environ = {"REMAPHORE_CONFIG": variable}
    assert search.load(option, environ, defaults=(first, second)).source == option
    assert search.load(None, environ, defaults=(first, second)).source == variable
    assert search.load(None, {"REMAPHORE_CONFIG": ""}, defaults=(first, second)).source == first
    assert search.load(None, {}, defaults=(str(tmp_path / "none"), second)).source == second


@pytest.mark.parametrize("name", ["a.conf", "a", "a.toml.bak", "toml"])
def test_any_name_but_toml_is_the_legacy_format(tmp_path, name):
    assert search.load(write(tmp_path / name, CONF), {}).legacy


def test_toml_is_ours_and_its_paths_count_from_the_file_wherever_we_go_later(tmp_path, monkeypatch):
    write(tmp_path / "a.toml", TOML)
    monkeypatch.chdir(tmp_path)
    config = search.load("a.toml", {})
    assert not config.legacy
    assert config.hooks == (tmp_path / "hooks.d",)


def test_paths_of_the_legacy_format_count_from_the_current_directory(tmp_path):
    path = write(tmp_path / "a.conf", CONF.replace("/path/to/", ""))
    assert str(search.load(path, {}).auth.file) == "credentials/file"


def test_a_byte_order_mark_does_no_harm(tmp_path):
    assert search.load(write(tmp_path / "a.toml", "\ufeff" + TOML), {}).destination == "all"
    assert search.load(write(tmp_path / "a.conf", "\ufeff" + CONF), {}).warnings == ()


def test_no_configuration_at_all_names_every_place_and_the_hint(tmp_path):
    places = (str(tmp_path / "a.toml"), str(tmp_path / "a.conf"))
    assert rejection(None, defaults=places) == (
        "no configuration found in: -c (not given), $REMAPHORE_CONFIG (not set),"
        f" {places[0]}, {places[1]}; hint: {CREATE}, or name one with -c FILE"
    )


def test_a_named_file_that_is_missing_is_an_error_even_if_a_default_is_there(tmp_path):
    default = write(tmp_path / "a.conf", CONF)
    missing = str(tmp_path / "none")
    assert rejection(missing, defaults=(default,)) == (
        f"{missing}: configuration: no such file; hint: check the name, or {CREATE}"
    )
    assert rejection(None, {"REMAPHORE_CONFIG": missing}, defaults=(default,)) == (
        f"{missing}: configuration, named by $REMAPHORE_CONFIG: no such file; hint: check the name, or {CREATE}"
    )


def test_a_default_that_is_there_but_cannot_be_read_is_not_passed_over(tmp_path):
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    assert rejection(None, defaults=(str(loop), write(tmp_path / "a.conf", CONF))) == (
        f"{loop}: configuration: cannot be read: Too many levels of symbolic links;"
        " hint: check the name, and who may read the file"
    )


def test_a_directory_is_reported_with_its_hint(tmp_path):
    assert rejection(str(tmp_path)) == f"{tmp_path}: configuration: is a directory; hint: name a file in it"


@pytest.mark.parametrize("name", ["a.toml", "a.conf"])
def test_text_that_is_not_utf8_is_reported_with_its_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b'#\ndestination: "Z\xfcrich"\n')
    assert rejection(str(path)) == f"{path}:2: not UTF-8; hint: save the file as UTF-8"


def test_a_mistake_in_the_file_names_the_file_as_it_was_given(tmp_path, monkeypatch):
    write(tmp_path / "a.conf", CONF + "x\n")
    monkeypatch.chdir(tmp_path)
    assert rejection("a.conf").startswith("a.conf:12: expected 3 fields, found 1; hint: write ")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)])
def test_legacy_files_holds_keys_so_that_open_modes_are_warned_about(tmp_path, mode, warned):
    path = write(tmp_path / "a.conf", CONF, mode=mode)
    warnings = search.load(path, {}).warnings
    assert bool(warnings) == warned
    assert all(
        warning.what.startswith(f"{path}: it contains private keys: ") and warning.hint.endswith(f"chmod 0600 {path}")
        for warning in warnings
    )


def test_our_own_file_holds_no_secret_so_that_anyone_may_read_it(tmp_path):
    assert search.load(write(tmp_path / "a.toml", TOML, mode=0o644), {}).warnings == ()


def test_a_configuration_can_come_through_a_pipe():
    reading, writing = os.pipe()
    try:
        os.write(writing, CONF.encode())
        os.close(writing)
        assert search.load(f"/dev/fd/{reading}", {}).warnings == ()
    finally:
        os.close(reading)


@pytest.mark.parametrize("name", ["a.conf", "a.toml"])
def test_more_peers_than_the_limit_are_refused_and_as_many_are_not(tmp_path, monkeypatch, name):
    path = write(tmp_path / name, CONF if name == "a.conf" else TOML)
    count = len(search.load(path, {}).peers)
    monkeypatch.setattr(search, "MAX_PEERS", count)
    assert search.load(path, {})
    monkeypatch.setattr(search, "MAX_PEERS", count - 1)
    assert rejection(path).startswith(f"{path}: {count} peers, the limit is {count - 1}; hint: ")


def no_access(path, monkeypatch):
    """Let nothing at or below *path* be examined or opened, as for a user who may not enter it. Root may everything."""
    for name in ("stat", "open", "lstat"):
        real = getattr(os, name)

        def denied(place, *given, real=real, **options):
            if isinstance(place, (str, os.PathLike)) and str(place).startswith(f"{path}/"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
            return real(place, *given, **options)

        monkeypatch.setattr(os, name, denied)


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Return a function that finds the default for a HOME, as an unprivileged user who owns nothing but `ours`."""
    etc = write(tmp_path / "etc.toml", TOML)
    user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(search, "DEFAULT_PATHS", (etc,))

    def find(**environ):
        return search.find_default(environ)

    return find


@pytest.mark.parametrize("variable", ["HOME", "XDG_CONFIG_HOME"])
def test_the_home_of_another_user_is_skipped_and_named(homes, tmp_path, monkeypatch, variable):
    home = tmp_path / "home"
    home.mkdir()
    no_access(home, monkeypatch)
    found, tried = homes(**{variable: str(home)})
    assert found == str(tmp_path / "etc.toml")
    assert len(tried) == 1
    assert (
        f"(skipped: Permission denied; {home} belongs to uid {os.geteuid() - 1}, we are uid {os.geteuid()})" in tried[0]
    )
    (tmp_path / "etc.toml").unlink()
    with pytest.raises(ConfigError, match=r"skipped: Permission denied; "):
        search.find(None, {variable: str(home)})


def test_our_own_file_that_cannot_be_read_is_an_error(homes, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    no_access(home, monkeypatch)
    user = os.geteuid() - 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(search, "_ROOT", -1)
    found, _ = homes(HOME=str(home))
    assert found == f"{home}/.config/remaphore/remaphore.toml"
    with pytest.raises(ConfigError, match=r"cannot be read: Permission denied$") as caught:
        search.load(None, {"HOME": str(home)})
    assert caught.value.hint.startswith(f"let uid {user} enter {home}")


def test_a_home_that_is_none_is_skipped(homes, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    etc = str(tmp_path / "etc.toml")
    for home in (
        "",
        "relative",
        str(tmp_path / "loop"),
        str(tmp_path / "file"),
        str(tmp_path / "none"),
        "/" + "x" * 300,
    ):
        assert homes(HOME=home)[0] == etc
    assert homes()[0] == etc
    (tmp_path / "etc.toml").unlink()
    for environ, why in (
        ({}, "your own directory (skipped: neither XDG_CONFIG_HOME nor HOME is an absolute path)"),
        ({"HOME": str(tmp_path / "loop")}, "remaphore.toml (skipped: Too many levels of symbolic links)"),
        ({"HOME": "/" + "x" * 300}, "remaphore.toml (skipped: File name too long)"),
    ):
        with pytest.raises(ConfigError) as caught:
            search.find(None, environ)
        assert why in str(caught.value)
