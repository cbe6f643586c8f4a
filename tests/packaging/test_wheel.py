"""The wheel holds man pages, systemd files and sample handlers, where nothing runs or reads them by itself."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import PurePosixPath

import pytest

from remaphore.cli.commands import COMMANDS
from tests.docs.pages import ROOT
from tests.harness.fresh_venv import FreshVenv, build_wheel

VERSION = importlib.metadata.version("remaphore")
SYSTEMD = ROOT / "docs" / "systemd"


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory):
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def shared(wheel_file):
    """Return what is installed below the prefix, by its path there."""
    with zipfile.ZipFile(wheel_file) as wheel:
        parts = {name: name.partition(".data/data/") for name in wheel.namelist()}
        return {PurePosixPath(inside): wheel.read(name) for name, (_, found, inside) in parts.items() if found}


@pytest.mark.xdist_group("wheel")
def test_it_has_a_man_page_for_each_command(shared):
    pages = {path.name for path in shared if path.match("share/man/man1/*")}
    assert pages == {"remaphore.1", *(f"remaphore-{name}.1" for name in COMMANDS)}
    assert PurePosixPath("share/man/man5/remaphore.toml.5") in shared


@pytest.mark.xdist_group("wheel")
def test_its_command_is_a_script_of_its_own_that_installers_do_not_wrap(wheel_file):
    with zipfile.ZipFile(wheel_file) as wheel:
        (script,) = (info for info in wheel.infolist() if ".data/scripts/" in info.filename)
        text = wheel.read(script)
        points = [wheel.read(name) for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert PurePosixPath(script.filename).name == "remaphore"
    assert script.external_attr >> 16 & 0o777 == 0o755
    # Installers write the path of their Python in place of this first line.
    assert text == b"#!python\n" + (ROOT / "bin" / "remaphore").read_bytes().partition(b"\n")[2]
    assert not any(b"console_scripts" in each for each in points)


@pytest.mark.long
@pytest.mark.xdist_group("wheel")
@pytest.mark.parametrize("way", ["the pip of this Python", "the newest pip", "editable"])
def test_each_way_to_install_brings_the_script_as_it_is(way, wheel_file, tmp_path):
    venv = FreshVenv(tmp_path / "venv", *(["hatchling"] if way == "editable" else []))
    if way == "the pip of this Python":
        done = venv.run("python", "-m", "pip", "install", "--no-deps", "--no-index", "-q", wheel_file, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    else:
        venv.install(*(["--editable", ROOT] if way == "editable" else [wheel_file]))
    script = venv.bin / "remaphore"
    first, _, rest = script.read_text().partition("\n")
    assert first == f"#!{venv.python}"
    assert rest == (ROOT / "bin" / "remaphore").read_text().partition("\n")[2]
    assert os.access(script, os.X_OK)
    for command in (["remaphore"], ["python", "-m", "remaphore"]):
        done = venv.run(*command, "--version", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"remaphore {importlib.metadata.version('remaphore')}\n")


@pytest.mark.xdist_group("wheel")
def test_its_metadata_is_what_an_index_accepts_and_names_only_web_addresses(wheel_file):
    (metadata,) = importlib.metadata.distributions(name="remaphore", path=[str(wheel_file)])
    urls = [line.split(", ") for line in metadata.metadata.get_all("Project-URL")]
    assert urls
    for label, url in urls:
        assert len(label) <= 32  # PyPI's limit
        assert re.fullmatch(r"https://[a-z0-9.-]+/[\w./-]*", url)
        assert "example" not in url
    pytest.importorskip("twine", reason="twine is in the dependency group dev")
    check = [sys.executable, "-m", "twine", "check", "--strict", wheel_file]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.xdist_group("wheel")
def test_it_has_the_files_for_systemd_and_the_sample_handlers_as_documentation(shared):
    for folder, place in ((SYSTEMD, "systemd"), (ROOT / "hooks.d", "hooks.d")):
        expected = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        there = {path: data for path, data in shared.items() if path.is_relative_to(f"share/doc/remaphore/{place}")}
        assert {str(path.relative_to(f"share/doc/remaphore/{place}")): data for path, data in there.items()} == {
            str(path): data for path, data in expected.items()
        }
    assert {path.parts[:2] for path in shared} == {("share", "man"), ("share", "doc")}


def applied(tool, folder, kind, unit="remaphore"):
    """Run a tool of systemd with the file of this *kind* for *unit* below *folder*; return the finished process."""
    place = folder / "usr" / "lib" / f"{kind}.d"
    place.mkdir(parents=True)
    shutil.copy(SYSTEMD / f"{unit}.{kind}.conf", place / f"{unit}.conf")
    (folder / "etc").mkdir(exist_ok=True)
    program = shutil.which(tool)
    assert program, f"install {tool}: apt-get install systemd"
    options = ["--create"] if kind == "tmpfiles" else []
    return subprocess.run([program, f"--root={folder}", *options], capture_output=True, text=True, check=False)


def test_systemd_creates_the_user_of_the_broker(tmp_path):
    made = applied("systemd-sysusers", tmp_path, "sysusers", "remaphore-broker")
    assert made.returncode == 0, made.stderr
    (line,) = (tmp_path / "etc" / "passwd").read_text().splitlines()
    name, _, user, _, _, home, shell = line.split(":")
    assert (name, home, shell) == ("remaphore-broker", "/var/lib/remaphore-broker", "/usr/sbin/nologin")
    assert int(user) != 0


def test_systemd_creates_the_user_and_the_directories_with_their_modes(tmp_path):
    made = applied("systemd-sysusers", tmp_path, "sysusers")
    assert made.returncode == 0, made.stderr
    (line,) = (tmp_path / "etc" / "passwd").read_text().splitlines()
    name, _, user, group, _, home, shell = line.split(":")
    assert (name, home, shell) == ("remaphore", "/var/lib/remaphore", "/usr/sbin/nologin")
    assert int(user) != 0
    if os.geteuid() != 0:
        return  # only root can give directories to another user
    made = applied("systemd-tmpfiles", tmp_path, "tmpfiles")
    assert made.returncode == 0, made.stderr
    folder = (tmp_path / "etc" / "remaphore").stat()
    assert (folder.st_uid, folder.st_mode & 0o777) == (0, 0o751)
    assert folder.st_gid == int(group)
    hooks = (tmp_path / "etc" / "remaphore" / "hooks.d").stat()
    assert (hooks.st_uid, hooks.st_gid, hooks.st_mode & 0o777) == (0, 0, 0o755)
