"""The local agent: it holds the keys and the connection, and sends, requests and receives for local users.

What lives here: the frames of its protocol (`frames.py`), which server and clients share; on the server's side the
socket (`listener.py`), who connected (`credentials.py`), what they may do (`rules.py`, `refusal.py`), one connection
(`session.py`, `head.py`), the operations (`operations.py`, `receiving.py`, `feeds.py`), how many bytes may wait
(`budget.py`), and the log of who did what (`audit.py`), which `server.py` connects; on the client's side where the
socket is (`place.py`), one connection (`connection.py`), the node (`client.py`, `requests.py`) and the receiver
(`receiver.py`). The operations use the `Node` of the Python API and the admission of `receive`, so that signing,
verification and deadlines are those of every other command. Nothing here reads a command line. The agent never signs
bytes that it is given: it composes each message itself, so that the rules see what is signed.
"""
