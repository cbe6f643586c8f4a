"""The requesting side: one request with its replies, and a rollout in batches.

May import messaging, transport, hooks, config and protocol, but not receiving.
"""
