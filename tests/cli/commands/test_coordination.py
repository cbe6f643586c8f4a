"""`coordination init` on a real broker: by its administrator alone, and what it prints is what nodes need."""

import asyncio
import json
import time

import pytest

from remaphore.coordination.jetstream import JetStream
from remaphore.embedded.logins import Logins
from tests.harness.nats_server import NatsServer, connected, credentials
from tests.harness.node_files import credentials_line, write_toml
from tests.harness.processes import Process


class Site:
    """A broker with JetStream, the login of its administrator, and the configuration of a node."""

    def __init__(self, folder):
        self.logins = Logins(folder / "broker", subject="remaphore")
        (self.node,) = self.logins.add(["node"], now=int(time.time()))
        config = self.logins.server_config(now=int(time.time()), create=False)
        self.server = NatsServer(folder, f'jetstream {{ store_dir: "{folder}/data" }}\n{config}')
        asyncio.run(self.server.start())
        self.config = write_toml(
            folder / "node.toml",
            1,
            "com.one",
            servers=[self.server.url],
            login=credentials_line(self.node),
            verbs=["ping", "lock:deploy"],
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.server.kill()


def test_only_an_administrator_makes_the_streams_and_once(site, run):
    code, out, said = run(["coordination", "init", "-c", str(site.config)])
    assert (code, out) == (3, "")
    assert "error: no permission for publish to $JS.API.STREAM.CREATE.remaphore-coord" in said
    assert "hint: use the login of an administrator: --credentials FILE" in said
    words = ["init", "--credentials", str(site.logins.administrator)]
    expected = {(): "made", ("--replicas", "1"): "unchanged", ("--recreate",): "made again"}
    for more, done in expected.items():
        code, out, said = run(["coordination", "-c", str(site.config), *words, *more])
        assert (code, out) == (0, "")
        assert said == "".join(f"remaphore: remaphore-{name}: {done}, replicas 1\n" for name in ("coord", "queue"))
    code, _, said = run(["coordination", *words, "--replicas", "3", "-c", str(site.config)])
    assert (code, "too few servers for 3 replicas" in said) == (3, True)


def test_what_is_printed_is_made_nowhere_and_names_the_locks_of_the_node(site, run):
    code, out, said = run(["coordination", "init", "--print", "--replicas", "3", "-c", str(site.config)])
    printed = json.loads(out)
    assert (code, said) == (0, "")
    assert [stream["num_replicas"] for stream in printed["streams"]] == [3, 3]
    assert "remaphore.coord.lock.deploy.*" in printed["permissions"]["publish"]["allow"]
    assert not any(
        subject.startswith("remaphore.coord.lock.*") for subject in printed["permissions"]["publish"]["allow"]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--replicas", "6"], "more than 5"),
        (["--replicas", "0"], "not a positive integer"),
        (["--print", "--recreate"], "contradicts --print"),
        (["--credentials", ""], "its value is empty"),
    ],
)
def test_options_that_cannot_be_meant_are_usage_errors(words, message, run):
    code, _, said = run(["coordination", "init", *words])
    assert (code, message in said, "hint: " in said) == (2, True, True)


def test_credentials_that_do_not_exist_are_an_error(site, run):
    code, _, said = run(["coordination", "init", "--credentials", "none.creds", "-c", str(site.config)])
    assert (code, "none.creds" in said) == (3, True)


async def test_a_broker_for_this_machine_makes_the_streams_itself(tmp_path):
    for _ in range(2):
        broker = Process(["broker", "--data", tmp_path / "d", "--port", "0"])
        try:
            url = broker.popen.stdout.readline().split()[1]
            assert broker.popen.stdout.readline().startswith("credentials: ")
            async with connected(url, auth=credentials(tmp_path / "d" / "remaphore.creds")) as bus:
                jetstream = JetStream(bus, "remaphore")
                await jetstream.check()
            assert broker.stop() == (0, "")
        finally:
            broker.end()
        assert broker.lines == []
