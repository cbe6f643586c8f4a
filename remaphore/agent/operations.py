"""What the agent does for a client that the rules permit: send, request, receive, and whoami, by the `Node`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any

from remaphore.agent import frames
from remaphore.agent.feeds import Feeds
from remaphore.agent.head import Head
from remaphore.agent.receiving import Receiving
from remaphore.agent.rules import Rules, Wish
from remaphore.agent.session import End, Session
from remaphore.config import render
from remaphore.config.settings import AgentRule
from remaphore.node import Node
from remaphore.protocol.containment import contains
from remaphore.protocol.drop import Drop
from remaphore.protocol.match import ALL
from remaphore.protocol.message import Message
from remaphore.protocol.peers import ANY_VERB, addressed
from remaphore.protocol.receipt import Receipt
from remaphore.receiving.receipts import ReceiptSender


class Operations:
    """The operations of one node. *rules* is replaced when the configuration is read again."""

    def __init__(self, node: Node, rules: Rules, feeds: Feeds, receipts: ReceiptSender) -> None:
        self.node = node
        self.rules = rules
        self._feeds = feeds
        self._receipts = receipts
        self._release = version("remaphore")

    def start(self, session: Session, head: Head) -> Coroutine[Any, Any, End]:
        """Return the operation that *head* asks for, not begun. Raise RefusedError if no rule permits it."""
        if head.operation == frames.WHOAMI:
            return self._whoami(session)
        if head.operation == frames.RECEIVE:
            self._permit_receive(session, head)
            session.recheck = lambda: self._permit_receive(session, head)
            return Receiving(self.node, self._feeds, self._receipts, session, head).run()
        wish = Wish(operation=head.operation, verb=head.verb, to=head.to, payload=session.payload, key=head.key)
        permission = self.rules.permit(session.caller, wish)
        session.rule = permission.rule
        key = head.key or permission.identity
        return self._send(session, head, key) if head.operation == frames.SEND else self._request(session, head, key)

    def _permit_receive(self, session: Session, head: Head) -> None:
        to = ALL if head.any_destination else head.pattern
        for verb in head.verbs or (ANY_VERB,):
            wish = Wish(operation=frames.RECEIVE, verb=verb, to=to)
            session.rule = self.rules.permit(session.caller, wish).rule

    async def _send(self, session: Session, head: Head, key: str) -> End:
        message = await self.node.send(
            head.verb,
            to=head.to,
            payload=session.payload,
            id=head.id,
            key=key,
            subject_name=head.subject,
            timeout=head.timeout,
        )
        session.digest = message.digest.hex()
        return End(0, _identify(message))

    async def _request(self, session: Session, head: Head, key: str) -> End:
        dropped: Counter[str] = Counter()

        def on_drop(drop: Drop) -> None:
            dropped[str(drop.reason)] += drop.count

        received = 0
        async with self.node.request(
            head.verb,
            to=head.to,
            payload=session.payload,
            id=head.id,
            key=key,
            subject_name=head.subject,
            timeout=head.timeout,
            receipts=head.receipts,
            on_drop=on_drop,
        ) as request:
            session.digest = request.message.digest.hex()
            asked = {**_identify(request.message), "expected": request.expected}
            session.require(frames.encode_json(frames.ASKED, asked), sent="the request was sent")
            async for event in request.events():
                sent = f"{received} of {len(request.expected)} replies were passed on"
                if isinstance(event, Receipt):
                    session.require(frames.encode_receipt(event), sent=sent)
                else:
                    session.send_reply(event, sent=sent)
                    received += 1
        summary = request.summary()
        about = {"missing": summary.missing, "failed": summary.failed, "rejected": summary.rejected}
        without_success = not set(summary.answered) - set(summary.rejected)  # as the Go program: `remaphore -r`
        return End(
            int(without_success), {"digest": session.digest, **about, **({"dropped": dropped} if dropped else {})}
        )

    async def _whoami(self, session: Session) -> End:
        caller, config = session.caller, self.node.config
        rules = list(self.rules.naming(caller))
        patterns = [pattern for rule in rules for pattern in rule.to]
        peers = [
            [peer.destination, peer.key]
            for peer in addressed(config.peers, ALL)
            if any(contains(pattern, peer.destination) for pattern in patterns)
        ]
        about = {
            "uid": caller.uid,
            "gid": caller.gid,
            "groups": sorted(caller.groups),
            "rules": [describe_rule(rule) for rule in rules],
            "connected": self.node.bus.connected,
            "version": frames.VERSION,
            "release": self._release,
            "destination": config.destination,
            "subject": config.subject,
            "peers": peers,
        }
        return End(0, about)


def describe_rule(rule: AgentRule) -> dict[str, object]:
    """Return *rule* for the caller that it names."""
    return {"rule": rule.path, **render.agent_rule(rule)}


def _identify(message: Message) -> dict[str, object]:
    """Return what identifies a message that was sent."""
    return {
        "digest": message.digest.hex(),
        "sender": message.sender,
        "id": message.uuid.hex(),
        "time_ns": message.time_ns,
    }
