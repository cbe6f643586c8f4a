"""The logins of a broker: what its server needs to know, and the credentials files of its nodes.

There are two kinds. The *shared login* is one credentials file for all nodes; the keys that signed it are not kept, so
that a reader of the directory finds that login and cannot make another one. *Logins of nodes* have a file each; their
signing keys are kept, so that a node can be added or its login revoked without a change for the others.

    login.json           what the server needs: public, and the same on each server of a cluster
    admin.creds          the login of an administrator: makes the streams of coordination, and can do nothing else
    remaphore.creds      the shared login
    creds/NAME.creds     the login of a node
    signing-keys.json    the keys of operator and account, which sign logins and revocations; servers do not need it
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from remaphore.config import files
from remaphore.config.settings import DEFAULT_SUBJECT
from remaphore.coordination import streams
from remaphore.embedded import folder as storage
from remaphore.embedded import jwt
from remaphore.errors import ConfigError, KeyFormatError
from remaphore.protocol import subject as subjects
from remaphore.protocol.keys import NatsKey
from remaphore.transport import credentials

MAX_NAME_BYTES = 200  # with .creds it is a file name
_NAME = re.compile(r"[^\W_][\w.-]*")  # \w is a letter of any script, a digit or _

# Of login.json and signing-keys.json. The first version had no system account, without which there is no JetStream.
VERSION = 2
_SYSTEM = "system"
_ADMINISTRATOR = "administrator"
_ORGANIZATION = "remaphore"  # name of operator and account, for people who look at the JWTs
_RESTORE = "restore it from a backup, or name another directory and give all nodes new credentials"


@dataclass(slots=True)
class _SigningKeys:
    """Seeds of operator and account, public keys of the users of each name, and when they were revoked.

    system: public key of the system account, which has no users; its seed is not kept. administrator: public key of the
    login in admin.creds. created: when; nats-server can replace the JWT of an account while it runs, but not that of
    the operator, which is therefore always the same.
    """

    subject: str
    created: int
    operator: str
    account: str
    system: str
    administrator: str = ""
    version: int = VERSION
    users: dict[str, list[str]] = field(default_factory=dict)
    revoked: dict[str, int] = field(default_factory=dict)


class Logins:
    """The logins in *folder*, all for subjects below *subject*."""

    def __init__(self, folder: Path, *, subject: str) -> None:
        self.shared = folder / "remaphore.creds"
        self.directory = folder / "creds"
        self.administrator = folder / "admin.creds"
        self._folder = folder
        self._subject = subject
        self._public = folder / storage.MARK
        self._signing_keys = folder / "signing-keys.json"
        self._mine = f"{subject}.>"

    @property
    def credentials(self) -> Path:
        """The credentials file of all nodes, or the directory with those of each."""
        return self.directory if self._per_node() else self.shared

    def file(self, name: str) -> Path:
        """Return the path of the credentials file of a node."""
        return self.directory / f"{name}.creds"

    def server_config(self, *, now: int, create: bool) -> str:
        """Return the server's part of the logins.

        create: make the shared login if there is none, or its files do not match. Raise ConfigError without a login.
        """
        stored = self._read_public(lenient=create and not self._per_node())
        matches = stored.get("subject") == self._subject
        if matches and (self._per_node() or not create or self.shared.exists()):
            return str(stored["server"])
        if create and not self._per_node():
            return self._create_shared(now=now)
        if stored:
            text = f"{self._public}: logins for the subject {stored.get('subject')!r}, not {self._subject!r}"
            raise ConfigError(text, hint=_other_subject(stored.get("subject")))
        options = f"--data {shlex.quote(str(self._folder))}"
        options += f" --subject {shlex.quote(self._subject)}" if self._subject != DEFAULT_SUBJECT else ""
        hint = f"create one for each node: remaphore broker {options} --creds NODE"
        hint += f"; on a further server of a cluster, copy {self._public.name} of the first one into this directory"
        raise ConfigError(f"{self._folder}: no logins, so no node could connect", hint=hint)

    def add(self, names: Sequence[str], *, now: int) -> list[Path]:
        """Create a credentials file for each of *names* that has none; return those that are new. Raise ConfigError."""
        for name in names:
            if not _NAME.fullmatch(name) or len(os.fsencode(name)) > MAX_NAME_BYTES:
                hint = "use letters, digits, dots, hyphens and underscores, such as web1 or com.example.web1"
                raise ConfigError(f"not a name for a login: {name!r}", hint=hint)
        with self._locked(now=now) as keys:
            os.close(files.open_private(self.directory))
            new = {name: NatsKey("user") for name in names if not self.file(name).exists()}
            for name, key in new.items():
                keys.users.setdefault(name, []).append(key.public)
            storage.write(self._signing_keys, json.dumps(asdict(keys)))  # first: what exists can be revoked
            account = NatsKey("account", seed=keys.account)
            renewed = not self.administrator.exists()
            if renewed:
                self._renew_administrator(keys, account, now=now)
            if renewed or not self._public.exists():
                self._store(keys, now=now)
            for name, key in new.items():
                storage.write(self.file(name), self._credentials(key, name=name, account=account, now=now))
        return [self.file(name) for name in new]

    def _renew_administrator(self, keys: _SigningKeys, account: NatsKey, *, now: int) -> None:
        """Write another login of the administrator, and make the one before void."""
        if keys.administrator:
            keys.revoked[keys.administrator] = now
        key = NatsKey("user")
        keys.administrator = key.public
        storage.write(self._signing_keys, json.dumps(asdict(keys)))
        storage.write(self.administrator, self._administrator_credentials(key, account=account, now=now))

    def revoke(self, names: Sequence[str], *, now: int) -> None:
        """Make all logins of *names* void, and delete their files. Raise ConfigError if one is not known."""
        with self._locked(now=now) as keys:
            for name in names:
                if name not in keys.users:
                    hint = f"names are those of {self.directory}/NAME.creds; known: {', '.join(keys.users) or 'none'}"
                    raise ConfigError(f"no login with the name {name!r}", hint=hint)
            for name in dict.fromkeys(names):
                keys.revoked.update(dict.fromkeys(keys.users.pop(name), now))
            storage.write(self._signing_keys, json.dumps(asdict(keys)))
            self._store(keys, now=now)
            for name in names:
                self.file(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self, *, now: int) -> Iterator[_SigningKeys]:
        """Hold the lock of the directory; return the signing keys, which are new if there are no logins yet."""
        storage.prepare(self._folder)
        with files.locked(self._folder), storage.reporting(self._folder):
            yield self._read_keys(now=now)

    def _per_node(self) -> bool:
        return self._signing_keys.exists() or bool(self._read_public(lenient=True).get("per_node"))

    def _read_public(self, *, lenient: bool) -> Mapping[str, object]:
        """Return the contents of login.json, empty if it is missing; lenient: also if it is damaged."""
        try:
            stored = json.loads(self._public.read_text(encoding="utf-8"))
            if isinstance(stored["server"], str):
                _check_version(self._public, stored)
                return dict(stored)
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            pass
        if lenient:
            return {}
        raise ConfigError(f"{self._public}: not the logins of a broker", hint=_RESTORE)

    def _read_keys(self, *, now: int) -> _SigningKeys:
        try:
            stored = json.loads(self._signing_keys.read_text(encoding="utf-8"))
            if isinstance(stored, dict) and {"operator", "account"} <= stored.keys():
                _check_version(self._signing_keys, stored)
            keys = _SigningKeys(**stored)
            NatsKey("operator", seed=keys.operator)
            NatsKey("account", seed=keys.account)
        except FileNotFoundError:
            if self._public.exists():
                hint = f"use the directory in which the others were made, or begin with a new one: {self._folder}/NEW"
                text = f"{self._folder}: its logins were made without keeping the signing keys, so none can be added"
                raise ConfigError(f"{text} or revoked", hint=hint) from None
            seeds = NatsKey("operator").seed, NatsKey("account").seed
            return _SigningKeys(self._subject, now, *seeds, NatsKey("account").public)
        except (ValueError, TypeError, AttributeError, KeyFormatError):
            raise ConfigError(f"{self._signing_keys}: not the signing keys of a broker", hint=_RESTORE) from None
        if keys.subject != self._subject:
            text = f"{self._signing_keys}: for the subject {keys.subject!r}, not {self._subject!r}"
            raise ConfigError(text, hint=_other_subject(keys.subject))
        return keys

    def _store(self, keys: _SigningKeys, *, now: int) -> None:
        """Write login.json. now: the time of the account's JWT."""
        operator, account = NatsKey("operator", seed=keys.operator), NatsKey("account", seed=keys.account)
        server = _server_config(operator, account, keys.system, created=keys.created, now=now, revoked=keys.revoked)
        stored = {"version": VERSION, "subject": self._subject, "server": server, "per_node": True}
        storage.write(self._public, json.dumps(stored))

    def _create_shared(self, *, now: int) -> str:
        operator, account, user = NatsKey("operator"), NatsKey("account"), NatsKey("user")
        system = NatsKey("account").public
        server = _server_config(operator, account, system, created=now, now=now, revoked={})
        self._public.unlink(missing_ok=True)  # first, so that an interruption leaves no pair that does not match
        storage.write(self.shared, self._credentials(user, name=_ORGANIZATION, account=account, now=now))
        administrator = self._administrator_credentials(NatsKey("user"), account=account, now=now)
        storage.write(self.administrator, administrator)
        storage.write(self._public, json.dumps({"version": VERSION, "subject": self._subject, "server": server}))
        return server

    def _credentials(self, key: NatsKey, *, name: str, account: NatsKey, now: int) -> str:
        token = jwt.user(
            key,
            name=name,
            by=account,
            now=now,
            publish=[self._mine, *streams.reads(self._subject)],
            publish_denied=streams.denied(self._subject),
            subscribe=[self._mine],
        )
        return credentials.form(token, key.seed)

    def _administrator_credentials(self, key: NatsKey, *, account: NatsKey, now: int) -> str:
        responses = f"{subjects.for_inboxes(self._subject)}.>"
        token = jwt.user(key, name=_ADMINISTRATOR, by=account, now=now, publish=["$JS.API.>"], subscribe=[responses])
        return credentials.form(token, key.seed)


def _other_subject(stored: object) -> str:
    return f"add --subject {shlex.quote(str(stored))}, or name another directory"


def _check_version(path: Path, stored: Mapping[str, object]) -> None:
    """Raise ConfigError for logins of another version, which this one cannot use."""
    version = stored.get("version", 1)
    if version != VERSION:
        text = f"{path}: logins of version {version}, this remaphore needs version {VERSION}, with a system account"
        hint = "name another directory with --data, and give all nodes the new credentials"
        raise ConfigError(text, hint=hint)


def _server_config(
    operator: NatsKey, account: NatsKey, system: str, *, created: int, now: int, revoked: Mapping[str, int]
) -> str:
    """Return the server's part of the logins. system: the public key of the system account."""
    accounts = {
        account.public: jwt.account(
            account.public, name=_ORGANIZATION, by=operator, now=now, jetstream=True, revoked=revoked
        ),
        system: jwt.account(system, name=_SYSTEM, by=operator, now=created),
    }
    operator_jwt = jwt.operator(operator, name=_ORGANIZATION, now=created, system_account=system)
    return jwt.server_config(operator_jwt=operator_jwt, accounts=accounts)
