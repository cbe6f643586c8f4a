"""The command line. Whatever a Python caller could use belongs to the other packages, not here.

`commands/` has one module per command, `legacy/` the flag syntax of the Go implementation; both syntaxes lead to the
same commands. `main` is the only place that turns errors into exit codes, `output` the only one that decides on colour
and width. A module is imported when its command runs, and imports what the command needs inside `run`.
"""
