"""The files that a configuration consists of or names, and the directories above them: who can change or read them."""

from __future__ import annotations

import shlex
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from remaphore.config import search
from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.transport import tls

_ROOT = 0
DAY = 24 * 60 * 60
SOON_DAYS = 14  # enough time to renew by hand, and less than tools that renew automatically leave


def check_files(config: Config, *, user: int) -> Iterator[Finding]:
    """Yield who besides *user* (a uid) can change the configuration, or a directory above a file that it names."""
    main = Path(config.source)
    drop_ins = search.drop_in_paths(main.parent) if main.suffix == ".toml" else ()
    configurations = [main, *map(Path, drop_ins)]
    for path in configurations:
        yield from _check_writers(path, Code.FILE_WRITABLE, user=user)
    keys = (identity.file for identity in config.identities)
    named = (config.tls.ca_file, config.tls.cert_file, config.tls.key_file, config.auth.file, *keys)
    files = [*configurations, *filter(None, named)]
    # The directories as the files are named, and as symbolic links lead to them: from / down.
    paths = {path for file in files for path in (file.absolute(), file.resolve())}
    for directory in sorted({parent for path in paths for parent in path.parents}):
        yield from _check_writers(directory, Code.DIRECTORY_WRITABLE, user=user)


def check_keys(config: Config) -> Iterator[Finding]:
    """Load the private key of each identity: its file, mode and owner, and that it belongs to its public key."""
    for identity in config.identities:
        place = str(identity.file or config.source)
        try:
            identity.load()
        except ConfigError as error:
            yield from_error(Code.KEY_UNUSABLE, place, error)
        else:
            yield Finding(Level.OK, Code.KEY_OK, place, f"private key of {identity.key}")


def check_tls(config: Config, *, now: int) -> Iterator[Finding]:
    """Load the files of the table `tls`, as a connection does, and check when the CAs expire. now: Unix nanoseconds."""
    if not tls.wanted(config.tls):
        return
    place = f"{config.source}: tls"
    try:
        context = tls.context(config.tls)
    except ConfigError as error:
        yield from_error(Code.TLS_UNUSABLE, place, error, default_hint=f"correct {place}, or the file")
        return
    if config.tls.ca_file:
        hint = f"write the new CA certificate to {config.tls.ca_file}"
        codes = Code.TLS_EXPIRED, Code.TLS_EXPIRES_SOON
        for authority in context.get_ca_certs():
            last = ssl.cert_time_to_seconds(str(authority["notAfter"]))
            yield from check_expiry(codes, str(config.tls.ca_file), "CA certificate", last, now=now, hint=hint)
    yield Finding(Level.OK, Code.TLS_OK, place, "files are usable; every connection uses TLS")


def check_expiry(
    codes: tuple[Code, Code], where: str, what: str, last: int, *, now: int, hint: str
) -> Iterator[Finding]:
    """Yield that *what* expired at the Unix second *last*, or will within SOON_DAYS: the first or second of *codes*."""
    left = last - now // duration.SECOND
    day = datetime.fromtimestamp(last, UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00") + " UTC"
    if left <= 0:
        yield Finding(Level.ERROR, codes[0], where, f"{what} expired at {day}", hint)
    elif left < SOON_DAYS * DAY:
        what = f"{what} expires at {day}, in {left / DAY:.1f} days"
        yield Finding(Level.WARNING, codes[1], where, what, hint)


def _check_writers(path: Path, code: Code, *, user: int) -> Iterator[Finding]:
    try:
        status = path.stat()
    except OSError:
        return  # the check that reads the file reports why it cannot
    name, mode = shlex.quote(str(path)), stat.S_IMODE(status.st_mode)
    if status.st_uid not in (_ROOT, user):
        what = f"owned by uid {status.st_uid}, which can change it"
        yield Finding(Level.ERROR, code, str(path), what, f"chown {user} {name}")
    elif mode & stat.S_ISVTX and status.st_uid == _ROOT:
        return  # like /tmp: with the sticky bit, no user can replace the file of another
    elif mode & stat.S_IWOTH:
        yield Finding(Level.ERROR, code, str(path), f"writable by all users (mode {mode:04o})", f"chmod go-w {name}")
    elif mode & stat.S_IWGRP:
        what = f"writable by group {status.st_gid} (mode {mode:04o})"
        yield Finding(Level.WARNING, code, str(path), what, f"chmod g-w {name}")
