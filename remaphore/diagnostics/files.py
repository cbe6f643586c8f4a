"""The files that a configuration consists of or names, and the directories above them: who can change or read them."""

from __future__ import annotations

import shlex
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from remaphore import trust
from remaphore.config import files, safety, search
from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.transport import tls

DAY = 24 * 60 * 60
SOON_DAYS = 14  # enough time to renew by hand, and less than tools that renew automatically leave


def check_files(config: Config) -> Iterator[Finding]:
    """Yield who besides root and us can change the configuration, or a directory above a file that it names."""
    main = Path(config.source)
    drop_ins = map(Path, search.drop_in_paths(main.parent) if main.suffix == ".toml" else ())
    keys = (identity.file for identity in config.identities)
    secrets = (config.tls.key_file, config.auth.file, *keys)  # their owners and modes are checked where they are read
    checks: list[tuple[Path | None, Callable[..., object]]] = [(path, trust.walk) for path in secrets]
    checks += [(path, safety.check_file) for path in (main, *drop_ins, config.tls.ca_file, config.tls.cert_file)]
    if main.suffix == ".toml" and (main.parent / search.DROP_INS).is_dir():
        checks.append((main.parent / search.DROP_INS, trust.check_directory))
    found = {
        where: problem
        for path, check in checks
        if path is not None
        for where, problem in safety.unsafe_places(str(path), check)
    }
    for where, problem in sorted(found.items()):
        code = Code.DIRECTORY_WRITABLE if Path(where).is_dir() else Code.FILE_WRITABLE
        yield Finding(Level.ERROR, code, where, *problem)
    yield from _check_leftovers({main.absolute().parent, main.absolute().parent / search.DROP_INS})


def _check_leftovers(folders: Iterable[Path]) -> Iterator[Finding]:
    """Yield the files that a command left behind when it was killed while it wrote. They may contain a private key."""
    for folder in sorted(folders):
        for path in sorted(folder.glob(files.LEFTOVER)):
            what = "left behind by a remaphore command that was killed while it wrote"
            hint = f"if no remaphore command is running: rm {shlex.quote(str(path))}"
            yield Finding(Level.NOTE, Code.FILE_LEFT_BEHIND, str(path), what, hint)


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
    codes: tuple[Code, Code], where: str, what: str, last: float, *, now: int, hint: str
) -> Iterator[Finding]:
    """Yield that *what* expired at the Unix second *last*, or will within SOON_DAYS: the first or second of *codes*."""
    left = last - now // duration.SECOND
    if left <= 0:
        yield Finding(Level.ERROR, codes[0], where, f"{what} expired at {format_time(last)}", hint)
    elif left < SOON_DAYS * DAY:
        what = f"{what} expires at {format_time(last)}, in {left / DAY:.1f} days"
        yield Finding(Level.WARNING, codes[1], where, what, hint)


def format_time(seconds: float) -> str:
    """Return a Unix time for people, in UTC; one beyond the calendar of Python, years 1 to 9999, as a number."""
    try:
        day = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"the Unix time {seconds:g}"
    return day.isoformat(sep=" ", timespec="minutes").removesuffix("+00:00") + " UTC"
