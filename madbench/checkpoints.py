"""Save, resume, refuse what does not belong.

A checkpoint is an Orbax pytree and, beside it, a manifest that is written last: without it, or where the arrays do not
have its hash, the checkpoint does not count and the one before it does.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from madbench import results
from madbench.errors import UserError

Shard = tuple[int, int]  # (i, n): share i, from 1, of n


@dataclasses.dataclass(frozen=True, order=True)
class Progress:
    """The next thing to do: `segment` of the fit of `generation` (from 1) in `wave`. Segment 0 begins a generation."""

    wave: int
    generation: int
    segment: int

    @property
    def name(self) -> str:
        return f"wave{self.wave:04d}-generation{self.generation:06d}-segment{self.segment:02d}"


class Checkpoints:
    """The newest `keep` checkpoints under one directory."""

    def __init__(self, directory: pathlib.Path, keep: int):
        self._directory = directory
        self._keep = keep

    def save(self, progress: Progress, tree: Any) -> None:
        """Writes host arrays; when this returns they are safe from a kill.

        All but the newest go: older ones, what a kill cut short, and later ones that could not be used.
        """
        self._directory.mkdir(exist_ok=True)
        leaves = _leaves(tree)
        path = self._directory / progress.name
        self._manifest(path).unlink(missing_ok=True)
        _save(path.absolute(), leaves)
        results.write_object(self._manifest(path), {**dataclasses.asdict(progress), "sha256": _digest(leaves)})
        kept = [name for name in self._names() if name <= progress.name][-self._keep :]
        for entry in sorted(self._directory.iterdir(), key=pathlib.Path.is_dir):  # manifests before their arrays
            if entry.name.removesuffix(".json") not in kept:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()

    def restore(self, like: Callable[[Progress], Any], warn: Callable[[str], None]) -> Iterator[tuple[Progress, Any]]:
        """Checkpoints that can be used, newest first.

        Args:
          like: the structure that a checkpoint at this progress must have: a pytree of shapes.
          warn: told, in one line, of each that cannot be used.
        """
        for name in reversed(self._names()):
            path = self._directory / name
            try:
                manifest = json.loads(self._manifest(path).read_text())
                progress = Progress(manifest["wave"], manifest["generation"], manifest["segment"])
                if progress.name != name:
                    raise ValueError("its manifest is another's")
                leaves = _load(path.absolute())
                if _digest(leaves) != manifest["sha256"]:
                    raise ValueError("its arrays are not those that were saved")
                shapes, structure = jax.tree.flatten(like(progress))
                arrays = [leaves[key] for key in sorted(leaves)]
                if [(a.shape, a.dtype) for a in arrays] != [(s.shape, s.dtype) for s in shapes]:
                    raise ValueError("its arrays have other shapes than this run")
            except Exception as error:  # Orbax raises what its storage raises: any failure means "not this one"
                reason = " ".join(str(error).split())[:120] or type(error).__name__
                warn(f"checkpoint {name} is damaged ({reason}); trying the one before")
                continue
            yield progress, jax.tree.unflatten(structure, arrays)

    def _names(self) -> list[str]:
        return sorted(p.name.removesuffix(".json") for p in self._directory.glob("wave*.json"))

    @staticmethod
    def _manifest(path: pathlib.Path) -> pathlib.Path:
        return path.with_name(path.name + ".json")


def _save(path: pathlib.Path, leaves: dict[str, np.ndarray]) -> None:
    """One of several processes saves by Orbax's older interface: the newer waits for the others, which have given what
    they had and know nothing of files. The newer one reads what either writes."""
    if jax.process_count() == 1:
        from orbax.checkpoint import v1

        v1.save(path, leaves, overwrite=True)
        return
    import orbax.checkpoint as orbax

    options = orbax.options.MultiprocessingOptions(**_alone())
    handler = orbax.PyTreeCheckpointHandler(multiprocessing_options=options)
    with orbax.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        checkpointer.save(path, args=orbax.args.PyTreeSave(leaves), force=True)


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    from orbax.checkpoint import v1

    context = v1.Context()
    if jax.process_count() > 1:
        for name, value in _alone().items():
            setattr(context.multiprocessing, name, value)
    with context:
        return {name: np.asarray(leaf) for name, leaf in v1.load(path).items()}


def _alone() -> dict[str, Any]:
    """Orbax's options for a process that reads and writes without the others of its job."""
    me = jax.process_index()
    return {"primary_host": me, "active_processes": {me}, "barrier_sync_key_prefix": "madbench"}


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    return {f"{i:06d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _digest(leaves: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for key in sorted(leaves):
        array = np.ascontiguousarray(leaves[key])
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class WorkdirError(UserError):
    """A workdir that cannot be used; the message is one line for the user."""


class Lock:
    """One process at a time on a workdir. The kernel lets go when the process ends, however it ends."""

    def __init__(self, workdir: pathlib.Path):
        self._file = open(workdir / ".lock", "a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # some NFS says the second
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise WorkdirError(
                f"{workdir} is in use by process {holder or '?'}; wait for it, or choose another --workdir"
            ) from None
        except OSError:  # a file system without locks, as some that are mounted over a network: it goes on without
            pass
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def claim(workdir: pathlib.Path, config: dict[str, Any], shard: Shard | None = None) -> Lock:
    """Makes `workdir` where there is none, locks it, and sees that it belongs to `config`, and to this share of it.

    Raises:
      WorkdirError: it cannot be written, another process has it, it belongs to another config, or it holds something
        else; one line.
    """
    try:
        if workdir.is_dir() and not (workdir / "config.json").exists():
            foreign = [p.name for p in workdir.iterdir() if p.name != ".lock" and not p.name.endswith(".tmp")]
            if foreign:
                raise WorkdirError(f"{workdir} holds other files ({foreign[0]}); choose another --workdir")
        workdir.mkdir(parents=True, exist_ok=True)
        lock = Lock(workdir)
    except OSError as error:
        raise WorkdirError(f"cannot write to {workdir}: {error.strerror or error}; choose another --workdir") from None
    try:
        _match(workdir / "config.json", config, shard)
    except BaseException:
        lock.release()
        raise
    return lock


def _match(path: pathlib.Path, config: dict[str, Any], shard: Shard | None) -> None:
    if not path.exists():
        which = {"shard": list(shard)} if shard else {}
        results.write_object(path, {"sha256": results.config_hash(config), **which, "config": config})
        return
    try:
        content = json.loads(path.read_text())
        found, begun = dict(content["config"]), content.get("shard")
    except (OSError, ValueError, KeyError, TypeError):
        raise WorkdirError(f"{path} cannot be read; choose another --workdir") from None
    if results.what(found) != results.what(config):
        difference = _difference(*({"strategy": results.NO_STRATEGY} | results.what(c) for c in (found, config)))
        raise WorkdirError(f"{path.parent} belongs to another config: {difference}; choose another --workdir")
    if begun != (list(shard) if shard else None):
        held = f"share --shard={begun[0]}/{begun[1]}" if begun else "the whole of this job, without --shard"
        raise WorkdirError(f"{path.parent} holds {held}; say so again, or choose another --workdir")


def _difference(old: Any, new: Any, name: str = "config") -> str:
    """The first field in which two configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        first = ("task", "data", "model", "strategy")  # what tells most
        for key in sorted(old.keys() | new.keys(), key=lambda k: (k not in first, k)):
            if old.get(key) != new.get(key):
                return _difference(old.get(key), new.get(key), f"{name}.{key}")
    return f"{name} is {old!r} there and {new!r} here"
