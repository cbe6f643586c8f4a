"""Answers to "does it work, and why not": check, doctor, ping and explain, without any output.

Reads what the other packages know and changes nothing; what it finds are values that cli/ prints.
"""
