"""Whether a node can work: `checkup` looks at what is on this machine, `doctor` asks the broker and the peers.

Each part is a function, or a generator, of `Finding`s: what was found, where, and what mends it. A command prints them
as they come. Nothing here mends anything by itself, and nothing but `doctor` and `ping` opens a connection.
"""
