"""What the daemon records durably: the state directory, the SQLite file in it, and the ledger on top.

Nothing here knows about the bus, the gate or plugins.
"""
