"""Transport: bytes to and from subjects, over NATS or in memory.

Here live connections, and the only use of nats-py. What does not belong here: anything that interprets the bytes, such
as a node's keys, messages or plugins. Every failure leaves as a `remaphore.errors.TransportError`.
"""
