"""Files that take their place when they are whole; and what killed processes leave of theirs, cleared away.

A draft lies beside its place as `.NAME.KERNEL.RANDOM.tmp` and is locked (`flock`) until it has taken it. The system
frees a lock when its process ends in any way, so a draft that can be locked belongs to nobody, and no number of a
process can be mistaken for another's. That is sure only where both run under one kernel: a network's file system may
keep locks to each machine (NFS mounted with `nolock` or `local_lock`, Lustre without `flock`). So a draft names the
boot of the kernel that writes it, and one of another kernel is cleared only after a week without a byte, by the file
server's own clock: a preparation writes every few seconds. What cannot be locked, or looked at, stays.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import platform
import uuid

FOREIGN_AFTER = 7 * 24 * 3600.0  # seconds without a byte


def _kernel() -> str:
    """8 hexadecimal digits, of this boot of this machine; of its name where the system tells no boot."""
    try:
        text = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        text = platform.node()
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Draft:
    """A file under a name of its own, which takes its place when all went well, and otherwise is removed.

    Attributes:
      path: its place.
      file: to write into, in bytes; within the context.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __enter__(self):
        while True:
            self.draft = self.path.with_name(f".{self.path.name}.{_kernel()}.{uuid.uuid4().hex}.tmp")
            self.file = open(self.draft, "wb")
            self._lock = os.dup(self.file.fileno())  # keeps the lock while the file is closed and moved
            with contextlib.suppress(OSError):  # where there are no locks, others leave it alone for a week
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.fstat(self._lock).st_nlink:
                return self
            self.file.close()  # somebody locked, and cleared, it between two lines
            os.close(self._lock)

    def __exit__(self, kind, *_):
        try:
            self.file.close()  # may still write, and find the disk full
            if kind is None:
                os.replace(self.draft, self.path)
        finally:
            self.draft.unlink(missing_ok=True)  # gone where it took its place
            os.close(self._lock)


def clear(mine: Draft) -> None:
    """Removes what killed processes have left in the folder of a draft of ours, whose time is the file server's."""
    now = os.fstat(mine.file.fileno()).st_mtime
    for file in mine.path.parent.glob(".*.tmp"):
        with contextlib.suppress(OSError), open(file, "rb+") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused where somebody writes it: ours too
            ours = f".{_kernel()}." in file.name
            if ours or now - os.fstat(other.fileno()).st_mtime > FOREIGN_AFTER:
                file.unlink()
