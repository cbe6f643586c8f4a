"""Files that hold secrets: read once, judged by owner and mode, never quoted."""

import os
import stat
import threading
from pathlib import Path

import pytest

from remaphore.config import secrets
from remaphore.errors import ConfigError

OWN = os.geteuid()


def write(path, *, mode=0o600, content="hush"):
    path.write_text(content)
    path.chmod(mode)
    return path


def rejection(path, **options):
    with pytest.raises(ConfigError) as caught:
        secrets.read_secret(path, what="the token", **options)
    return f"{caught.value}; hint: {caught.value.hint}"


def status(*, mode, owner, group=0):
    return os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, group, 0, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440, 0o700])
def test_a_file_for_the_owner_and_its_group_is_read_without_white_space_at_its_ends(tmp_path, mode):
    assert secrets.read_secret(write(tmp_path / "t", mode=mode, content=" hu sh\r\n\n"), what="the token") == "hu sh"


@pytest.mark.parametrize(
    ("mode", "finding"),
    [
        (0o604, "others can read it (mode 0604)"),
        (0o620, "group or others can write it (mode 0620)"),
        (0o602, "group or others can write it (mode 0602)"),
        (0o666, "others can read it and group or others can write it (mode 0666)"),
    ],
)
def test_a_file_that_others_can_read_or_change_is_refused_with_the_chmod_line(tmp_path, mode, finding):
    path = write(tmp_path / "t", mode=mode)
    look = f"others may have changed it: look at {path}, install it again if they have, and then: "
    hint = f"{look if mode & 0o022 else ''}chmod 0600 {path}"
    assert rejection(path) == f"{path}: the token: {finding}; hint: {hint}"


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o666, 0o777])
def test_the_chmod_line_fixes_what_it_is_given_for(tmp_path, mode):
    path = write(tmp_path / "t", mode=mode)
    command = "chmod" + rejection(path).rpartition(" chmod")[2]
    assert os.waitstatus_to_exitcode(os.system(command)) == 0
    assert secrets.read_secret(path, what="the token") == "hush"


def test_the_chmod_line_can_be_pasted_whatever_the_name(tmp_path):
    path = write(tmp_path / "a b;c", mode=0o644)
    assert rejection(path).endswith(f"chmod 0600 '{path}'")


OTHER_GROUP = max(os.getegid(), *os.getgroups(), 0) + 1


@pytest.mark.parametrize("mode", [0o640, 0o440])
@pytest.mark.parametrize(("owner", "group"), [(0, OTHER_GROUP), (0, os.getegid()), (1000, os.getegid())])
def test_a_group_that_root_chose_and_one_of_ours_may_read_a_secret(owner, group, mode):
    assert secrets.mode_problem(status(mode=mode, owner=owner, group=group), "f", user=1000) is None


@pytest.mark.parametrize("mode", [0o640, 0o440, 0o660])
def test_another_group_may_not_read_a_secret_that_root_does_not_own(mode):
    problem = secrets.mode_problem(status(mode=mode, owner=1000, group=OTHER_GROUP), "f", user=1000)
    assert f"group {OTHER_GROUP}, which is not ours, can read it" in problem.what


def test_the_daemon_reads_root_s_secret_by_its_group_once_the_hint_is_followed():
    problem = secrets.mode_problem(status(mode=0o644, owner=0), "f", user=1000)
    assert problem.hint == f"as root: chgrp {os.getegid()} f && chmod 0640 f"


def test_on_a_read_only_mount_the_hint_is_the_mode_of_the_mount(monkeypatch):
    monkeypatch.setattr(secrets.trust, "is_read_only", lambda path: path == "f")
    problem = secrets.mode_problem(status(mode=0o644, owner=0), "f", user=1000)
    assert "chmod" not in problem.hint
    assert "defaultMode: 0400" in problem.hint
    assert f"fsGroup: {os.getegid()}" in problem.hint


@pytest.mark.parametrize(("owner", "user"), [(1001, 1000), (1000, 0)])
def test_a_secret_of_another_user_is_refused_even_for_root(owner, user):
    problem = secrets.mode_problem(status(mode=0o600, owner=owner), "f", user=user)
    assert problem.what == f"owned by uid {owner}, who can change it"
    assert "chown" not in problem.hint  # it would stop the daemon of that user, or trust what that user wrote


def test_legacy_files_are_warned_about_and_read(tmp_path):
    path = write(tmp_path / "t", mode=0o644)
    warnings = []
    assert secrets.read_secret(path, what="the token", lenient=True, warn=warnings.append) == "hush"
    assert warnings == [(f"{path}: the token: others can read it (mode 0644)", f"chmod 0600 {path}")]


def test_a_link_is_judged_by_the_file_that_is_read(tmp_path):
    target = write(tmp_path / "t", mode=0o644)
    link = tmp_path / "link"
    link.symlink_to(target)
    assert "others can read it" in rejection(link)


def test_the_descriptor_is_judged_and_not_what_the_path_means_by_then(tmp_path, monkeypatch):
    """Between opening and judging, the path is made to name a file with good modes: that must change nothing."""
    path = write(tmp_path / "t", mode=0o644)
    good = write(tmp_path / "good")
    really_open = os.open

    def open_and_exchange(name, flags):
        descriptor = really_open(name, flags)
        good.rename(path)
        return descriptor

    monkeypatch.setattr(secrets, "_open", open_and_exchange)
    assert "others can read it" in rejection(path)


@pytest.mark.parametrize("lenient", [False, True])
def test_a_file_that_cannot_be_used_is_reported_with_its_hint(tmp_path, lenient):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    binary = write(tmp_path / "binary")
    binary.write_bytes(b"\xff\xfe")
    cases = {
        tmp_path / "none": "no such file; hint: check the name of the file",
        tmp_path: "is a directory; hint: name a file in it",
        loop: "cannot be read: Too many levels of symbolic links; hint: check the name, and who may read the file",
        write(tmp_path / "empty", content=" \n"): "empty file; hint: write the secret to it",
        binary: "not text; hint: check that it is the right file",
    }
    for path, problem in cases.items():
        assert rejection(path, lenient=lenient) == f"{path}: the token: {problem}"


def test_a_name_that_no_file_can_have_is_reported_in_one_line():
    assert rejection(Path("a\0b")) == "'a\\x00b': the token: not a valid file name; hint: correct the name"


def test_a_file_without_end_is_not_read_to_its_end():
    assert secrets.MAX_FILE_BYTES < 2**26
    with pytest.raises(ConfigError, match=r"/dev/zero: the token: larger than \d+ bytes$"):
        secrets.read_file("/dev/zero", what="the token")


def test_a_command_of_a_hint_names_what_a_link_leads_to(tmp_path):
    """Typed with the name of a link that a local user has made, it would open /etc/shadow to them."""
    link = tmp_path / "link"
    link.symlink_to(write(tmp_path / "shadow", mode=0o644))
    problem = secrets.mode_problem(link.stat(), link, user=OWN)
    assert problem is not None
    assert problem.hint == f"chmod 0600 {tmp_path / 'shadow'}"


@pytest.mark.skipif(OWN != 0, reason="only root can give a file away")
def test_who_may_not_read_gets_no_chgrp_of_a_third_users_file_and_none_of_a_link(tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(secret := write(tmp_path / "shadow"))
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    ours = secrets._denied_hint(link)
    os.chown(secret, 4343, -1)
    theirs = secrets._denied_hint(link)
    assert f"chmod 0640 {secret}" in ours
    assert str(link) not in ours
    assert theirs == f"run this command as uid 4343, which owns {secret}, or name a file of uid 4242"


def test_a_fifo_is_reported_and_never_waited_for_but_the_pipe_of_a_shell_is_read(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "link").symlink_to("fifo")
    for name in ("fifo", "link"):
        with pytest.raises(ConfigError, match="cannot be read: is a FIFO, not a file"):
            secrets.read_file(tmp_path / name, what="configuration")
    read, write = os.pipe()
    writer = threading.Timer(0.05, lambda: (os.write(write, b"text"), os.close(write)))
    writer.start()
    assert secrets.read_file(f"/dev/fd/{read}", what="configuration")[0] == b"text"  # as in -c <(...)
    writer.join()
    os.close(read)
