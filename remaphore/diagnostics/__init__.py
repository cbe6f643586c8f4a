"""Answers to "does it work, and if not, why?": check, doctor, ping, status and explain.

Here are functions that read what the other packages know and return or yield values. They change nothing, print nothing
and parse no options; that is the task of cli/. A check of one kind of file or service is one module; `findings` has
the list of codes.
"""
