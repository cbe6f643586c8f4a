"""Configuration: from the text of a file to a frozen, validated `Config`, and edits of these files.

Here live the types of the settings, the readers of both formats, and what creates, converts and edits configuration
files; every error names the file with its line or key path. Also what judges who else could have read or changed one
(`secrets`, `safety`), and what makes the directories that other packages keep files in (`files`). Nothing here may open
a connection, start a process, or know a command line.
"""
