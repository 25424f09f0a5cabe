"""What must be so before anything is started: free ports, memory, disk, programs, short paths.

Each finding is one sentence that says what to do.
"""

from __future__ import annotations

import errno
import shutil
import socket
import sys
import time
from pathlib import Path

from keymiss.local.observe import LOOPBACK, find_exporter, find_grafana, find_prometheus
from keymiss.local.process_user import process_user, user_problems
from keymiss.settings import BUS_PORT_OFFSET, PROJECT, SERVER_BINARIES, Settings

MIN_MEMORY_BYTES = 2 << 30
"""Eight nodes with the embedded reader (90 MB of model each), the worker and the API take 1.5 GiB."""
MIN_DISK_BYTES = 2 << 30
PASSING_S = 65.0
"""Linux keeps a connection's port for 60 s after its close (TCP_TIMEWAIT_LEN): till then none can listen."""
MAX_SOCKET_PATH_BYTES = 107
"""sun_path of a Unix socket (sys/un.h), less the closing NUL."""


def port_in_use(host: str, port: int, passing_s: float = PASSING_S) -> bool:
    """True when something listens on host:port, or the address cannot be bound.

    The nodes' bus ports are among those that a kernel gives to outgoing connections, as a download's of a
    moment ago: one that nobody listens on is waited for, passing_s at most, which stderr says.
    """
    deadline_s = time.monotonic() + passing_s
    said = False
    while (why := _why_not_listen(host, port)) is not None:
        if why.errno != errno.EADDRINUSE or _answers(host, port) or time.monotonic() >= deadline_s:
            return True
        if not said:
            print(
                f"Port {port} is that of a passing connection: waiting {passing_s:.0f} s at most.",
                file=sys.stderr,
            )
            said = True
        time.sleep(0.1)
    return False


def _why_not_listen(host: str, port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def available_memory_bytes() -> int:
    """What /proc/meminfo calls available, or what the control group (v2) still allows if that is less."""
    available = 1 << 62
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        inactive = next(
            int(line.split()[1])
            for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
        if limit != "max":
            available = min(available, int(limit) - used + inactive)
    except (OSError, ValueError, StopIteration):
        pass
    return available


def free_disk_bytes(folder: Path) -> int:
    """Free bytes on the file system that folder is, or will be, on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _port_is_used(number: int, what: str, name: str) -> str:
    return f"Port {number} (for {what}) is in use: free it, or set {name} to another one."


def observing_problems(settings: Settings) -> list[str]:
    """The same for what --observe starts."""
    found = []
    ports = [
        ("KEYMISS_PROMETHEUS_PORT", settings.prometheus_port, "Prometheus"),
        ("KEYMISS_EXPORTER_PORT", settings.exporter_port, "the Redis exporter"),
    ]
    if find_grafana():
        ports.append(("KEYMISS_GRAFANA_PORT", settings.grafana_port, "Grafana"))
    for name, number, what in ports:
        if port_in_use(LOOPBACK, number):
            found.append(_port_is_used(number, what, name))
    for program, path in (("prometheus", find_prometheus()), ("prometheus-redis-exporter", find_exporter())):
        if not path:
            found.append(
                f"{program} is not installed: install it with your package manager, run scripts/start.sh "
                "--observe as root, or start without --observe."
            )
    return found


def problems(settings: Settings) -> list[str]:
    """Sentences on what stands in the way of a start; empty when nothing does."""
    user = process_user(settings)
    found = user_problems(settings, user) if user else []
    for port in settings.ports:
        for number, what in ((port, "a Redis node"), (port + BUS_PORT_OFFSET, "its cluster bus")):
            if port_in_use(settings.host, number):
                found.append(
                    f"Port {number} (for {what}) is in use: free it, or set KEYMISS_BASE_PORT "
                    "to another port."
                )
    for name, number, what, host in (
        ("KEYMISS_API_PORT", settings.api_port, "the API", settings.host),
        ("KEYMISS_HTTPS_PORT", settings.https_port, "nginx", "0.0.0.0"),
        ("KEYMISS_WORKER_METRICS_PORT", settings.worker_metrics_port, "the worker's metrics", LOOPBACK),
    ):
        if port_in_use(host, number):
            found.append(_port_is_used(number, what, name))
    if settings.observe:
        found += observing_problems(settings)
    for program in (SERVER_BINARIES[settings.server], "nginx", "openssl"):
        if not shutil.which(program):
            found.append(f"{program} is not installed: install it with your package manager, or run as root.")
    if not (PROJECT / "module" / "keymiss.so").exists():
        found.append("module/keymiss.so is not built: run make -C module.")
    memory, disk = available_memory_bytes(), free_disk_bytes(settings.var)
    if memory < MIN_MEMORY_BYTES:
        found.append(
            f"Only {memory / 2**30:.1f} GiB of memory are available and {MIN_MEMORY_BYTES >> 30} are needed: "
            "stop other programs or use a larger machine."
        )
    if disk < MIN_DISK_BYTES:
        found.append(
            f"Only {disk / 2**30:.1f} GiB of disk are free at {settings.var} and {MIN_DISK_BYTES >> 30} are "
            "needed: free some, or set KEYMISS_VAR to a folder on another disk."
        )
    if len(bytes(settings.run / "supervisor.sock")) > MAX_SOCKET_PATH_BYTES - 24:
        found.append(f"The path {settings.var} is too long for a socket: set KEYMISS_VAR to a shorter one.")
    return found
