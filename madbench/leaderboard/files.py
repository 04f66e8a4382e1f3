"""Reading a directory that somebody else wrote: every step is bounded, nothing in it is executed, followed or trusted.

What is refused ends in a `UserError` of one line. Names and texts from the directory stand in it as `shown`: without
control characters, and cut.
"""

import io
import json
import math
import os
import pathlib
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from madbench.errors import UserError

MOST_ENTRIES = 5000  # files and folders of one submission
_DEEPEST = 4  # folders within folders
_NESTED = 20  # values within values of a JSON file
_LARGEST = 2**63  # of whole numbers
_HEADER = 4096  # bytes of an array's header, and of a ZIP archive around one array


def shown(value: Any, most: int = 60) -> str:
    """A value of unknown origin for a line of text: as Python writes it, in ASCII, cut after `most` characters."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) >= _LARGEST:  # Python refuses to write the longest out
        return "a huge number"
    if isinstance(value, str):
        value = value[: most + 1]  # not a megabyte first
    text = ascii(value)
    return text if len(text) <= most else f"{text[:most]}…"


def one_line(value: Any, most: int = 200) -> str:
    """A text by somebody else as one line for people, on a page or in a terminal; "" where it is none.

    What does not print, and a terminal or a page might act on, is replaced, and what is longer than `most` cut.
    """
    text = value[: most + 1] if isinstance(value, str) else ""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return " ".join(text.split()) if len(text) <= most else f"{' '.join(text[:most].split())}…"


def listing(root: pathlib.Path) -> dict[str, int]:
    """All files under `root`: path with "/" -> bytes.

    Raises:
      UserError: `root` is no directory or a link; anything in it is neither a folder nor a plain file with one name; it
        holds too many, or too deep.
    """
    try:
        mode = os.lstat(root).st_mode
    except (OSError, ValueError) as error:
        raise UserError(f"{root} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISLNK(mode):
        raise UserError(f"{root} is a symbolic link; name the directory itself")
    if not stat.S_ISDIR(mode):
        raise UserError(f"{root} is not a directory; a submission is one, made by `madbench submit`")
    found: dict[str, int] = {}
    folders = [("", 0)]
    seen = 0
    while folders:
        prefix, depth = folders.pop()
        try:
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MOST_ENTRIES:
                        raise UserError(f"it holds more than {MOST_ENTRIES:,} files")
                    name = prefix + entry.name
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        if depth + 1 > _DEEPEST:
                            raise UserError(f"{shown(name)} lies too deep")
                        folders.append((f"{name}/", depth + 1))
                    elif reason := _refusal(info):
                        raise UserError(f"{shown(name)} is {reason}, not a plain file")
                    else:
                        found[name] = info.st_size
        except OSError as error:
            raise UserError(f"{shown(prefix)} cannot be read: {error.strerror}") from None
    return dict(sorted(found.items()))


def _refusal(info: os.stat_result) -> str:
    if stat.S_ISLNK(info.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(info.st_mode):
        return "a pipe, a socket or a device"
    return "a hard link to something that has another name too" if info.st_nlink > 1 else ""


def read(root: pathlib.Path, name: str, most: int) -> bytes:
    """The bytes of one file of `listing(root)`.

    Raises:
      UserError: it is not there, no plain file, or holds more than `most` bytes, of which none is read then.
    """
    # Neither a link nor a pipe that has come in its place since then is followed or waited for.
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(root / name, flags), "rb") as file:
            info = os.fstat(file.fileno())
            if reason := _refusal(info):
                raise UserError(f"{shown(name)} is {reason}, not a plain file")
            if info.st_size > most:
                raise UserError(f"{shown(name)} holds {info.st_size:,} bytes, and at most {most:,} are expected")
            data = file.read(most + 1)
    except UserError:  # a ValueError itself
        raise
    except FileNotFoundError:
        raise UserError(f"{shown(name)} is missing") from None
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise UserError(f"{shown(name)} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most:
        raise UserError(f"{shown(name)} grows while it is read")
    return data


# ---- JSON ------------------------------------------------------------------------------------------------------------


def parse(name: str, data: bytes) -> Any:
    """A JSON value, by stricter rules than Python's.

    No name twice in an object, no NaN, Infinity or 1e999, no huge whole number, UTF-8 without lone surrogates, at most
    20 values within each other.

    Args:
      name: for messages.
      data: whole.

    Raises:
      UserError: one line.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise UserError(f"{name}: more than {_NESTED} values lie within each other") from None
    except ValueError as error:
        raise UserError(f"{name} is not JSON: {' '.join(str(error).split())[:100]}") from None
    _check_depth(name, value)
    return value


def parse_rows(name: str, data: bytes, most: int) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, each on a line of its own that ends in a line feed.

    Raises:
      UserError: one line; also where there are more than `most`.
    """
    if data and not data.endswith(b"\n"):
        raise UserError(f"{name}: the last line is cut short")
    lines = data.split(b"\n")[:-1]
    if len(lines) > most:
        raise UserError(f"{name} has {len(lines):,} lines, and at most {most:,} are expected")
    found = [parse(f"{name}, line {number}", line) for number, line in enumerate(lines, start=1)]
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{name}, line {number}: {shown(row)} is not an object")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise UserError(f"{shown(twice)} stands twice in one object")
    return found


def _no_constant(text: str) -> None:
    raise UserError(f"{text} is no number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise UserError(f"{text[:20]} is not a finite number")
    return value


def _int(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= _LARGEST:
        raise UserError(f"{text[:20]}… is too large a number")
    return int(text)


def _check_depth(name: str, value: Any) -> None:
    """Walks without recursion, which a deep value would exhaust, here or in whoever compares it."""
    left = [(value, 1)]
    while left:
        here, depth = left.pop()
        if isinstance(here, str):
            if not here.isascii() and any("\ud800" <= letter <= "\udfff" for letter in here):
                raise UserError(f"{name}: {shown(here)} is no text: it holds half a character")
        elif isinstance(here, (dict, list)):
            if depth > _NESTED:
                raise UserError(f"{name}: more than {_NESTED} values lie within each other")
            inner: Iterator[Any] = iter(here)
            if isinstance(here, dict):
                inner = (part for item in here.items() for part in item)
            left += [(part, depth + 1) for part in inner]


# ---- arrays ----------------------------------------------------------------------------------------------------------


def archive_bound(shape: tuple[int, ...], dtype: str) -> int:
    """The largest .npz with one such array, in bytes: data that do not shrink grow by less than a thousandth."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return size + size // 500 + 2 * _HEADER


def read_array(name: str, data: bytes, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The array `x` of a .npz file, read only if its header says that it has this shape and this type.

    Never more than the expected bytes are decompressed, whatever the archive says of itself, and nothing is unpickled.

    Args:
      name: for messages.
      data: the file, whole.
      shape, dtype: of the array.

    Raises:
      UserError: one line.
    """
    expected = np.dtype(dtype)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, warnings.catch_warnings():
            warnings.simplefilter("error")  # an old or odd header is a refused one
            (entry,) = _one_entry(name, archive.infolist())
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                if version not in reader:
                    raise UserError(f"{name}: its array is of format {version}")
                found, is_fortran, kind = reader[version](file, max_header_size=_HEADER)
                if kind.hasobject:
                    raise UserError(f"{name} holds pickled objects, which are not read")
                if found != shape or kind != expected or is_fortran:
                    held = f"{shown(str(kind))} {shown(str(list(found)))}"
                    raise UserError(f"{name} holds {held}, and {expected} {list(shape)} is expected")
                size = math.prod(shape) * expected.itemsize
                content = file.read(size)
                if len(content) != size or file.read(1):
                    raise UserError(f"{name} does not hold as many bytes as its header says")
    except UserError:
        raise
    except Exception as error:  # whatever damaged bytes make of zipfile, zlib and NumPy's header parser
        raise UserError(f"{name} is no .npz file of one array: {' '.join(str(error).split())[:100]}") from None
    return np.frombuffer(content, expected).reshape(shape)


def _one_entry(name: str, entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    names = [entry.filename for entry in entries]
    if names != ["x.npy"]:
        raise UserError(f"{name} holds {shown(', '.join(names[:3]))}, and x.npy alone is expected")
    if entries[0].flag_bits & 1 or entries[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{name} is encrypted, or compressed by another method than NumPy's")
    return entries
