"""Coordination: records in JetStream, by which nodes agree on who holds a lock.

Here live the streams, and the requests to JetStream. What does not belong here: which record means what (`protocol`),
and the command that a lock guards (`cli`).
"""
