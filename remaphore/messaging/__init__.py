"""Signing what this node sends: messages, requests and replies.

Below receiving and requesting, which both use it; it imports neither.
"""
