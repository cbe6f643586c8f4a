"""A NATS broker that remaphore starts itself, for the demonstration, the tutorial and small sites.

Here live the process nats-server and NATS JWTs. What does not belong here: messages, gates and nodes.
"""
