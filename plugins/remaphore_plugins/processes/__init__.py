"""A library, not a plugin: run a program on Linux, limit it, and leave no process behind.

Only the plugins `script` and `hooks_d` import it. What belongs here: starting a program, ending it, and finding its
processes (`run`, `signals`, `exit_watch`, `pipes`, `tree`, `subreaper`); why one could not be started, or would not be
(`failures`, `obstacles`, `first_line`, `elf`); ending everything that a plugin has started (`active`); the user and the
environment variables of a program (`account`, `environment`), and its lines in the log (`handler_log`). What does not:
which programs run, and how their exit becomes a reply. That is up to each plugin.
"""
