"""The requesting side: one request with its replies, and a rollout of requests in batches.

What does not belong here: anything of the receiving side (`receiving`), and the output of commands (`cli`). May import
messaging, transport, hooks, config and protocol.
"""
