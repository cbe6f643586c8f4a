"""Signing and sending what both sides have in common: messages, requests and replies.

Below receiving and requesting, which both use it; it imports neither. Nothing here decides whether to reply.
"""
