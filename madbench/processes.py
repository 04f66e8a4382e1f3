"""Several processes, one job: they meet through `jax.distributed`, agree on everything, and the first alone writes.

Every function here is called by all processes in the same order; with one process each is what it would be without
this file. What processes tell each other goes through `jax.experimental.multihost_utils`, so it takes the same way as
the collectives of the job itself (gloo, NCCL, the interconnect of a TPU) and needs no other port. A process that is
lost meanwhile ends the others: see `supervisor`.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from madbench.errors import UserError
from madbench.meeting import CONNECTED, Meeting

# Bytes that one collective moves: a checkpoint of any size passes through this much memory of each device.
PIECE = 2**24
LETTER = 256  # bytes of a message that goes in one piece
UNSAID = 2.0  # seconds of waiting for a cluster that may not be there
NEVER = 24 * 3600  # seconds that a process waits at the end for one that still writes


@contextlib.contextmanager
def connected(meeting: Meeting) -> Iterator[None]:
    """Within it this process is one of several; before JAX has computed anything.

    Raises:
      UserError: JAX finds no cluster, or the processes have different numbers of devices; one line.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM, which is the job's own
    waiting = threading.Timer(UNSAID, _say, [meeting.waiting])
    waiting.daemon = True
    if meeting.coordinator_address is None:
        waiting.start()
    elif meeting.num_processes != 1:
        _say(meeting.waiting)
    try:
        jax.distributed.initialize(
            meeting.coordinator_address,
            meeting.num_processes,
            meeting.process_id,
            initialization_timeout=meeting.initialization_timeout,
            heartbeat_timeout_seconds=meeting.heartbeat_timeout,
            shutdown_timeout_seconds=NEVER,
            cluster_detection_method=None if meeting.coordinator_address is None else "deactivate",
        )
    except ValueError as error:
        if meeting.coordinator_address is not None:
            raise UserError(f"the processes cannot meet: {' '.join(str(error).split())}") from None
        # Its own words name an argument that nobody was asked for.
        raise UserError(
            "--distributed: this process was not started by a launcher that JAX knows: srun of SLURM (SLURM_PROCID and "
            "others are set), mpirun of Open MPI (OMPI_COMM_WORLD_RANK), a Cloud TPU, or Kubernetes with its Python "
            "package; start it so, or give --coordinator_address=HOST:PORT --num_processes=N --process_id=I instead"
        ) from None
    finally:
        waiting.cancel()
    os.write(2, f"{CONNECTED} as {jax.process_index()} of {jax.process_count()}\n".encode())  # for the supervisor
    _say(f"all {jax.process_count()} processes have joined" + ("" if is_first() else "; process 0 says how it goes"))
    by_process = [sum(d.process_index == p for d in jax.devices()) for p in range(jax.process_count())]
    if len(set(by_process)) > 1:
        raise UserError(f"every process needs the same number of devices, and they have {by_process}")
    try:
        yield
    except (Refused, Agreed):
        jax.distributed.shutdown()
        raise
    except (UserError, OSError):  # this process's own, when the others were beyond asking
        raise
    except Exception:
        # Where a process is lost, collectives fail first, with whatever their library raises; then the coordinator says
        # which it was, and ends this one. An error of our own shows its traceback that much later.
        time.sleep(meeting.heartbeat_timeout + 5)
        raise
    jax.distributed.shutdown()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Refused(UserError):
    """Something that one of several processes refuses; all raise it together."""


class Agreed(Exception):
    """What ends a job by an agreement of all processes, so that they may part in peace."""


def is_first() -> bool:
    """Whether this process writes and speaks."""
    return jax.process_index() == 0


def exchange(value: Any) -> list[Any]:
    """What each process has given, JSON values, in the order of the processes.

    Raises:
      Refused: a process gave a refusal instead (`together`); one line.
    """
    if jax.process_count() == 1:
        return [value]
    return _open(_letters(json.dumps({"value": value})))


def _open(letters: list[str]) -> list[Any]:
    found = [json.loads(letter) for letter in letters]
    for process, each in enumerate(found):
        if "refusal" in each:
            raise Refused(f"process {process}: {each['refusal']}", each["command"])
    return [each["value"] for each in found]


def _letters(text: str) -> list[str]:
    """The texts of all processes."""
    content = text.encode()
    length = np.frombuffer(np.int64(len(content)).tobytes(), np.uint8)
    first = np.zeros(LETTER, np.uint8)
    first[:8] = length
    first[8 : 8 + len(content)] = np.frombuffer(content, np.uint8)[: LETTER - 8]
    letters = _all(first)
    lengths = [int(np.frombuffer(letter[:8].tobytes(), np.int64)[0]) for letter in letters]
    if max(lengths) > LETTER - 8:
        whole = np.zeros(_round(max(lengths)), np.uint8)
        whole[: len(content)] = np.frombuffer(content, np.uint8)
        return [letter[:n].tobytes().decode() for letter, n in zip(_all(whole), lengths, strict=True)]
    return [letter[8 : 8 + n].tobytes().decode() for letter, n in zip(letters, lengths, strict=True)]


def together[T](function: Callable[[], T], *, first_only: bool = False) -> T | None:
    """Calls `function` in every process, or in the first alone, and goes on only where nobody refused.

    Returns:
      What this process's call returned; None where it was not called.

    Raises:
      Refused: a process raised UserError or OSError; all processes raise it, with one line.
    """
    if jax.process_count() == 1:
        return function()
    letter = {"value": None}
    found = None
    try:
        if is_first() or not first_only:
            found = function()
    except Refused:
        raise  # all have it already
    except (UserError, OSError) as error:
        command = getattr(error, "command", "")
        letter = {"refusal": " ".join(str(error).removesuffix(command).split()), "command": command}
    _open(_letters(json.dumps(letter)))
    return found


def from_first[T](function: Callable[[], T]) -> T:
    """What `function` returns in the first process, a JSON value, in all of them; refusals as in `together`."""
    return exchange(together(function, first_only=True))[0]


def in_turn[T](function: Callable[[], T]) -> T:
    """Calls `function` in the first process, then in the others: what it leaves in a shared cache, they find there."""
    found = together(function, first_only=True)
    rest = together(lambda: None if is_first() else function())
    return found if is_first() else rest


def same(value: Any, what: str) -> None:
    """Refuses where processes differ in `value`, a JSON value.

    Raises:
      Refused: one line.
    """
    found = exchange(value)
    for process, each in enumerate(found):
        if each != found[0]:
            raise Refused(f"process {process} has another {what} than process 0: {each} instead of {found[0]}")


def collect(part: np.ndarray) -> np.ndarray | None:
    """Parts of one shape and type, one from each process, laid end to end in the first; None in the others."""
    if jax.process_count() == 1:
        return part
    n = jax.process_count()
    content = _bytes(part)
    whole = np.empty((n, content.size), np.uint8) if is_first() else None
    for begin, piece in _pieces(content, PIECE // n):
        letters = _all(_padded(piece))
        if whole is not None:
            whole[:, begin : begin + piece.size] = letters[:, : piece.size]
    return None if whole is None else whole.reshape(-1).view(part.dtype).reshape(n * len(part), *part.shape[1:])


def broadcast(leaf: Any, like: Any) -> Any:
    """The first process's array in all of them, on the host.

    Args:
      leaf: looked at in the first process only.
      like: its `shape` and `dtype`, in every process.
    """
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return leaf
    content = _bytes(np.asarray(leaf)) if is_first() else np.empty(_size(like), np.uint8)
    found = np.empty_like(content)
    for begin, piece in _pieces(content, PIECE):
        said = multihost_utils.broadcast_one_to_all(_padded(piece), is_source=is_first())
        found[begin : begin + piece.size] = said[: piece.size]
    return found.view(like.dtype).reshape(like.shape)


def _size(like: Any) -> int:
    return int(np.prod(like.shape, dtype=np.int64)) * np.dtype(like.dtype).itemsize


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _pieces(content: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    return ((begin, content[begin : begin + size]) for begin in range(0, content.size, size))


def _round(size: int) -> int:
    """Up to a power of two: every length is a program of its own."""
    return max(LETTER, 1 << (size - 1).bit_length())


def _padded(piece: np.ndarray) -> np.ndarray:
    return np.pad(piece, (0, _round(piece.size) - piece.size))


def _all(content: np.ndarray) -> np.ndarray:
    """Bytes `[n]` of each process -> `[process, n]`, in all of them."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(content))
