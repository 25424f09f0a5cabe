"""What becomes of questions and articles when parts of a system fail, as a table (docs/guarantees.md).

    PYTHONPATH=. .venv/bin/python scripts/faults.py [--only NAME ...] [--json FILE]

Starts a system of its own (four masters with a replica each, the real reader, the sample corpus), puts it
under load, breaks one thing after the other and waits until nothing is missing any more. Nothing else on
the machine is touched. About ten minutes. Cut off and full disks (fault_host.py) are left out where there can
be no namespaces. Exit code 1 when anything was wrong, lost or hung, or did not come back.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import fault_host
import httpx
import redis
import typer
from fault_load import HUNG_S, Load, counts, is_as_idle
from redis.cluster import RedisCluster
from rich.console import Console
from rich.table import Table

from keymiss.keys import SENTENCE_PREFIX
from keymiss.local.certificates import local_tls
from keymiss.local.cluster_access import connect
from keymiss.local.preflight import port_in_use
from keymiss.local.processes import Supervisor, processes_of
from keymiss.local.redis_users import credentials_for, password_of
from keymiss.settings import BUS_PORT_OFFSET, Settings
from keymiss.worker.model_processes.memory import is_for_models

PROJECT = Path(__file__).resolve().parent.parent
QUESTIONS = PROJECT / "data" / "sample-questions.json"
QUIET_S = 6.0  # without anything missing: it is whole again
WHOLE_LIMIT_S = 120.0
DONE_LIMIT_S = 120
AGAIN_LIMIT_S = 30.0
PAUSED_S = 10.0  # more than the node timeout of 3 s
MIB = 1 << 20
ENDLESS = "while True:\n    pass"
GREEDY = "held = []\nwhile True:\n    held.append(bytes(1 << 20))"
MASTER_CUT_OFF, DISK_FULL = "master cut off for 10 s", "disk full for 10 s"
OF_THE_HOST = {MASTER_CUT_OFF, DISK_FULL}
SCRIPT_TIMEOUT_MS = 300_000


@dataclass
class Row:
    """What a fault came to. `whole_s`: from its beginning to the last reply that was not whole; `slowest_s`:
    of the whole replies, the one that took longest."""

    fault: str
    whole_s: float
    watched_s: float
    whole: int
    whole_a_second: float
    slowest_s: float
    partial: int
    refused: dict[str, int]
    wrong: int
    hung: int
    lost: int
    acknowledged: int
    came_back: bool
    said: list[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong, hung or lost, and all came back."""
        return self.came_back and not (self.wrong or self.hung or self.lost)


class System:
    """A local system in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        base = free_base_port(16)
        self.env = {
            "KEYMISS_VAR": str(folder),
            "KEYMISS_BASE_PORT": str(base),
            "KEYMISS_MASTERS": "4",
            "KEYMISS_REPLICAS": "1",
            "KEYMISS_API_PORT": str(base + 10),
            "KEYMISS_HTTPS_PORT": str(base + 11),
            "KEYMISS_WORKER_METRICS_PORT": str(base + 12),
            "KEYMISS_API_ADMIN_KEY": secrets.token_hex(16),
        }
        os.environ |= self.env
        self.settings = Settings.from_env()
        self.supervisor = Supervisor(self.settings)
        self.url = f"https://localhost:{base + 11}"

    def keymiss(self, *args: str, limit_s: float = 600) -> None:
        """Runs the command line."""
        done = subprocess.run(
            [sys.executable, "-m", "keymiss.cli", *args],
            capture_output=True,
            text=True,
            timeout=limit_s,
            cwd=PROJECT,
        )
        if done.returncode:
            raise SystemExit(
                f"keymiss {' '.join(args)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )

    def pid(self, program: str) -> int:
        """Of a program of the supervisor's; raises KeyError while it does not run."""
        state, description = self.supervisor.states()[program]
        if state != "RUNNING":
            raise KeyError(program)
        return int(description.split()[1].rstrip(","))

    def model_processes(self) -> list[int]:
        """The first one forked the others; perhaps for a worker that died."""
        return sorted(filter(is_for_models, processes_of(self.settings.var)))

    def kill(self, program: str, number: int = signal.SIGKILL) -> None:
        """Sends it a signal."""
        os.kill(self.pid(program), number)

    def node(self, port: int) -> redis.Redis:
        """A client that may everything."""
        host = self.settings.host
        options = credentials_for([(host, port)]).client_options
        return redis.Redis(host, port, socket_timeout=20, decode_responses=True, **options)

    def cluster(self) -> RedisCluster:
        """A client of the cluster."""
        return connect(",".join(f"{self.settings.host}:{port}" for port in self.settings.ports))

    def masters(self) -> list[tuple[int, list[int]]]:
        """Ports of the masters, each with its replicas'."""
        for port in self.settings.ports:
            try:
                with self.node(port) as client:
                    slots = client.execute_command("CLUSTER SLOTS")
            except (redis.RedisError, OSError):
                continue
            found: dict[int, list[int]] = {}
            for _, _, master, *replicas in slots:
                found[master[1]] = [replica[1] for replica in replicas]
            return sorted(found.items())
        raise SystemExit("no node says who the masters are")

    def all_nodes_agree(self) -> bool:
        """Whether every node calls the cluster whole."""
        for port in self.settings.ports:
            with self.node(port) as client:
                if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    return False
        return True

    def redis_cli(self, command: str, *args: str) -> None:
        """redis-cli --cluster."""
        tls = local_tls(self.settings)
        line = [
            "redis-cli",
            *(tls.program_arguments if tls else ()),
            "--user",
            "admin",
            "--no-auth-warning",
            "--cluster",
            command,
            *args,
        ]
        env = {**os.environ, "REDISCLI_AUTH": password_of(self.settings, "admin")}
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, env=env)
        if done.returncode:
            raise SystemExit(f"{' '.join(line)}: {done.stdout[-1500:]}{done.stderr[-500:]}")


def free_base_port(count: int) -> int:
    """So many ports from it on, and those of the cluster bus, are free."""
    for base in range(31001, 45000, 50):
        ports = [base + bus + i for i in range(count) for bus in (0, 10000)]
        if not any(port_in_use("127.0.0.1", port, passing_s=0) for port in ports):
            return base
    raise SystemExit("no free ports")


# ---- the faults: each does it, and undoes what does not end by itself

Fault = Callable[[System], None]


def nothing(_system: System) -> None:
    """What the load alone makes; with --clients, what overload does."""
    time.sleep(PAUSED_S)


def worker_killed(system: System) -> None:
    """The supervisor starts it again."""
    system.kill("worker")


def worker_stopped(system: System) -> None:
    """As by a debugger, or by a machine that swaps."""
    _pause(system, system.pid("worker"))


def _pause(system: System, *pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(PAUSED_S)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def model_process_killed(system: System) -> None:
    """As by the kernel when memory is short: each process that runs models."""
    for pid in reversed(system.model_processes()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def functions_without_end(system: System) -> None:
    """One on each master; each is ended when its time limit of 3 s is over."""
    clients = [system.node(port) for port, _ in system.masters()]
    for client in clients:
        client.config_set("keymiss.script-timeout-ms", 3000)
    calls = [threading.Thread(target=_never_ends, args=(client,)) for client in clients]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    for client in clients:
        client.config_set("keymiss.script-timeout-ms", SCRIPT_TIMEOUT_MS)
        client.close()


def _never_ends(client: redis.Redis) -> None:
    with suppress(redis.ResponseError):  # TIMEOUT
        client.execute_command("RG.PYEXECUTE", ENDLESS)


def master_killed(system: System) -> None:
    """The supervisor starts it again, from its append-only file."""
    system.kill(f"redis:{system.masters()[0][0]}")


def master_and_replica_killed(system: System) -> None:
    """Both at once."""
    master, replicas = system.masters()[1]
    for port in (master, *replicas):
        system.kill(f"redis:{port}")


def master_paused(system: System) -> None:
    """For longer than the node timeout: its replica takes over, and it comes back as one."""
    _pause(system, system.pid(f"redis:{system.masters()[2][0]}"))


def master_and_replica_paused(system: System) -> None:
    """Nobody can take over."""
    master, replicas = system.masters()[0]
    _pause(system, *(system.pid(f"redis:{port}") for port in (master, *replicas)))


def master_cut_off(system: System) -> None:
    """Nobody reaches it, and it reaches nobody; it goes on running, and comes back."""
    master, _ = system.masters()[1]
    source = "bind-source-addr"
    with system.node(master) as client:
        client.config_set(source, fault_host.source_address())
        with fault_host.cut_off(system.pid(f"redis:{master}"), [master, master + BUS_PORT_OFFSET]):
            time.sleep(PAUSED_S)
    _wait(lambda: _answers(system, master), "the node that was cut off answers")
    with system.node(master) as client:
        client.config_set(source, "")


def _answers(system: System, port: int) -> bool:
    with system.node(port) as client:
        return bool(client.ping())


def disk_full(system: System) -> None:
    """Nodes rewrite their append-only files meanwhile; logs cannot be written either. When there is room
    again, the files are made anew, as docs/operations.md says."""
    with fault_host.full(system.settings.var):
        for port in system.settings.ports:
            with system.node(port) as client, suppress(redis.ResponseError):  # it cannot begin
                client.execute_command("BGREWRITEAOF")
        time.sleep(PAUSED_S)
    for port in system.settings.ports:
        _wait(lambda port=port: _has_new_file(system, port), f"the node on port {port} has a new file")  # type: ignore[misc]


def _has_new_file(system: System, port: int) -> bool:
    with system.node(port) as client:
        before = client.info("persistence")
        if before["loading"] or before["aof_rewrite_in_progress"] or before["aof_rewrite_scheduled"]:
            return False
        client.execute_command("BGREWRITEAOF")
        _wait(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "it is written")
        return str(client.info("persistence")["aof_last_bgrewrite_status"]) == "ok"


def memory_of_the_worker_used_up(system: System) -> None:
    """It gets no more memory for ten seconds (a limit of its address space), and a function wants much."""
    with fault_host.no_more_memory([system.pid("worker"), *system.model_processes()]):
        with system.node(system.masters()[0][0]) as client, suppress(redis.ResponseError):
            client.execute_command("RG.PYEXECUTE", GREEDY)
        time.sleep(PAUSED_S)


def slots_moved(system: System) -> None:
    """500 from one master to another, by redis-cli."""
    (source, _), (target, _) = system.masters()[:2]
    ids = []
    for port in (source, target):
        with system.node(port) as client:
            ids.append(str(client.execute_command("CLUSTER MYID")))
    wanted = ("--cluster-from", ids[0], "--cluster-to", ids[1], "--cluster-slots", "500", "--cluster-yes")
    system.redis_cli("reshard", f"{system.settings.host}:{source}", *wanted)


def api_killed(system: System) -> None:
    """The supervisor starts it again."""
    system.kill("api")


def nginx_reloaded(system: System) -> None:
    """New configuration."""
    system.kill("nginx", signal.SIGHUP)


def nginx_killed(system: System) -> None:
    """The supervisor starts it again."""
    system.kill("nginx", signal.SIGTERM)


def memory_reached(system: System) -> None:
    """maxmemory, 1 MiB above what is used, for ten seconds, on every master (volatile-lru)."""
    ports = [port for port, _ in system.masters()]
    for port in ports:
        with system.node(port) as client:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + MIB)
    time.sleep(PAUSED_S)
    for port in ports:
        with system.node(port) as client:
            client.config_set("maxmemory", 0)


def nodes_restarted_one_by_one(system: System) -> None:
    """As for a new module: replicas, then each master when its replica has taken over; the worker last."""
    replicas_of = system.masters()
    for port in [replica for _, replicas in replicas_of for replica in replicas]:
        _restart(system, port)
    for master, replicas in replicas_of:
        with system.node(replicas[0]) as client:
            client.execute_command("CLUSTER FAILOVER")
        _wait(lambda port=replicas[0]: _role(system, port) == "master", "the replica has taken over")  # type: ignore[misc]
        _restart(system, master)
    system.kill("worker", signal.SIGTERM)


def _restart(system: System, port: int) -> None:
    name = f"redis:{port}"
    before = system.pid(name)
    system.kill(name, signal.SIGTERM)
    _wait(lambda: system.pid(name) != before, f"the node on port {port} is started again")
    _wait(lambda: _is_in_step(system, port), f"the node on port {port} is back")


def _role(system: System, port: int) -> str:
    with system.node(port) as client:
        return str(client.info("replication")["role"])


def _is_in_step(system: System, port: int) -> bool:
    with system.node(port) as client:
        info = client.info("replication")
        return not client.info("persistence")["loading"] and (
            info["role"] == "master" or info["master_link_status"] == "up"
        )


def _wait(until: Callable[[], bool], what: str, limit_s: float = WHOLE_LIMIT_S) -> None:
    ends_s = time.monotonic() + limit_s
    while time.monotonic() < ends_s:
        try:
            if until():
                return
        except (redis.RedisError, httpx.HTTPError, OSError, KeyError):
            pass
        time.sleep(0.2)
    raise SystemExit(f"not within {limit_s:g} s: {what}")


FAULTS: dict[str, Fault] = {
    "nothing": nothing,
    "worker killed": worker_killed,
    "worker stopped for 10 s": worker_stopped,
    "model processes killed": model_process_killed,
    "functions without end": functions_without_end,
    "master killed": master_killed,
    "master and its replica killed": master_and_replica_killed,
    "master paused for 10 s": master_paused,
    "master and its replica paused for 10 s": master_and_replica_paused,
    "500 slots moved": slots_moved,
    "API killed": api_killed,
    "nginx reloaded": nginx_reloaded,
    "nginx ended": nginx_killed,
    "maxmemory reached for 10 s": memory_reached,
    "worker without memory for 10 s": memory_of_the_worker_used_up,
    MASTER_CUT_OFF: master_cut_off,
    DISK_FULL: disk_full,
    "nodes and worker restarted one by one": nodes_restarted_one_by_one,
}


# ---- a row of the table


def row_of(name: str, system: System, load: Load) -> Row:
    """Breaks it under load, waits until nothing is missing, then until what was written is processed."""
    with load:
        time.sleep(QUIET_S)
        began_s = time.monotonic()
        FAULTS[name](system)
        print(name, "is done", file=sys.stderr)
        while not (quiet_s := _quiet_for(load, began_s)) and time.monotonic() - began_s < WHOLE_LIMIT_S:
            time.sleep(0.2)
    watched_s = time.monotonic() - began_s
    events = load.since(began_s)
    kinds = counts(events)
    lost = lost_articles(system, sorted(load.acknowledged))
    return Row(
        fault=name,
        whole_s=round(max(0.0, load.quiet_since() - began_s), 1),
        watched_s=round(watched_s, 1),
        whole=kinds["whole"],
        whole_a_second=round(kinds["whole"] / watched_s, 1),
        slowest_s=round(max((e.ended_s - e.began_s for e in events if e.kind == "whole"), default=0.0), 2),
        partial=kinds["partial"],
        refused={kind: n for kind, n in sorted(kinds.items()) if kind.isdigit() or kind == "no connection"},
        wrong=kinds["wrong"],
        hung=kinds["hung"],
        lost=len(lost),
        acknowledged=len(load.acknowledged),
        came_back=bool(quiet_s),
        said=[each.said for each in events if each.kind in ("wrong", "hung")][:5] + lost[:5],
    )


def _quiet_for(load: Load, began_s: float) -> bool:
    """Whether nothing has been missing for some seconds."""
    return time.monotonic() - max(load.quiet_since(), began_s) >= QUIET_S


def lost_articles(system: System, names: list[str]) -> list[str]:
    """Articles that were acknowledged, and are not there, or whose sentences are not made within a limit.
    What failed while a shard was away is done again some seconds later."""
    _wait(lambda: system.all_nodes_agree(), "the cluster is whole")
    system.keymiss("wait", "--timeout-s", str(DONE_LIMIT_S))
    ends_s = time.monotonic() + AGAIN_LIMIT_S
    with httpx.Client(base_url=system.url, verify=False, timeout=HUNG_S) as http:
        while True:
            found = {name: _what_is_missing(http, name) for name in names}
            names = [name for name, missing in found.items() if missing]
            if not names or time.monotonic() > ends_s:
                return [f"{name}: {found[name]}" for name in names]
            time.sleep(0.5)


def _what_is_missing(http: httpx.Client, name: str) -> str:
    reply = http.get(f"/articles/{name}", params={"limit": 1}, headers={"Accept": "application/json"})
    if reply.status_code != 200:
        return f"{reply.status_code} {reply.text[:200]}"
    return "" if reply.json()["total"] > 0 else "no sentences"


def stored_sentences(system: System) -> dict[str, str]:
    """sentencekey, as replies have it, -> sentence, of all."""
    found: dict[str, str] = {}
    with system.cluster() as client:
        for key in client.scan_iter(f"{SENTENCE_PREFIX}*", target_nodes=RedisCluster.PRIMARIES):
            name = key.decode()
            found |= {f"{name}:{idx.decode()}": text.decode() for idx, text in client.hgetall(key).items()}
    return found


def first_answers(system: System, questions: list[str]) -> dict[str, str]:
    """Of the idle system; those questions whose first answer is the same twice."""
    answers: list[dict[str, str]] = []
    with httpx.Client(base_url=system.url, verify=False, timeout=HUNG_S) as http:
        for _ in range(2):
            answers.append({})
            for question in questions:
                reply = http.post("/qasearch", json={"search": question, "exhaustive": True})
                body = reply.raise_for_status().json()
                if is_as_idle(body):
                    answers[-1][question] = body["results"][0]["answer"] if body["results"] else ""
    return {question: first for question, first in answers[0].items() if answers[1].get(question) == first}


@contextmanager
def started(own_host: bool) -> Iterator[System]:
    """A whole system with the sample corpus; on a small disk, if this has a host of its own."""
    with tempfile.TemporaryDirectory(prefix="keymiss-faults-") as folder:
        os.chmod(folder, 0o755)
        var = Path(folder) / "var"
        var.mkdir()
        system = System(var)
        with fault_host.small_disk(var) if own_host else nullcontext():
            try:
                system.keymiss("up", "--sample")
                yield system
            finally:
                system.supervisor.stop()


def show(rows: list[Row], clients: int) -> None:
    """The table."""
    table = Table(title=f"{clients} clients and an article every half second", title_justify="left")
    columns = (
        "fault",
        "whole after",
        "whole",
        "a second",
        "slowest",
        "partial",
        "refused",
        "wrong",
        "hung",
        "lost",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in ("fault", "refused") else "right")
    for row in rows:
        refused = ", ".join(f"{count} x {kind}" for kind, count in row.refused.items())
        table.add_row(
            row.fault,
            f"{row.whole_s:.1f} s" if row.came_back else "not",
            str(row.whole),
            f"{row.whole_a_second:.1f}",
            f"{row.slowest_s:.1f} s",
            str(row.partial),
            refused,
            str(row.wrong),
            str(row.hung),
            f"{row.lost} of {row.acknowledged}",
        )
    Console(width=150).print(table)
    for row in rows:
        for said in row.said:
            print(f"{row.fault}: {said}")


def main(
    only: Annotated[list[str] | None, typer.Option(help="Names of faults, or parts of them.")] = None,
    clients: int = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Writes the rows there, too.")] = None,
    in_namespaces: Annotated[bool, typer.Option("--in-namespaces", hidden=True)] = False,
) -> None:
    """What becomes of questions and articles when parts of a system fail, as a table."""
    names = [name for name in FAULTS if not only or any(part in name for part in only)]
    if not names:
        raise typer.BadParameter(f"no such fault: there are {', '.join(FAULTS)}")
    own_host = not OF_THE_HOST.isdisjoint(names)
    if own_host and (why_not := fault_host.why_not()):
        print(f"left out: {', '.join(OF_THE_HOST.intersection(names))}: {why_not}", file=sys.stderr)
        names = [name for name in names if name not in OF_THE_HOST]
        own_host = False
        if not names:
            raise typer.Exit(2)
    elif own_host and not in_namespaces:
        fault_host.begin_again_in_namespaces("--in-namespaces")
    elif own_host:
        fault_host.set_up_network()
    questions = [each["question"] for each in json.loads(QUESTIONS.read_text())]
    rows: list[Row] = []
    with started(own_host) as system:
        stored, expected = stored_sentences(system), first_answers(system, questions)
        print(f"{len(stored)} sentences, {len(expected)} questions", file=sys.stderr)
        for name in names:
            key = system.env["KEYMISS_API_ADMIN_KEY"]
            first = 1000 * len(rows)
            load = Load(system.url, key, clients, questions, stored, expected, first)
            rows.append(row_of(name, system, load))
            print(f"{name}: {asdict(rows[-1])}", file=sys.stderr)
            if json_file:
                json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    show(rows, clients)
    raise typer.Exit(0 if all(row.is_good for row in rows) else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the system is stopped, as by Ctrl-C
    typer.run(main)
