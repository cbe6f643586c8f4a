"""The protocol: what a message is, who may say what, what is believed.

Here live pure functions and objects: bytes, texts and a time go in, values or errors come out. No file, socket, clock,
log, event loop or plugin may be touched from here; the time is always an argument. `keys` is the only module of the
project that uses PyNaCl, base58 and nkeys. Nothing here may import another package of remaphore, except `errors`.
"""
