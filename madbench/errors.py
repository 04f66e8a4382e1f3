"""What the command line turns into one line and exit code 2. Any other exception is a bug, and shows its traceback."""


class UserError(ValueError):
    """Something that a user asked for and that cannot be done; the message is one line that says what to do.

    Attributes:
      command: for a shell, with which the message ends; "" for none.
    """

    def __init__(self, text: str, command: str = ""):
        super().__init__(f"{text} {command}" if command else text)
        self.command = command


def told(error: Exception) -> str:
    """An error as people are told it: one line, and a command for a shell below it, so that it can be copied."""
    text, command = str(error), getattr(error, "command", "")
    line = " ".join(text.removesuffix(command).split())
    return f"{line}\n\n    {command}" if command else line
