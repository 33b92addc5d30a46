"""Errors that end the run with one line on stderr."""


class UsageError(Exception):
    """Something the user can put right: a bad option, a missing tool, a program that is not there."""


class BuildError(Exception):
    """The build failed; the message names the log and shows its end."""
