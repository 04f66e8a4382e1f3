"""README.md of submissions made anew from their rows, as this version of madbench writes it, without their workdirs.

    python -m madbench.leaderboard.rewrite SUBMISSION ...

For submissions of an older version, and after a text in submission.json was changed. Nothing else in them is touched.
"""

import sys

from madbench.errors import UserError
from madbench.leaderboard import readme, score, submission
from madbench.results import write_text


def text(found: submission.Submission) -> str:
    """README.md as it must be.

    Args:
      found: with a readable manifest and rows; the scores are computed from these.

    Raises:
      UserError: it cannot be read; one line.
    """
    summary = score.summary(found.task, found.rows, found.timing)
    return readme.render(found.manifest | {"summary": summary}, found.task, found.result)


def main(paths: list[str]) -> int:
    """Writes that of each; the exit code."""
    try:
        for path in paths:
            found = submission.load(path)
            write_text(found.path / submission.README, text(found))
            print(f"wrote {found.path / submission.README}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
