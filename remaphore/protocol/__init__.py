"""The protocol: the form of a message, the permissions of its sender, and the checks before it is trusted.

Here live pure functions and objects: bytes, texts and a time go in, values or errors come out. Nothing here may use a
file, socket, clock, log, event loop or plugin; the time is always an argument. `keys` is the only module of the project
that uses PyNaCl, base58 and nkeys, but for `verifier_worker`: other processes run that file by itself, on their stdin
and stdout. Nothing here may import another part of remaphore, except `errors` and `text`.
"""
