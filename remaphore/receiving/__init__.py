"""The receiving side: from bytes that arrive to handlers that run, for the daemon and the one-shot receiver.

The path of a message through the daemon: admission, execution, responses; `daemon` wires the three. May import
messaging, transport, hooks, config and protocol, but not requesting. Nothing here sends requests or writes to a
terminal.
"""
