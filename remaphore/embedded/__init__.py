"""A NATS broker that remaphore starts itself, for the demonstration, the tutorial and small sites.

Here live the process nats-server, its directory and its configuration, the logins and their JWTs, the addresses that
it listens on, and the check of its certificate. What does not belong here: messages, gates and nodes.
"""
