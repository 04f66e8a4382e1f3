"""Finds the files of published weights. They are read from where the user has put them, never downloaded."""

import hashlib
import pathlib
from collections.abc import Sequence

from madbench.errors import UserError


def locate(features: str, path: str, cache: str, names: Sequence[str], source: str) -> pathlib.Path:
    """The file of the weights of `features`.

    Args:
      path: where the user says that it is; "" to look in `cache`.
      cache: a directory.
      names: that the file may have there, relative to it.
      source: what the file is and where people get it, for the message.

    Raises:
      UserError: there is none; one line.
    """
    if path:
        places = [pathlib.Path(path).expanduser()]
    else:
        places = [pathlib.Path(cache) / name for name in names]
    for place in places:
        if place.is_file():
            return place
    where = places[0] if path else f"{' or '.join(names)} in the cache directory {cache} (--cache)"
    raise UserError(
        f"config.metrics.features={features!r} needs weights that are not there: {where}; get {source}, "
        f"and put it there or name it as '{features.partition(':')[0]}:PATH'"
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
