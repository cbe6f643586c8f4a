"""A bus within one process, for tests of plugins and of the daemon. It keeps the same contract as the NATS one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from remaphore.errors import ConnectionLostError, NoRespondersError, PayloadTooLargeError
from remaphore.transport.bus import Callback, Deliver, DeliverBatch, Hear, Incoming, is_first

MAX_PAYLOAD = 1024 * 1024  # the default of nats-server


class MemoryBroker:
    """Connects the buses of one test. *published* contains everything that was published, in order."""

    def __init__(self, *, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self.published: list[tuple[str, bytes]] = []
        self.subscribers: defaultdict[str, list[tuple[MemoryBus, Deliver]]] = defaultdict(list)

    def connect(self) -> MemoryBus:
        """Return a new connection."""
        return MemoryBus(self)


class MemoryBus:
    """One connection to a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._closed = False
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        """Whether it is open."""
        return not self._closed

    @property
    def about(self) -> Mapping[str, str]:
        """Nothing: there is no server."""
        return {}

    @property
    def max_payload(self) -> int:
        """The largest size of one message in bytes."""
        return self._broker.max_payload

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:  # noqa: ARG002 - it is always connected
        """Deliver *data* to all subscribers; an exception of one is reported to the loop, not to the sender."""
        self._check_open()
        if len(data) > self.max_payload:
            text = f"message of {len(data)} bytes for {subject}: the broker accepts at most {self.max_payload}"
            raise PayloadTooLargeError(text, hint="send less, or raise max_payload of the broker")
        self._broker.published.append((subject, data))
        for _, deliver in tuple(self._broker.subscribers[subject]):
            try:
                deliver(data)
            except Exception as error:  # noqa: BLE001 - the receiver's error is not the sender's
                context = {"message": f"delivery of a message on {subject} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    async def subscribe(self, subject: str, deliver: Deliver, *, optional: bool = False) -> None:  # noqa: ARG002 - it permits all
        """Call *deliver* with every message on *subject* from now on."""
        self._check_open()
        self._broker.subscribers[subject].append((self, deliver))

    async def subscribe_batches(self, subject: str, deliver: DeliverBatch) -> None:
        """Call *deliver* with every message on *subject* from now on, each of which arrives alone."""
        await self.subscribe(subject, lambda data: deliver(iter((data,))))

    async def listen(self, subject: str, hear: Hear, *, on_gap: Callback = lambda: None) -> Callback:  # noqa: ARG002 - nothing is lost here
        """Call *hear* with every message on *subject* from now on; return the function that ends that."""
        self._check_open()
        entry: tuple[MemoryBus, Deliver] = (self, lambda data: hear(Incoming(subject, 0, {}, data)))
        listeners = self._broker.subscribers[subject]
        listeners.append(entry)
        return lambda: listeners.remove(entry) if entry in listeners else None

    async def unsubscribe(self, subject: str) -> None:
        """Stop receiving on *subject*."""
        others = [entry for entry in self._broker.subscribers[subject] if entry[0] is not self]
        self._broker.subscribers[subject] = others

    async def request(
        self,
        subject: str,
        data: bytes,  # noqa: ARG002 - nothing answers here
        *,
        inbox: str,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
        headers: Mapping[str, str] | None = None,  # noqa: ARG002
        complete: Callable[[Sequence[Incoming]], bool] = is_first,  # noqa: ARG002
    ) -> list[Incoming]:
        """Raise NoRespondersError: there is no JetStream in memory."""
        self._check_open()
        raise NoRespondersError(f"no responders on {subject}", hint="use a real broker: remaphore broker")

    async def close(self) -> None:
        """End the connection."""
        for subject in tuple(self._broker.subscribers):
            await self.unsubscribe(subject)
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionLostError("connection to the broker is closed", hint="use it before close()")
