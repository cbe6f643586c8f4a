"""`send` ends within its time and reports the fate of the message, whatever the broker does meanwhile."""

from dataclasses import replace

import pytest

from remaphore.cli.commands.send import Send, send
from remaphore.cli.route import Route
from remaphore.errors import BrokerUnavailableError, ConnectionLostError
from remaphore.node import Node
from remaphore.transport import nats_client
from tests.harness.nodes import make_config
from tests.harness.waiting import until


@pytest.fixture
def between(monkeypatch):
    """Return a list for a coroutine function that is called with the node between connecting and sending."""
    actions = []
    send_now = Node.send

    async def act_and_send(node, *arguments, **options):
        await actions.pop()(node)
        return await send_now(node, *arguments, **options)

    monkeypatch.setattr(Node, "send", act_and_send)
    return actions


def send_one(server, seconds):
    return send(Send(timeout=seconds), Route(replace(make_config(), servers=(server.url,))), "hello", ("**",))


async def test_a_broker_that_is_killed_before_the_message_is_sent_is_waited_for_until_the_limit(server, between):
    async def kill(node):
        server.kill()
        await until(lambda: not node.bus.connected)

    between.append(kill)
    with pytest.raises(BrokerUnavailableError, match=rf"message not sent: {server.url}: "):
        await send_one(server, 3.0)  # long enough to connect on a busy machine


async def test_a_broker_that_is_back_before_the_limit_gets_the_message(server, between):
    async def restart(node):
        await server.restart()
        await until(lambda: node.bus.reconnects)

    between.append(restart)
    await send_one(server, None)


async def test_a_broker_that_stops_before_it_confirms_leaves_the_outcome_open(server, between, monkeypatch):
    async def pause(_node):
        monkeypatch.setattr(nats_client, "CONFIRM_TIMEOUT", 0.2)
        await server.pause()

    between.append(pause)
    with pytest.raises(ConnectionLostError, match=r"did not confirm in time\): it may or may not have been delivered"):
        await send_one(server, None)
