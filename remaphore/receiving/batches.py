"""Messages that wait for the verification of their signature, and the batches in which they are verified."""

from __future__ import annotations

from typing import NamedTuple, Self

from remaphore.protocol import wire
from remaphore.protocol.drop import Drop
from remaphore.protocol.gate import Gate

# A batch is worth its way to a process and back, and is verified within 4 ms; with 256, throughput was a tenth less.
BATCH_MESSAGES = 64
BATCH_BYTES = 1024 * 1024
_NONE_VALID = [bytes(number) for number in range(BATCH_MESSAGES + 1)]


class Arrival(NamedTuple):
    """A message that has arrived: the gate that judges it, its fields, and its time of arrival (Unix nanoseconds).

    digest: of the whole message, if it passed `precheck`. drop: why the gate drops it, if its signature is verified for
    a rejection only.
    """

    gate: Gate
    frame: wire.Frame
    now: int
    digest: bytes = b""
    drop: Drop | None = None

    @classmethod
    def passed(cls, gate: Gate, passed: tuple[wire.Frame, bytes], now: int) -> Self:
        """Return the arrival of a message that has *passed* the prechecks: its fields and its digest."""
        return tuple.__new__(cls, (gate, passed[0], now, passed[1], None))  # `Arrival(...)` takes twice as long


class SignatureBatch:
    """Arrivals that are verified together. results: 1 for each valid signature, else 0; None until they are known."""

    __slots__ = ("arrivals", "full", "results", "size")

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.size = 0  # in bytes
        self.full = False  # whether the next arrival belongs into another batch
        self.results: bytes | bytearray | None = None

    def add(self, arrival: Arrival) -> None:
        """Append *arrival*."""
        self.arrivals.append(arrival)
        self.size += len(arrival.frame.raw)
        self.full = len(self.arrivals) >= BATCH_MESSAGES or self.size >= BATCH_BYTES

    def verify(self) -> Exception | None:
        """Verify the signatures in this process; return the first error that was not expected: one stands for all.

        What cannot be verified is not valid.
        """
        first: Exception | None = None
        # At once, and without memory: whatever happens, nothing waits for them, nor for the batches behind this one.
        self.results = _NONE_VALID[len(self.arrivals)]
        try:
            self.results = results = bytearray(self.results)
        except MemoryError:
            return None
        for index, arrival in enumerate(self.arrivals):
            try:
                results[index] = wire.verify(arrival.frame)
            except MemoryError:  # a busy machine, not a mistake of ours
                pass
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                first = first or error
        return first
