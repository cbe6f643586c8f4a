"""The command line: one file a command, and no logic that a Python caller would want.

Two front doors lead to the same commands: the original's flags (`goflags`, `original`) and words for people (`words`).
`main` is the only place that turns errors into exit codes. Modules are imported when their command runs.
"""
