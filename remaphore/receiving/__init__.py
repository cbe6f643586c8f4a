"""From bytes that arrive to handlers that run: the daemon, the one-shot receiver, and what both consist of.

May import messaging, transport, hooks, config and protocol. Nothing here sends requests or talks to a terminal.
"""
