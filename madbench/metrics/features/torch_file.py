"""Reads the tensors of a PyTorch state dict without PyTorch, and without running anything that the file says.

A `.pth` file is a pickle beside raw numbers: since PyTorch 1.6 in a zip archive (`data.pkl`, `data/0`, ...), before
that five pickles in a row with the numbers behind them. A pickle is a program, so here is a machine of its own for it:
it knows the instructions that plain data needs and three kinds of names (functions that rebuild a tensor, storages,
OrderedDict), and calls nothing. Sizes are checked against the file's before anything is read.
"""

import dataclasses
import io
import math
import pathlib
import pickletools
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from madbench.errors import UserError

LARGEST_PICKLE = 2**26  # bytes; that of a network of a thousand tensors has 10^5
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format before PyTorch 1.6
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # the upper half of a float32
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
REBUILD = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}


class _Refused(Exception):
    """What is wrong with a file, as the end of a sentence."""


@dataclasses.dataclass(frozen=True)
class _Name:
    """A function or class that a pickle names; never imported."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A block of numbers that lies elsewhere in the file: `size` elements of a kind of `STORAGES`."""

    key: str
    kind: str
    size: int

    @property
    def bytes(self) -> int:
        return self.size * np.dtype(STORAGES[self.kind]).itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage; `offset` and `strides` in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, read-only; bfloat16 widened to float32, other types as they are.

    Raises:
      UserError: one line, where the file cannot be read, is damaged, or holds anything but named tensors.
    """
    return _open(path, lambda file, size: _arrays(*_describe(file, size)))


def shapes(path: str | pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Their shapes alone: reads no numbers. Raises UserError as `read` does."""
    return _open(path, lambda file, size: {name: t.shape for name, t in _describe(file, size)[0].items()})


def _open(path: str | pathlib.Path, function: Any) -> Any:
    try:
        with open(path, "rb") as file:
            return function(file, file.seek(0, io.SEEK_END))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except _Refused as error:
        raise UserError(f"{path} is not read as a PyTorch state dict: {_line(error)}") from None
    except (ValueError, LookupError, struct.error, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path} is damaged, or no PyTorch state dict: {_line(error)[:80]}") from None


def _line(error: Exception) -> str:
    """Its message as one line that a terminal can show: names in it are the file's."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(error))


def _describe(file: BinaryIO, size: int):
    """(tensors by name, a function that reads the numbers of storages, the bytes of the file)."""
    file.seek(0)
    zipped = file.read(4) == b"PK\x03\x04"
    top, fetch = (_zip if zipped else _legacy)(file)
    if not isinstance(top, dict):
        raise _Refused("it holds something else than a dict of tensors")
    for name, value in top.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise _Refused(f"{str(name)[:80]!r} is no tensor; save the network's state_dict() alone")
    return top, fetch, size


def _arrays(tensors: dict[str, _Tensor], fetch: Any, size: int) -> dict[str, np.ndarray]:
    storages = {t.storage.key: t.storage for t in tensors.values()}
    for tensor in tensors.values():
        if tensor.storage != storages[tensor.storage.key]:
            raise _Refused("two tensors disagree about the numbers that they share")
    if sum(s.bytes for s in storages.values()) > size:
        raise _Refused("its tensors are larger than the file")
    numbers = {}
    for key, raw in fetch(storages).items():
        kind = STORAGES[storages[key].kind]
        numbers[key] = np.frombuffer(raw, kind) if raw else np.zeros(0, kind)
    return {name: _view(tensor, numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _view(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    strides = tuple(stride * numbers.itemsize for stride in tensor.strides)
    if math.prod(tensor.shape) == 0:
        view = np.zeros(tensor.shape, numbers.dtype)
    else:
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    if tensor.storage.kind == "BFloat16Storage":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return view


def _zip(file: BinaryIO):
    """Of a zip archive, as PyTorch writes it since 1.6: nothing in it is compressed."""
    with zipfile.ZipFile(file) as archive:
        found = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(found) != 1:
            raise _Refused("the archive has no data.pkl")
        folder = found[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and _member(archive, f"{folder}byteorder", 16) != b"little":
            raise _Refused("its numbers are big-endian")
        top = _unpickle(io.BytesIO(_member(archive, found[0], LARGEST_PICKLE)))

    def fetch(storages: dict[str, _Storage]) -> dict[str, bytes]:
        with zipfile.ZipFile(file) as archive:
            raw = {key: _member(archive, f"{folder}data/{key}", s.bytes) for key, s in storages.items()}
        for key, storage in storages.items():
            if len(raw[key]) != storage.bytes:
                raise _Refused(f"storage {key[:80]!r} has {len(raw[key])} bytes instead of {storage.bytes}")
        return raw

    return top, fetch


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size > most:
        raise _Refused(f"{name[:80]!r} in the archive is compressed, encrypted, or larger than {most} bytes")
    return archive.read(info)


def _legacy(file: BinaryIO):
    """Of five pickles (magic number, version, system, the state dict, keys) and the storages behind them."""
    file.seek(0)
    head = io.BytesIO(file.read(LARGEST_PICKLE))
    if _unpickle(head) != MAGIC or _unpickle(head) != PROTOCOL:
        raise _Refused("it begins like no file that PyTorch writes")
    system = _unpickle(head)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("its numbers are big-endian")
    top, keys = _unpickle(head), _unpickle(head)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _Refused("it has no list of storages")
    start = head.tell()

    def fetch(storages: dict[str, _Storage]) -> dict[str, bytes]:
        if set(keys) != set(storages) or len(keys) != len(storages):
            raise _Refused("its list of storages is not that of its tensors")
        file.seek(start)
        raw = {}
        for key in keys:
            (size,) = struct.unpack("<q", file.read(8))
            if size != storages[key].size:
                raise _Refused(f"storage {key[:80]!r} has {size} numbers instead of {storages[key].size}")
            raw[key] = file.read(storages[key].bytes)
            if len(raw[key]) != storages[key].bytes:
                raise _Refused("it ends too early")
        return raw

    return top, fetch


def _unpickle(stream: BinaryIO) -> Any:
    """The value of one pickle of plain data and tensors; the stream is left behind it."""
    stack: list[Any] = []
    marked: list[list[Any]] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        elif name == "STOP":
            return stack.pop()
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name == "MARK":
            marked.append(stack)
            stack = []
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("TUPLE", "SETITEMS", "APPENDS"):
            items, stack = stack, marked.pop()
            _BUILDERS[name](stack, items)
        elif name in _TAKES:
            count, builder = _TAKES[name]
            items = stack[len(stack) - count :]
            del stack[len(stack) - len(items) :]
            if len(items) != count:
                raise _Refused("its pickle is malformed")
            _BUILDERS[builder](stack, items)
        elif name == "GLOBAL":
            stack.append(_known(*argument.split(" ", 1)))
        else:
            raise _Refused(f"its pickle uses {name}, which no state dict needs")
    raise _Refused("its pickle does not end")


def _known(module: Any, name: Any) -> _Name:
    """The name, where it is one of those that stand for tensors; nothing is imported."""
    known = {"torch._utils": REBUILD, "torch": STORAGES, "collections": {"OrderedDict"}}
    if not isinstance(module, str) or not isinstance(name, str) or name not in known.get(module, ()):
        raise _Refused(f"it names {str(module)[:40]}.{str(name)[:40]}, which is no tensor; nothing was run")
    return _Name(module, name)


def _push_global(stack: list, items: list) -> None:
    stack.append(_known(*items))


def _push_storage(stack: list, items: list) -> None:
    """A persistent id: `("storage", kind, key, device, size)`, before PyTorch 1.6 with a view that must be None."""
    (identity,) = items
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
        raise _Refused("it refers to something that is no storage")
    _, kind, key, _, size = identity[:5]
    if not isinstance(kind, _Name) or kind.name not in STORAGES or not isinstance(key, str) or not _natural(size):
        raise _Refused("it refers to something that is no storage")
    stack.append(_Storage(key, kind.name, size))


def _push_call(stack: list, items: list) -> None:
    """What a known function would return for its arguments."""
    function, arguments = items
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise _Refused("its pickle calls something that is no function")
    if function.name == "OrderedDict" and not arguments:
        stack.append({})
    elif function.name == "_rebuild_parameter" and arguments and isinstance(arguments[0], _Tensor):
        stack.append(arguments[0])
    elif function.name in ("_rebuild_tensor", "_rebuild_tensor_v2") and len(arguments) >= 4:
        stack.append(_tensor(*arguments[:4]))
    else:
        raise _Refused(f"its pickle calls {function.name} in a way that PyTorch does not")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    fits = isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not fits or len(shape) != len(strides) or len(shape) > 8 or not all(map(_natural, (offset, *shape, *strides))):
        raise _Refused("it has a tensor with a strange shape")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    count = math.prod(shape)
    if count and (last >= storage.size or count > storage.size):
        raise _Refused("it has a tensor that is larger than its storage")
    return _Tensor(storage, offset, shape, strides)


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _set_items(stack: list, items: list) -> None:
    if not isinstance(stack[-1], dict) or len(items) % 2:
        raise _Refused("its pickle is malformed")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, (str, int)):
            raise _Refused("a dict in it has keys that are no names")
        stack[-1][key] = value


def _append(stack: list, items: list) -> None:
    if not isinstance(stack[-1], list):
        raise _Refused("its pickle is malformed")
    stack[-1].extend(items)


def _ignore(stack: list, items: list) -> None:
    """Attributes of an object: state dicts carry version numbers of modules there."""
    if not isinstance(stack[-1], dict):
        raise _Refused("its pickle sets attributes of something that is no dict")


_CONSTANTS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_BUILDERS = {
    "TUPLE": lambda stack, items: stack.append(tuple(items)),
    "APPENDS": _append,
    "SETITEMS": _set_items,
    "STACK_GLOBAL": _push_global,
    "BINPERSID": _push_storage,
    "REDUCE": _push_call,
    "BUILD": _ignore,
}
# Instruction -> how many values it takes off the stack, and what becomes of them.
_TAKES = {
    "TUPLE1": (1, "TUPLE"),
    "TUPLE2": (2, "TUPLE"),
    "TUPLE3": (3, "TUPLE"),
    "APPEND": (1, "APPENDS"),
    "SETITEM": (2, "SETITEMS"),
    "STACK_GLOBAL": (2, "STACK_GLOBAL"),
    "BINPERSID": (1, "BINPERSID"),
    "REDUCE": (2, "REDUCE"),
    "BUILD": (1, "BUILD"),
}
