"""The folders of var: who owns them, and that nobody else reads them.

Those that the processes write are theirs, with all that is in them, closed to everybody else. When root
starts the processes, var itself, the project's copy and the models stay root's, open to the processes' group:
so root never writes where they could put a link.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from keymiss.local.process_user import ProcessUser
from keymiss.settings import Settings

THEIRS = ("run", "log", "data", "blobs", "secrets", "tls", "nginx", "prometheus", "grafana")
SHARED = ("app", "models")


def make_folders(settings: Settings, user: ProcessUser | None) -> None:
    """Makes what is missing, and gives to the processes' user (None: the caller) what is somebody else's."""
    uid, gid = (user.uid, user.gid) if user else (os.geteuid(), os.getegid())
    var = settings.var
    if new := not var.exists():
        var.mkdir(parents=True)
    if new or (user and var.stat().st_uid == uid):  # else a folder that was given, maybe for others too
        _open_to_group(var, user)
    for name in SHARED if user else ("models",):
        (var / name).mkdir(exist_ok=True)
        _open_to_group(var / name, user)
    for name in THEIRS:
        (var / name).mkdir(mode=0o700, exist_ok=True)
        _take(var / name, uid, gid)


def _open_to_group(folder: Path, user: ProcessUser | None) -> None:
    if user:
        os.chown(folder, 0, user.gid)
        folder.chmod(0o750)
    elif folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


def _take(folder: Path, uid: int, gid: int) -> None:
    """No link is followed, and a file of a second name is left: its other name may be somewhere else."""
    for _, folders, files, at in os.fwalk(folder):
        _take_one(at, uid, gid)
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and (found.st_uid != uid or found.st_mode & 0o077):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
                try:
                    _take_one(file, uid, gid)
                finally:
                    os.close(file)


def _take_one(file: int, uid: int, gid: int) -> None:
    found = os.fstat(file)
    if not (stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)):
        return
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(file, uid, gid)
    if found.st_mode & 0o077:
        os.fchmod(file, stat.S_IMODE(found.st_mode) & 0o700)
