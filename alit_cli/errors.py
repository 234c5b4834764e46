"""Every error a user can cause or meet: one family, one clear sentence each, one exit code each."""


class AlitError(Exception):
    """Something went wrong in a way we can name; the message says what, and what to do about it."""

    exit_code = 1


class InputError(AlitError):
    """The input or the way the command was called is wrong."""

    exit_code = 2


class TooManyFailures(AlitError):
    """The work is done, but more images failed than the caller allows, or none succeeded."""

    # A script can tell these codes apart: with 3 there is a table, with 4 there is none yet.
    exit_code = 3


class NotFinished(AlitError):
    """Some shards of the plan are not done yet; the same command run again does them."""

    exit_code = 4


class ImageProblem(AlitError):
    """One image could not be read; it becomes a row of the table with this `status`."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
