"""The command line of the Go implementation: flags in the syntax of Go's package `flag`, and what they do.

Nothing here uses argparse: `remaphore -s` in a shell loop must start fast.
"""
