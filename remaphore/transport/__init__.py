"""Transport: bytes to and from subjects, over NATS or in memory.

Here live connections, and the only use of nats-py. Nothing here knows what the bytes mean: no key of a node, no
message, no plugin. Every failure leaves as a `remaphore.errors.TransportError`.
"""
