"""Coordination: records in JetStream, by which nodes agree on who holds a lock.

Here live the streams, the requests to JetStream, the lock, and the guardian of the command behind it. What does not
belong here: which record means what (`protocol`), and what a user is shown (`cli`).
"""
