"""The commands: COMMANDS is the only list of them. Each has a module of the same name here; there are no other modules.

Such a module defines:

    SUMMARY                a few words, equal to those below (a test compares them, so that --help imports no command)
    EXAMPLE                command lines that can be pasted
    EXIT_CODES             what each exit code means, beside those of all commands (`main.EXIT_CODES`)
    a frozen dataclass     the options
    add_arguments(parser)  adds the arguments, and sets `options=` to what makes the dataclass of them
    run(options)           runs the command and returns its exit code

Modules that are slow to import (asyncio, the broker, cryptography) are imported inside the functions that need them:
shell completion and `--help` import these modules for their arguments only.
"""

from __future__ import annotations

# In the order of `remaphore --help`.
COMMANDS = {
    "send": "send a message",
    "request": "send a message and print the replies",
    "receive": "wait for messages and run a script for each",
    "wait": "wait until several nodes have sent a message",
    "lock": "run a command while no other node holds the same lock",
    "semaphore": "run a command while few other nodes do",
    "run": "run the daemon: handlers in hooks.d/VERB/, and plugins",
    "agent": "run the local agent: send for users who cannot read the keys",
    "hooks": "list what the daemon would run for a verb, and what it skips",
    "explain": "explain check by check why a message is accepted or dropped",
    "plugins": "list the installed plugins and the hooks that they implement",
    "check": "check the setup of this machine, without using the network",
    "doctor": "check the broker and the peers, and what they permit",
    "status": "show what the daemon of this machine, or of peers, does now",
    "ping": "measure round-trip time and clock offset of the peers",
    "init": "create this node's configuration and key; print its peer line",
    "keygen": "create a key pair",
    "identity": "add, remove and list this node's keys, and choose the default",
    "peer": "add, remove, list and show peers, and change what they may send",
    "config": "show the effective configuration, or convert a legacy one",
    "broker": "run a NATS broker, or create and revoke its logins",
    "coordination": "make the streams that locks need on the broker",
    "demo": "run a demonstration on this machine",
    "completion": "print a completion script for bash, zsh or fish",
    "help": "list the commands, or show the help of a command",
    "version": "print the version",
}
