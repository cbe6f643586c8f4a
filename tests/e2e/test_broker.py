"""The broker of a site: TLS, a cluster that no stranger joins, failover, and what happens when its server ends."""

import errno
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from remaphore.config.settings import Auth, Tls
from remaphore.embedded.broker import find_server
from remaphore.errors import BrokerRefusedError
from tests.harness.certificates import Authority
from tests.harness.fleet import Fleet
from tests.harness.nats_server import connected, running
from tests.harness.ports import free_port
from tests.harness.processes import Process, children
from tests.harness.seccomp import denying
from tests.harness.waiting import until

pytestmark = pytest.mark.xdist_group("broker")

NODES = ("one", "two", "three")


class BrokerSite:
    """Brokers of one site, a directory each with the same logins, and certificates of one CA."""

    def __init__(self, folder):
        self.fleet = Fleet(folder)
        self.folder = folder
        self.authority = Authority(folder)
        self.tls = self.authority.issue("localhost", "DNS:localhost")
        done = self.fleet.run("broker", "--data", folder / "a", *(word for name in NODES for word in ("--creds", name)))
        assert done.stdout == "".join(f"credentials: {folder}/a/creds/{name}.creds\n" for name in NODES)

    def creds(self, name):
        return Auth(kind="credentials", file=self.folder / "a" / "creds" / f"{name}.creds")

    def trusting(self, authority=None):
        return Tls(ca_file=(authority or self.authority).file)

    def options(self, name, *, tls=None, port=0, route_port=None, routes=()):
        """Return the arguments of a broker whose directory is *name*."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(mode=0o700)
            (folder / "login.json").write_text((self.folder / "a" / "login.json").read_text())
        tls = tls or self.tls
        words = ["--data", folder, "--listen", f"localhost:{port}", "--tls-cert", tls.cert, "--tls-key", tls.key]
        for other in routes:
            words += ["--route", f"localhost:{other}"]
        return words + (["--tls-ca", tls.ca, "--cluster-listen", f"127.0.0.1:{route_port}"] if routes else [])

    @contextmanager
    def broker(self, name, *, env=None, **options):
        """A running broker, with its `url`, for the length of a block."""
        process = self.fleet.start("broker", *self.options(name, **options), ready=None, env=env)
        try:
            process.url = process.popen.stdout.readline().partition(": ")[2].strip()
            assert process.url.startswith("tls://localhost:"), process.lines
            assert process.popen.stdout.readline() == f"credentials: {self.folder}/{name}/creds\n"
            yield process
        finally:
            process.end()

    def connected(self, broker):
        """A connection with the login of node one."""
        return connected(broker.url, auth=self.creds("one"), tls=self.trusting())

    def log(self, name):
        return (self.folder / name / "nats-server.log").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return BrokerSite(tmp_path_factory.mktemp("site"))


@pytest.fixture
def node(site, tmp_path):
    """Return a function that writes the configuration of a node, which uses the brokers *urls*."""
    fleet = Fleet(tmp_path)

    def write(name, *urls):
        table = f'[tls]\nca_file = "{site.authority.file}"\n'
        path = fleet.config(name, server="SERVERS", credentials=site.creds(name).file, extra=table)
        path.write_text(path.read_text().replace('"SERVERS"', ", ".join(f'"{url}"' for url in urls)))
        return path

    return write


def test_nodes_on_different_servers_reach_each_other_and_continue_when_one_ends(site, node, tmp_path):
    ports, routes = [free_port(), free_port()], [free_port(), free_port()]
    urls = [f"tls://localhost:{port}" for port in ports]
    each = [{"port": ports[n], "route_port": routes[n], "routes": (routes[1 - n],)} for n in (0, 1)]
    with ExitStack() as stack:
        first = stack.enter_context(site.broker("a", **each[0]))
        # It finds only the first: the second is not running yet.
        receiver = site.fleet.start("receive", "-c", node("one", *urls), site.fleet.script("echo here"))
        stack.callback(receiver.end)
        stack.enter_context(site.broker("b", **each[1]))

        def ask():
            words = ("request", "-c", node("two", urls[1]), "--to", "com.example.one", "--timeout", "1s")
            return site.fleet.run(*words).stdout

        wait_for(lambda: ask() == "com.example.one,0,here\n")
        os.kill(server_of(first), signal.SIGKILL)
        assert first.finish()[0] == 3
        first.wait_for("error: nats-server has ended (signal 9)")
        wait_for(lambda: ask() == "com.example.one,0,here\n")


async def test_a_node_without_the_ca_of_the_site_does_not_connect(site, tmp_path):
    other = Authority(tmp_path, name="other")
    with site.broker("a") as broker:
        for tls in (site.trusting(other), None):  # another CA, and those of the system
            with pytest.raises(BrokerRefusedError, match="certificate rejected"):
                async with connected(broker.url, auth=site.creds("one"), tls=tls):
                    pass
        async with site.connected(broker) as bus:
            await bus.publish("remaphore.all", b"x")


async def test_a_node_without_a_login_or_without_tls_does_not_connect(site):
    with site.broker("a") as broker:
        with pytest.raises(BrokerRefusedError, match="Authorization"):
            async with connected(broker.url, tls=site.trusting()):
                pass
        with socket.create_connection(("127.0.0.1", int(broker.url.rpartition(":")[2])), timeout=30) as clear:
            clear.sendall(b'CONNECT {"verbose":true}\r\nPING\r\n')
            answer = news = clear.recv(65536)
            with suppress(ConnectionError):
                while news:
                    answer += (news := clear.recv(65536))
            assert answer.startswith(b"INFO ")
            assert not re.search(rb"(?m)^(\+OK|PONG)", answer)


@pytest.mark.parametrize("kind", ["another name", "another CA", "no certificate", "a server of ours"])
async def test_a_stranger_does_not_join_the_cluster(kind, site, tmp_path):
    """Even if it has the logins of the cluster, and a certificate of the same CA, for another name."""
    tls = site.tls
    if kind == "another name":
        tls = site.authority.issue("stranger", "DNS:stranger.example.com")
    elif kind == "another CA":
        tls = Authority(tmp_path).issue("stranger", "DNS:localhost")
    route, its_route = free_port(), free_port()
    login = json.loads((site.folder / "a" / "login.json").read_text())["server"]
    files = f'cert_file: "{tls.cert}", key_file: "{tls.key}", ca_file: "{site.authority.file}"'
    its_tls = "" if kind == "no certificate" else f"tls {{ {files}, verify: false }}"
    config = f'cluster {{ name: remaphore, listen: "127.0.0.1:{its_route}", {its_tls}\n'
    config += f'routes: ["nats://localhost:{route}"] }}\n{login}'
    heard = []
    with site.broker("a", route_port=route, routes=(its_route,)) as broker:
        async with (
            running(tmp_path / "stranger", config) as stranger,
            site.connected(broker) as ours,
            connected(stranger, auth=site.creds("two")) as theirs,
        ):
            await theirs.subscribe("remaphore.all", heard.append)
            if kind != "a server of ours":
                rejected = re.compile("authentication error|TLS route handshake error|Client Closed|first line")
                await until(lambda: len(rejected.findall(site.log("a"))) >= 2)
            deadline = time.monotonic() + (30 if kind == "a server of ours" else 0)
            while True:
                await ours.publish("remaphore.all", b"x")
                await theirs.publish("remaphore.none", b"x")  # what was on its way before has arrived
                if heard or time.monotonic() > deadline:
                    break
    assert bool(heard) is (kind == "a server of ours")


async def test_a_renewed_certificate_and_a_new_login_are_read_at_a_reload(site, tmp_path):
    files = site.authority.issue("renewed", "DNS:localhost")
    with notifications(tmp_path) as (environ, received), site.broker("a", tls=files, env=environ) as broker:
        assert received()[0].startswith("READY=1\nSTATUS=listening as tls://localhost:")
        before = certificate(broker, site)
        async with site.connected(broker) as bus:
            key = files.key.read_text()
            files.key.write_text(site.tls.key.read_text())
            broker.popen.send_signal(signal.SIGHUP)
            assert "not the private key of" in broker.wait_for("error: not reloaded: ")
            assert certificate(broker, site) == before
            files.key.write_text(key)
            site.authority.issue("renewed", "DNS:localhost", serial=2, days=13)
            broker.popen.send_signal(signal.SIGHUP)
            broker.wait_for("remaphore: reloaded")
            assert f"{files.cert}: certificate expires at " in broker.wait_for("remaphore: warning: ")
            assert certificate(broker, site) != before
            await bus.publish("remaphore.all", b"x")
            assert bus.reconnects == 0
        assert broker.stop() == (0, "")
        assert [text.partition("\n")[0] for text in received()] == ["RELOADING=1", "READY=1"] * 2 + ["STOPPING=1"]


async def test_a_server_of_ones_own_accepts_the_printed_configuration(site, tmp_path):
    words = [str(word) for word in site.options("a", port=free_port())]
    done = site.fleet.run("broker", *words, "--print-config")
    (tmp_path / "nats-server.conf").write_text(done.stdout.replace('"/var/lib/nats"', f'"{tmp_path}"'))
    server = Process(["-c", tmp_path / "nats-server.conf"], command=[find_server()])
    try:
        server.wait_for("Server is ready")
        url = f"tls://{words[words.index('--listen') + 1]}"
        async with connected(url, auth=site.creds("one"), tls=site.trusting()) as bus:
            await bus.publish("remaphore.all", b"x")
    finally:
        server.end()


def test_a_broker_that_is_killed_leaves_no_server(site):
    with site.broker("a") as broker:
        server = server_of(broker)
        broker.popen.kill()
        wait_for(lambda: not Path(f"/proc/{server}").exists() or time.sleep(0.05), attempts=600)


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])
def test_a_broker_listens_on_all_addresses_where_it_may_not_list_them(address, site):
    """As in its unit: RestrictAddressFamilies does not include AF_NETLINK."""
    tls = ("--tls-cert", site.tls.cert, "--tls-key", site.tls.key)
    words = ("broker", "--data", site.folder / "a", "--listen", f"{address}:{free_port()}", *tls)
    command = [*denying(errno.EAFNOSUPPORT, f"socket:{socket.AF_NETLINK}"), sys.executable, "-m", "remaphore"]
    broker = Process(words, command=command)
    try:
        assert broker.popen.stdout.readline() == f"server: tls://localhost:{words[4].rpartition(':')[2]}\n"
    finally:
        broker.end()


def certificate(broker, site):
    """Return the certificate that *broker* shows."""
    context = ssl.create_default_context(cafile=site.authority.file)
    with socket.create_connection(("127.0.0.1", int(broker.url.rpartition(":")[2])), timeout=30) as clear:
        assert clear.recv(65536).startswith(b"INFO ")
        with context.wrap_socket(clear, server_hostname="localhost") as secure:
            return secure.getpeercert(binary_form=True)


@contextmanager
def notifications(folder):
    """A service manager: the environment for its service, and a function that returns what the service has sent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(30)

        def received():
            found = [manager.recv(4096).decode()]
            while found[-1].partition("\n")[0] not in ("READY=1" if len(found) == 1 else "", "STOPPING=1"):
                found.append(manager.recv(4096).decode())
            return found

        yield {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}, received


def wait_for(condition, attempts=20):
    """Return as soon as *condition* holds, which takes its own time."""
    assert any(condition() for _ in range(attempts))


def server_of(process):
    """Return the pid of the nats-server that a broker has started."""
    (pid,) = children(process.popen.pid)
    return pid
