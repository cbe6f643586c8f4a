"""Configuration: from a file's text to frozen, validated `Config`.

Here live the settings' types and the readers of the two formats; every error names the file, the line or the key path,
and the hint. Nothing here opens a connection, starts a process or knows a command line.
"""
