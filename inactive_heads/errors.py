"""The one exception for what a user can mend."""


class UserError(ValueError):
    """Something given from outside is wrong; the message says what, and what to do.

    Command lines print it as one line and exit with status 2.
    """


class Notice(UserWarning):
    """Something a user should know of, though the work goes on."""
