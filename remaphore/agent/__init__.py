"""The local agent: it holds the keys and the connection, and sends, requests and receives for local users.

What lives here: the frames of its protocol (`frames.py`), which server and clients share; on the server's side the
socket (`listener.py`), who connected (`credentials.py`), what they may do (`rules.py`), one connection (`session.py`),
the operations (`operations.py`, `receiving.py`), how many bytes may wait (`budget.py`), and the log of who did what
(`audit.py`), which `server.py` connects; and the client. The operations use the `Node` of the Python API, so that
signing, verification and deadlines are those of every other command. Nothing here reads a command line or decides what
a receiver accepts. The agent never signs bytes that it is given: it composes each message itself, so that the rules see
what is signed.
"""
