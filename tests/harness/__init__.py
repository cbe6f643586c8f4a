"""What the tests of more than one folder share: nodes, processes, daemons, brokers, terminals, factories.

Each kind of file (the configuration of a node or a broker) and each kind of start-up (a daemon on a bus in memory, a
command on a terminal) is written here once. It has no tests, and nothing that only one folder uses.
"""
