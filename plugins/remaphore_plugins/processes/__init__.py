"""A library, not a plugin: run a program on Linux, limit it, and leave no process behind.

Only the plugins `script` and `hooks_d` import it. What belongs here: starting a program, ending it, and finding its
processes (`run`, `pipes`, `tree`, `subreaper`); ending everything that a plugin has started (`active`); and the
environment variables that describe a message (`environment`). What does not: which programs run, and how their exit
becomes a reply. That is up to each plugin.
"""
