"""The files that a configuration is made of or names, and the directories above them: who else could change them."""

from __future__ import annotations

import shlex
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from remaphore.config import search
from remaphore.config.settings import Config, Tls
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.transport import tls

_ROOT = 0
DAY = 24 * 60 * 60
SOON_DAYS = 14  # enough for who renews by hand, and less than what tools that renew by themselves leave over


def check_files(config: Config, *, user: int) -> Iterator[Finding]:
    """Judge who but *user* (a uid) can change the configuration, and the directories above all that it names."""
    for path in _configurations(config):
        yield from _judge(path, Code.FILE_WRITABLE, user=user)
    for folder in _folders(_named(config)):
        yield from _judge(folder, Code.DIRECTORY_WRITABLE, user=user)


def check_keys(config: Config) -> Iterator[Finding]:
    """Load the private key of each identity: its file, mode and owner, and that it belongs to its public key."""
    for identity in config.identities:
        place = str(identity.file or config.source)
        try:
            identity.load()
        except ConfigError as error:
            yield from_error(Code.KEY_UNUSABLE, place, error)
        else:
            yield Finding(Level.OK, Code.KEY_OK, place, f"the private key of {identity.key}")


def check_tls(config: Config, *, now: int) -> Iterator[Finding]:
    """Load what the table `tls` names, as a connection does, and look when the CAs end. now: Unix nanoseconds."""
    if not tls.wanted(config.tls):
        return
    place = f"{config.source}: tls"
    try:
        context = tls.context(config.tls)
    except ConfigError as error:
        yield from_error(Code.TLS_UNUSABLE, place, error, hint=f"correct {place}, or the file")
        return
    yield from _ends(context, config.tls, now=now) if config.tls.ca_file else ()
    yield Finding(Level.OK, Code.TLS_OK, place, "its files can be used; no connection goes without TLS")


def _ends(context: ssl.SSLContext, files: Tls, *, now: int) -> Iterator[Finding]:
    for authority in context.get_ca_certs():
        last = ssl.cert_time_to_seconds(str(authority["notAfter"]))
        hint = f"write the new CA to {files.ca_file}"
        codes = Code.TLS_EXPIRED, Code.TLS_EXPIRES_SOON
        yield from ending(codes, str(files.ca_file), "the CA", last, now=now, hint=hint)


def ending(codes: tuple[Code, Code], where: str, what: str, last: int, *, now: int, hint: str) -> Iterator[Finding]:
    """Say that *what* ends with the second *last*, if it has, or will within SOON_DAYS. codes: for each of the two."""
    left = last - now // duration.SECOND
    day = datetime.fromtimestamp(last, UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00") + " UTC"
    if left <= 0:
        yield Finding(Level.ERROR, codes[0], where, f"{what} expired at {day}", hint)
    elif left < SOON_DAYS * DAY:
        what = f"{what} expires at {day}, in {left / DAY:.1f} days"
        yield Finding(Level.WARNING, codes[1], where, what, hint)


def _configurations(config: Config) -> list[Path]:
    main = Path(config.source)
    drop_ins = search.drop_in_paths(main.parent) if main.suffix == ".toml" else ()
    return [main, *map(Path, drop_ins)]


def _named(config: Config) -> list[Path]:
    files = config.tls.ca_file, config.tls.cert_file, config.tls.key_file, config.auth.file
    keys = (identity.file for identity in config.identities)
    return [*_configurations(config), *filter(None, files), *filter(None, keys)]


def _folders(files: list[Path]) -> list[Path]:
    """Return all directories above *files*, both as they are named and as links lead to them, from / on."""
    paths = {path for file in files for path in (file.absolute(), file.resolve())}
    return sorted({folder for path in paths for folder in path.parents})


def _judge(path: Path, code: Code, *, user: int) -> Iterator[Finding]:
    name = shlex.quote(str(path))
    try:
        found = path.stat()
    except OSError:
        return  # who reads it says what is wrong with it
    if found.st_uid not in (_ROOT, user):
        what = f"it belongs to uid {found.st_uid}, who can change what is there"
        yield Finding(Level.ERROR, code, str(path), what, f"chown {user} {name}")
    elif found.st_mode & stat.S_ISVTX and found.st_uid == _ROOT:
        return  # as /tmp: nobody can exchange what belongs to another
    elif found.st_mode & stat.S_IWOTH:
        what = f"everybody can change what is there (mode {stat.S_IMODE(found.st_mode):04o})"
        yield Finding(Level.ERROR, code, str(path), what, f"chmod go-w {name}")
    elif found.st_mode & stat.S_IWGRP:
        what = f"group {found.st_gid} can change what is there (mode {stat.S_IMODE(found.st_mode):04o})"
        yield Finding(Level.WARNING, code, str(path), what, f"chmod g-w {name}")
