"""A NATS broker that remaphore starts itself, for the demo, the tutorial and small sites.

Knows nats-server and NATS JWTs; nothing of messages, gates or nodes.
"""
