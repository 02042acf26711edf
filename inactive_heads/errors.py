"""Exceptions for problems the user can fix."""


class UserError(ValueError):
    """Wrong input: a value, file or model. The message says what is wrong and how to fix it.

    Command lines print it on one line and exit with status 2.
    """


class Notice(UserWarning):
    """A warning that the user should read. The run continues."""
