"""Processes that share memory: which there are, and what each takes."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
MADV_DONTNEED = 4
M_ARENA_MAX = -8  # of malloc.h


def share_arenas() -> None:
    """Two of malloc's for all threads: each would have its own, and keep there what was freed, and they take
    turns anyhow, for Python's lock. To be called before there are threads."""
    _libc.mallopt(M_ARENA_MAX, 2)


def release_freed() -> None:
    """What this process has freed and kept goes back to the system."""
    _libc.malloc_trim(0)


def unmap_files() -> None:
    """For a process that only forks others from now on: pages of libraries, which only starting and loading
    needed, and which were never written to. What is needed all the same comes back from the file."""
    at = size = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            begin, _, end = name.partition("-")
            read_only = rest[:2] == "r-" and ".so" in rest
            at, size = int(begin, 16), int(end, 16) - int(begin, 16) if read_only else 0
        elif name == "Anonymous:" and size and rest.split()[0] == "0":
            _libc.madvise(at, size, MADV_DONTNEED)


def family_of(pid: int) -> list[int]:
    """A process and all that it forked, and those forked, as far as they are there."""
    if not (tasks := Path(f"/proc/{pid}/task")).exists():
        return []
    children: list[str] = []
    with suppress(OSError):  # it ends meanwhile
        for thread in tasks.iterdir():
            with suppress(OSError):
                children += (thread / "children").read_text().split()
    return [pid, *(one for child in children for one in family_of(int(child)))]


def is_for_models(pid: int) -> bool:
    """Whether it is one of `library_process`."""
    try:
        return b"keymiss.worker.model_processes" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False


def memory_of(pid: int) -> int:
    """Bytes; what several processes share counts for each in part. 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
