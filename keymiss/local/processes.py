"""The local processes and their supervisor: what runs, with which configuration, and how it is stopped.

supervisord (in the foreground of nothing: it daemonizes itself) keeps the Redis nodes, the worker, the
API, nginx and what keymiss/local/observe.py adds running and starts each again when it ends by itself. All of
it, and only it, carries the environment variable KEYMISS_STARTED_IN=<var folder>, or works in a folder of
it; that is how stop() finds what a killed supervisor left behind, without touching any other process of
the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keymiss.local.module_build import module_file
from keymiss.local.observe import LOOPBACK, observing_programs, prometheus_url, write_observing
from keymiss.local.programs import Program, escaped
from keymiss.local.redis_users import acl_file, environment_of, password_of
from keymiss.resources import PACKAGE, PROJECT
from keymiss.settings import SERVER_NAMES, Settings, server_program

MARK = "KEYMISS_STARTED_IN"
NODES = "redis"
"""The supervisor's group of the nodes that were there at its start. It cannot add to a group that runs: nodes
that are added have one of their own until it is started again."""
STOP_TIMEOUT_S = 120.0
"""Eight nodes that write their data to disk; supervisord stops one program after the other."""

REDIS_CONF = """\
# Generated at every start; change the template in keymiss/local/processes.py, or use CONFIG SET.
bind {host}
{ports}
dir {data}
pidfile {run}/redis-{port}.pid
daemonize no
loglevel notice
appendonly yes
appendfsync everysec
save ""
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 3000
cluster-require-full-coverage no
cluster-announce-ip {host}
# Answers and question vectors go first, and nothing else: nothing else has a time to live.
maxmemory-policy volatile-lru
# A model is one value of up to 2 GB, that a client may send in one command.
proto-max-bulk-len 2gb
client-query-buffer-limit 3gb
client-output-buffer-limit replica 4gb 4gb 60
repl-diskless-sync-delay 0
aclfile {users}
masteruser replica
masterauth {password}
loadmodule {module}
# The nodes have the blobs of models in memory once.
keymiss.model-folder {blobs}
"""

SUPERVISOR_CONF = """\
; Generated at every start by keymiss/local/processes.py
[supervisord]
logfile={log}/supervisord.log
logfile_maxbytes=10MB
pidfile={run}/supervisord.pid
childlogdir={log}
directory={project}
nocleanup=true
umask=077
environment={mark}="{var}",PYTHONUNBUFFERED="1",PYTHONPATH="{path}"

[unix_http_server]
file={run}/supervisor.sock
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{run}/supervisor.sock

{programs}"""

NODES_SECTION = """\
[program:{group}]
command={server} {run}/redis-%(process_num)d.conf
process_name=%(process_num)d
numprocs={count}
numprocs_start={first_port}
priority=10
autostart=true
stopwaitsecs=60
redirect_stderr=true
autorestart=true
startsecs=1
startretries=20
stdout_logfile={log}/redis-%(process_num)d.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2

"""
"""The names of the programs are the nodes' ports."""


TLS_CONF = """\
port 0
tls-port {port}
tls-cluster yes
tls-replication yes
tls-ca-cert-file "{folder}/ca.pem"
tls-cert-file "{folder}/node.pem"
tls-key-file "{folder}/node-key.pem"
# A user and a password say who a client is. The cluster bus wants a certificate always.
tls-auth-clients no"""


class StartError(RuntimeError):
    """Something could not be started; the text says what, and what its log says."""


def write_configuration(settings: Settings, added: Sequence[int] = ()) -> None:
    """Writes the nodes' and the supervisor's configuration into var/run. nginx's is made by render_nginx.

    `added`: ports of nodes that the supervisor that runs is to start in a group of their own.
    """
    for port in settings.ports:
        data = settings.data / str(port)
        data.mkdir(exist_ok=True)
        (settings.run / f"redis-{port}.conf").write_text(
            REDIS_CONF.format(
                host=settings.host,
                port=port,
                ports=_ports(settings, port),
                data=f'"{data}"',
                run=settings.run,
                users=f'"{acl_file(settings)}"',
                password=password_of(settings, "replica"),
                module=f'"{module_file(settings)}"',
                blobs=f'"{settings.blobs}"',
            )
        )
    if settings.observe:
        write_observing(settings)
    (settings.run / "supervisord.conf").write_text(
        SUPERVISOR_CONF.format(
            log=escaped(settings.log),
            run=escaped(settings.run),
            var=escaped(settings.var),
            project=escaped(PROJECT),
            path=escaped(PACKAGE.parent),
            mark=MARK,
            programs=_nodes_section(settings, NODES, settings.ports)
            + (_nodes_section(settings, _added_group(added), added) if added else "")
            + "".join(program.section(settings.log) for program in programs(settings)),
        )
    )


def _nodes_section(settings: Settings, group: str, ports: Sequence[int]) -> str:
    return NODES_SECTION.format(
        group=group,
        server=escaped(server_program(settings.server)),
        run=escaped(settings.run),
        log=escaped(settings.log),
        count=len(ports),
        first_port=ports[0],
    )


def _added_group(ports: Sequence[int]) -> str:
    return f"{NODES}-{ports[0]}"


def programs(settings: Settings) -> list[Program]:
    """The programs besides the nodes, as they are started."""
    python = f'"{sys.executable}"'
    nodes = ",".join(f"{settings.host}:{port}" for port in settings.ports)
    prometheus = {"KEYMISS_API_PROMETHEUS_URL": prometheus_url(settings)} if settings.observe else {}
    metrics = f"--metrics-host {LOOPBACK} --metrics-port {settings.worker_metrics_port}"
    libraries = f'--library-socket "{settings.run}/libraries.sock"'
    return [
        Program(
            "worker",
            f"{python} -m keymiss.worker --nodes {nodes} {metrics} {libraries}",
            20,
            stop_s=40,
            environment=environment_of(settings, "worker"),
        ),
        Program(
            "api",
            f"{python} -m keymiss.api --host {settings.host} --port {settings.api_port} --nodes {nodes}",
            30,
            environment=environment_of(settings, "api") | prometheus,
        ),
        Program(
            "nginx",
            f'nginx -e stderr -p "{settings.var}/nginx" -c "{settings.run}/nginx.conf"',
            40,
            signal="QUIT",
            folder=settings.var / "nginx",
        ),
        *observing_programs(settings),
    ]


def _ports(settings: Settings, port: int) -> str:
    if not settings.tls:
        return f"port {port}"
    return TLS_CONF.format(port=port, folder=settings.tls_authority.parent)


class Supervisor:
    """The supervisord of one var folder, over its Unix socket."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.socket = settings.run / "supervisor.sock"

    def _call(self, method: str, *args: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*args)
        finally:
            transport.close()

    def running(self) -> bool:
        """True when a supervisor answers on the socket. StartError when it is not this user's."""
        try:
            return bool(self._call("getState")["statename"] in ("RUNNING", "RESTARTING"))
        except PermissionError:
            raise StartError(
                f"The system in {self.settings.var} is another user's: run this as root or as that user."
            ) from None
        except (OSError, xmlrpc.client.Error):
            return False

    def launch(self) -> None:
        """Starts supervisord, which starts the Redis nodes. Raises StartError."""
        command = [
            sys.executable,
            "-m",
            "supervisor.supervisord",
            "-c",
            str(self.settings.run / "supervisord.conf"),
        ]
        started = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, MARK: str(self.settings.var)}
        )
        if started.returncode:
            raise StartError(f"supervisord did not start: {(started.stderr + started.stdout).strip()[-500:]}")

    def states(self) -> dict[str, tuple[str, str]]:
        """name -> (state, description), as 'redis:30001' -> ('RUNNING', 'pid 12, uptime 0:01:00')."""
        return {_shown(p): (p["statename"], p["description"]) for p in self._processes()}

    def _processes(self) -> list[dict[str, Any]]:
        """Without nodes that left, which the supervisor keeps until it is started again."""
        found: list[dict[str, Any]] = self._call("getAllProcessInfo")
        ports = set(map(str, self.settings.ports))
        return [
            p for p in found if not (_is_node(p) and p["statename"] == "STOPPED" and p["name"] not in ports)
        ]

    def _node_names(self, ports: Sequence[int]) -> list[str]:
        """Of those that it knows, as it calls them."""
        known = {
            p["name"]: f"{p['group']}:{p['name']}" for p in self._call("getAllProcessInfo") if _is_node(p)
        }
        return [known[str(port)] for port in ports if str(port) in known]

    def add_nodes(self, ports: Sequence[int]) -> None:
        """Starts nodes that write_configuration was told of; all else goes on as it is."""
        if names := self._node_names(ports):  # they were there before
            for name in names:
                self.start(name)
            return
        self._call("reloadConfig")
        self._call("addProcessGroup", _added_group(ports))

    def remove_nodes(self, ports: Sequence[int]) -> None:
        """Stops them for good."""
        for name in self._node_names(ports):
            self._call("stopProcess", name)
        if ports and self._node_names(ports[:1]) == [f"{_added_group(ports)}:{ports[0]}"]:
            self._call("removeProcessGroup", _added_group(ports))

    def start(self, name: str) -> None:
        """Starts one program and waits until it has run for a second. Raises StartError (with its log)."""
        try:
            self._call("startProcess", name, True)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise StartError(f"{name} did not start: {fault.faultString}\n{self.tail(name)}") from None

    def reload(self) -> None:
        """Reads the configuration anew and takes up what is new or changed in it; the nodes are left alone.

        A changed program is stopped; nothing is started.
        """
        added, changed, _removed = self._call("reloadConfig")[0]
        for name in changed:
            if name != NODES:
                self._call("stopProcessGroup", name)
                self._call("removeProcessGroup", name)
                added.append(name)
        for name in added:
            self._call("addProcessGroup", name)

    def tail(self, name: str, size: int = 2000) -> str:
        """The end of a program's log."""
        path = self.settings.log / f"{name.replace(':', '-')}.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else ""

    def stop(self) -> bool:
        """Stops all programs and supervisord, last started first; then whatever a killed supervisor had left.

        Returns False when nothing of this var folder ran.
        """
        pids = processes_of(self.settings.var)
        if not pids and not self.running():
            return False
        if self.running():
            supervisor = self._call("getPID")
            self._call("shutdown")
            _wait_gone(self.settings.var, STOP_TIMEOUT_S, supervisor)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in processes_of(self.settings.var):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            _wait_gone(self.settings.var, 30.0)
        return True


def _is_node(process: Mapping[str, Any]) -> bool:
    return str(process["group"]).partition("-")[0] == NODES


def _shown(process: Mapping[str, Any]) -> str:
    if _is_node(process):
        return f"{NODES}:{process['name']}"
    return str(process["name"])


def processes_of(var: Path) -> list[int]:
    """Ids of the processes that were started in this var folder.

    Known by the mark in their environment; redis-server and nginx write their titles over theirs, and are
    known by their name and the folder they work in, which no other process of that name has.
    """
    mark = f"{MARK}={var}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") or _works_in(entry, var):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _works_in(process: Path, var: Path) -> bool:
    name = (process / "comm").read_text().strip()
    folder = (process / "cwd").readlink()
    if name == "nginx":
        return folder == var / "nginx"
    return name in SERVER_NAMES and folder.parent == var / "data"


def _wait_gone(var: Path, timeout_s: float, which: int | None = None) -> None:
    """One of the processes, or all."""
    deadline = time.monotonic() + timeout_s
    while (left := processes_of(var)) and which in (None, *left) and time.monotonic() < deadline:
        time.sleep(0.1)
