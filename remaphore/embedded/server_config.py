"""The configuration of nats-server, from the settings of a broker and its logins.

JetStream is for the streams of coordination. The logins of nodes cannot make one: a stream on the subject of messages
would answer every request in place of a receiver. No port that was not asked for, such as that of the monitoring.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

from remaphore.embedded.addresses import FREE_PORT, Address
from remaphore.embedded.certificates import TlsFiles
from remaphore.errors import UsageError

# Of all servers of a cluster. Whoever may join is decided by certificates, not by this name.
CLUSTER_NAME = "remaphore"
LOG_BYTES = 16 * 1024 * 1024  # of nats-server.log: strangers can make a server log, with each connection
LOG_FILES = 2  # the current one, and the one before
# Of JetStream. Streams of coordination need 80 MiB of files.
MAX_FILE_STORE = 1024 * 1024 * 1024
MAX_MEMORY_STORE = 64 * 1024 * 1024
_PACKAGED_STORE = Path("/var/lib/nats")  # of a nats-server that is installed from a package
_ANY_PORT = -1  # a free port, for nats-server
_TLS_SECONDS = 5  # for a handshake; the 2 seconds of nats-server are short for a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where this server listens for the others of its cluster, and where each of them listens."""

    listen: Address
    routes: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a broker. clear_text: other addresses than loopback are permitted without TLS."""

    listen: Address = field(default=Address(port=FREE_PORT))
    tls: TlsFiles | None = None
    cluster: Cluster | None = None
    clear_text: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for what would be open to the network."""
        if self.tls is None and not self.listen.is_loopback and not self.clear_text:
            text = f"{self.listen} is not loopback: without TLS, the network can read and change what nodes send"
            raise UsageError(text, hint="add --tls-cert FILE and --tls-key FILE; or --no-tls, if a VPN protects it")
        if self.cluster is not None and (self.tls is None or self.tls.ca is None):
            hint = "add --tls-cert FILE, --tls-key FILE, and --tls-ca FILE with the CA of all servers"
            raise UsageError("a cluster needs certificates, or any machine could join it", hint=hint)

    def at(self, port: int) -> Settings:
        """Return these settings with the *port* that the server has chosen, to keep it in a reload."""
        return replace(self, listen=self.listen._replace(port=port))


def render(settings: Settings, login: str, *, folder: Path | None = None) -> str:
    """Return the text of nats-server.conf. login: the server's part of the logins.

    folder: for the log, the streams, and the file with the ports that the server has chosen; without it, log and file
    are left out, and the streams are where packages of nats-server have them.
    """
    parts = [f"listen: {quote(_endpoint(settings.listen))}\n"]
    # A confirmed record must outlive a power failure: with the default, two minutes of them would be lost, and their
    # sequence numbers, which are fencing tokens, given again (nats-server issue 7564).
    parts.append(
        f"jetstream {{\n  store_dir: {quote(str(folder or _PACKAGED_STORE))}\n  sync_interval: always\n"
        f"  max_file_store: {MAX_FILE_STORE}\n  max_memory_store: {MAX_MEMORY_STORE}\n}}\n"
    )
    if folder is not None:
        log = quote(str(folder / "nats-server.log"))
        parts.append(f"ports_file_dir: {quote(str(folder))}\n")
        parts.append(f"log_file: {log}\nlogfile_size_limit: {LOG_BYTES}\nlogfile_max_num: {LOG_FILES}\n")
    if settings.tls is not None:
        parts.append(f"tls {{\n{_certificate(settings.tls)}}}\n")
    if settings.cluster is not None and settings.tls is not None:
        # JetStream needs a name that no other server of the cluster has, and that stays the same.
        parts.append(f"server_name: {quote(f'{socket.gethostname()}-{settings.cluster.listen.port}')}\n")
        routes = "".join(f"    {quote(f'tls://{route}')}\n" for route in settings.cluster.routes)
        parts.append(
            f"cluster {{\n  name: {CLUSTER_NAME}\n  listen: {quote(_endpoint(settings.cluster.listen))}\n"
            # The addresses that a server would announce are not names in its certificate: nodes have a list.
            "  no_advertise: true\n"
            f"  routes: [\n{routes}  ]\n"
            f"  tls {{\n{_certificate(settings.tls)}"
            # A server must show a certificate of this CA with the name of one of the routes, not of this CA alone:
            # other machines of the site may have one.
            f"  ca_file: {quote(str(settings.tls.ca))}\n  verify_cert_and_check_known_urls: true\n  }}\n}}\n"
        )
    return "".join((*parts, login))


def quote(text: str) -> str:
    """Return *text* as a string of nats-server's format: JSON's, but with characters in place of their numbers."""
    return json.dumps(text, ensure_ascii=False)


def _endpoint(address: Address) -> str:
    return str(address._replace(port=_ANY_PORT) if address.port == FREE_PORT else address)


def _certificate(tls: TlsFiles) -> str:
    files = f"  cert_file: {quote(str(tls.cert))}\n  key_file: {quote(str(tls.key))}\n"
    return f"{files}  timeout: {_TLS_SECONDS}\n"
