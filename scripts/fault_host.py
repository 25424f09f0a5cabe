"""What scripts/faults.py does to a host: cuts a process off, fills the disk, takes memory away.

The first two happen in namespaces of the system's own, which end with it: nothing else on the machine is
touched. That takes root, `unshare` (util-linux), `nft` (nftables) and `ip` (iproute2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

DISK = "2200m"
"""Of the system's folder: more than `keymiss up` wants to find."""

MORE_BYTES = 64 << 20

_TOOLS = ("unshare", "nft", "ip", "mount")
_TABLE = "keymiss_faults"
_SOURCE = "127.77.77.77"
"""The address that the process's new connections come from, so that they are known."""


def why_not() -> str:
    """Why there can be no namespaces here; nothing where there can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"{', '.join(missing)} missing" if missing else "" if os.geteuid() == 0 else "not root"


def begin_again_in_namespaces(mark: str) -> NoReturn:
    """The same program with one more argument, in a network and a mount namespace of its own."""
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv, mark])


def set_up_network() -> None:
    """There is a loopback device only, and it is off."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """The folder is a disk of its own, in memory."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "keymiss-faults", str(folder)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Nothing more can be written on the folder's disk."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            block = bytes(1 << 20)
            while block:
                try:
                    file.write(block)
                except OSError:  # no room for so much
                    block = block[: len(block) // 2]
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextmanager
def cut_off(pid: int, ports: list[int]) -> Iterator[None]:
    """Packets to and from a process are lost: those of the ports where it listens, of the connections that it
    has made, and of what comes from `_SOURCE`, which its new ones are to have."""
    numbers = ", ".join(str(port) for port in sorted({*ports, *_ports_of_connections(pid)}))
    rules = (
        f"add table inet {_TABLE}",
        f"add chain inet {_TABLE} input {{ type filter hook input priority 0; }}",
        f"add rule inet {_TABLE} input tcp dport {{ {numbers} }} drop",
        f"add rule inet {_TABLE} input tcp sport {{ {numbers} }} drop",
        f"add rule inet {_TABLE} input ip saddr {_SOURCE} drop",
    )
    _nft("\n".join(rules))
    try:
        yield
    finally:
        _nft(f"delete table inet {_TABLE}")


@contextmanager
def no_more_memory(pids: list[int]) -> Iterator[None]:
    """These processes get some MiB more, and then none."""
    try:
        for pid in pids:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            _limit_memory(pid, str(pages * os.sysconf("SC_PAGESIZE") + MORE_BYTES))
        yield
    finally:
        for pid in pids:
            _limit_memory(pid, "unlimited")


def _limit_memory(pid: int, limit: str) -> None:
    """As the process's own user, who may do so. Nothing when it has ended."""
    with suppress(FileNotFoundError, subprocess.CalledProcessError):
        owner = Path(f"/proc/{pid}").stat()
        command = ["prlimit", "--pid", str(pid), f"--as={limit}:unlimited"]
        subprocess.run(
            command, check=True, timeout=10, user=owner.st_uid, group=owner.st_gid, extra_groups=[]
        )


def source_address() -> str:
    """For the process that is cut off."""
    return _SOURCE


def _nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=10)


def _ports_of_connections(pid: int) -> set[int]:
    """The local ports of its TCP connections (/proc/net/tcp: hexadecimal)."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(fd)
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].partition(":")[2], 16) for row in rows if row[9] in inodes}
