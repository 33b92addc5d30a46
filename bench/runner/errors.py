"""Errors that end the run with one line on stderr."""

import signal


class UsageError(Exception):
    """Something the user can put right: a bad option, a missing tool, a program that is not there."""


class BuildError(Exception):
    """The build failed; the message names the log and shows its end."""


class Interrupted(KeyboardInterrupt):
    """What SIGTERM and SIGHUP do: they end the run as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def signal_of(interrupt: KeyboardInterrupt) -> int:
    return interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT
