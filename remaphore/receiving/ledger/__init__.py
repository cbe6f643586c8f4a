"""What the daemon records durably: the state directory and its lock, the SQLite file in it, and the ledger on top.

Nothing here knows about the bus, the gate or plugins.
"""
