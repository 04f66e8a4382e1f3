"""Finds the files of published weights. They are read from where the user has put them, never downloaded."""

import hashlib
import pathlib
from collections.abc import Sequence

from madbench.errors import UserError


def locate(name: str, path: str, cache: str, files: Sequence[str], source: str) -> pathlib.Path:
    """The file of published weights.

    Args:
      name: of the features.
      path: where the user says that it is; "" to look in `cache`.
      cache: a directory.
      files: names that it may have there, relative to that.
      source: what the file is and where people get it, for the message.

    Raises:
      UserError: there is none; one line.
    """
    if path:
        places = [pathlib.Path(path).expanduser()]
    else:
        places = [pathlib.Path(cache) / file for file in files]
    for place in places:
        if place.is_file():
            return place
    where = places[0] if path else f"{' or '.join(files)} in the cache directory {cache} (--cache)"
    raise UserError(
        f"features {name!r} need weights that are not there: {where}; get {source}, and put it there or name it as "
        f"'{name}:PATH'"
    )


def digest(path: pathlib.Path) -> str:
    """The sha256 of a file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
