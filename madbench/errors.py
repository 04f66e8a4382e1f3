"""What the command line turns into one line and exit code 2. Any other exception is a bug, and shows its traceback."""


class UserError(ValueError):
    """Something that a user asked for and that cannot be done; the message is one line that says what to do."""
