"""The worker's life: find the shards, pull, run, stop.

Exit codes
    0  stopped by SIGTERM or SIGINT, every job that had started was answered
    1  a fault of the worker itself (a dead thread); a supervisor should start it again
    2  bad arguments or settings, --metrics-host and --metrics-port cannot be listened on, or the cluster
       refuses the user or its password
    3  no node of the cluster answered within --startup-s
    4  stopped by a signal, but jobs were still running after --grace-s: they were handed back

Environment: `keymiss.cluster.access` says where the cluster is and who the worker is there. A password is
never on the command line, where others could read it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from keymiss.cluster.access import ClusterAccess
from keymiss.cluster.discovery import Discovery, NoNodeError, RefusedError
from keymiss.cluster.shard_connection import ThreadConnections
from keymiss.cluster.topology import Shard
from keymiss.environment import BadSetting
from keymiss.logs import log_event, one_line
from keymiss.worker.functions import gears_api
from keymiss.worker.functions.inner_runs import start_run
from keymiss.worker.functions.job_context import JobContext
from keymiss.worker.functions.scripts import ScriptStore
from keymiss.worker.job import Job, JobStatus, Run
from keymiss.worker.jobs.attendance import Attendance
from keymiss.worker.jobs.limits import JobLimits
from keymiss.worker.jobs.pull import Puller, give_back
from keymiss.worker.jobs.replies import failed, send
from keymiss.worker.jobs.runner import JobRunner
from keymiss.worker.jobs.threads import JobPool
from keymiss.worker.metrics import WorkerMetrics
from keymiss.worker.model_processes.libraries import Libraries
from keymiss.worker.model_processes.memory import memory_of, release_freed, share_arenas
from keymiss.worker.model_processes.pool import ModelPool
from keymiss.worker.model_processes.start import Started
from keymiss.worker.model_runner import ModelRunner, ModelStore
from keymiss.worker.options import BEGUN_ANEW, WorkerOptions
from keymiss.worker.own_shards import LookAtShards, OwnShards, is_here
from keymiss.worker.same_on_all_masters import SameOnAllMasters
from keymiss.worker.script_runner import ScriptRunner
from keymiss.worker.services import Services

EXIT_OK, EXIT_FAULT, EXIT_USAGE, EXIT_NO_NODE, EXIT_UNFINISHED = 0, 1, 2, 3, 4
"""See the module's text."""

EXIT_AGAIN = -1
"""No exit: the process begins anew, as it was started."""

REFRESH_S = 1.0
"""How often the cluster is asked who its masters are; at once after a pull failed."""

REPORT_S = 60.0
"""How often the counts are logged, if they changed."""

RELEASE_S = 10.0
"""How often memory that jobs took goes back to the system, if nothing runs then."""


class Worker:
    """Everything that lives as long as the process."""

    def __init__(self, options: WorkerOptions, access: ClusterAccess, libraries: Libraries) -> None:
        self._options = options
        self._credentials = access.credentials
        self._wake = threading.Event()
        self._stopping = False
        self._fault: str | None = None
        self._metrics = WorkerMetrics(options.name, options.backend)
        self._discovery = Discovery(options.nodes or access.nodes, self._credentials)
        self._pool = JobPool(options.job_threads, self._handle, self._dead)
        self._libraries = libraries
        self._model_store = ModelStore(self._libraries, self._metrics.not_kept)
        self._model_pool = ModelPool(
            options.model_threads, options.model_limit_s, self._metrics.runners, self._dead
        )
        self._attendance = Attendance(self._credentials)
        connections = ThreadConnections(options.execute_timeout_s, self._credentials, ("KM.UNHOOKED",))
        self._limits = JobLimits(options.job_limit_s, connections, self._job_stuck, self._dead)
        models = ModelRunner(
            self._model_store, self._model_pool, self._metrics.models, self._metrics.not_kept
        )
        self._same = SameOnAllMasters(self._discovery.masters, self._credentials)
        self._services = Services(
            connections=connections,
            masters=self._discovery.masters,
            models=models,
            torch_scripts=ScriptRunner(models, self._libraries, connections),
            scripts=ScriptStore(),
            waiting=self._pool.waiting,
            not_kept=self._metrics.not_kept,
            limits=self._limits,
            start=start_run,
            max_idle_s=gears_api.max_idle_s,
            missed=self._attendance.missed,
            is_moving=self._same.is_moving,
        )
        self._stuck: dict[Job, str] = {}
        self._runner = JobRunner(self._services, self._metrics.jobs)
        look = LookAtShards(self._credentials)
        self._own = OwnShards(look, is_here) if options.local else None
        self._pullers: dict[str, Puller] = {}
        self._leaving: list[Puller] = []
        self._watch()

    def run(self) -> int:
        """Works until a signal or a fault; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if self._options.metrics_port and not self._serve_metrics():
            return EXIT_USAGE
        gears_api.install_modules()
        share_arenas()
        self._model_pool.start()
        self._limits.start()
        try:
            if not self._find_cluster():
                return EXIT_OK if self._stopping else EXIT_NO_NODE
        except RefusedError as error:  # waiting does not help
            log_event("refused", "error", error=str(error))
            return EXIT_USAGE
        self._same.start()
        reported = self._metrics.jobs.counts.snapshot()
        report_at_s = time.monotonic() + REPORT_S
        release_at_s = time.monotonic() + RELEASE_S
        while self._goes_on:
            self._refresh()
            self._wake.wait(REFRESH_S)
            if self._wake.is_set() and self._goes_on:
                self._wake.clear()
                time.sleep(0.05)  # several pullers of one lost shard wake this once, not many times
            if time.monotonic() > release_at_s and not self._pool.running():
                release_freed()
                release_at_s = time.monotonic() + RELEASE_S
            if time.monotonic() > report_at_s and self._metrics.jobs.counts.snapshot() != reported:
                reported = self._metrics.jobs.counts.snapshot()
                report_at_s = time.monotonic() + REPORT_S
                log_event("counts", jobs=reported)
        if self._fault is not None:
            log_event("fault", "error", error=self._fault, jobs=self._metrics.jobs.counts.snapshot())
            return EXIT_FAULT
        code = self._shut_down()
        if not self._stopping:  # a signal now would be forgotten when the process begins anew
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
        return code if self._stopping else EXIT_AGAIN

    @property
    def _goes_on(self) -> bool:
        return not self._stopping and self._fault is None and not self._stuck

    def _watch(self) -> None:
        """The figures that are looked up when somebody asks for the metrics."""
        watch = self._metrics.watch
        watch("jobs_running", "Jobs that run now.", lambda: len(self._pool.running()))
        watch("job_threads", "Jobs that may run at once.", lambda: self._options.job_threads)
        watch("shards_attached", "Masters that answer this worker's pulls.", self._shards_attached)
        watch("models_loaded", "Different models in memory.", lambda: self._model_store.loaded()[0])
        watch("models_bytes", "Size of the loaded models' files.", lambda: self._model_store.loaded()[1])
        watch("model_runners", "Processes that run models.", self._model_pool.runners)
        watch("model_memory_bytes", "Memory of all processes for models.", self._model_memory)

    def _shards_attached(self) -> int:
        # list() of a dict's values is one step: the main thread may change the dict meanwhile
        return sum(puller.attached for puller in list(self._pullers.values()))

    def _model_memory(self) -> int:
        return sum(map(memory_of, self._libraries.pids()))

    def _serve_metrics(self) -> bool:
        host, port = self._options.metrics_host, self._options.metrics_port
        try:
            self._metrics.serve(host, port)
        except OSError as error:
            text = f"metrics cannot be served at {host}:{port}: {error.strerror or error}"
            log_event("metrics_refused", "error", error=text)
            return False
        log_event("metrics_served", host=host, port=port)
        return True

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._stopping:
            self._libraries.kill()
            os._exit(EXIT_UNFINISHED)  # asked twice: the shards take the jobs back by themselves
        self._stopping = True
        self._wake.set()

    def _dead(self, text: str) -> None:
        self._fault = self._fault or text
        self._wake.set()

    def _job_stuck(self, run: Run, text: str) -> None:
        """Its thread cannot be ended, so the process begins anew."""
        self._stuck.update(dict.fromkeys(run, text))
        self._wake.set()

    def _handle(self, run: Run) -> None:
        puller = run[0].puller
        if puller is not None and run[0].generation != puller.generation:
            for job in run:
                self._metrics.jobs.ended(job, JobStatus.LOST)
            return
        self._runner.run(run)

    def _find_cluster(self) -> bool:
        """Waits for a node that answers. RefusedError when one refuses this worker."""
        deadline_s = time.monotonic() + self._options.startup_s
        said = ""
        while not self._stopping:
            try:
                if self._discovery.refresh():
                    return True
                problem = "no master serves slots yet"
            except RefusedError:
                raise
            except NoNodeError as error:
                problem = str(error)
            if problem != said:
                said = problem
                log_event("waiting_for_cluster", "warning", error=problem)
            if time.monotonic() > deadline_s:
                log_event("no_node", "error", error=problem)
                return False
            self._wake.wait(0.5)
        return False

    def _refresh(self) -> None:
        """Attaches to new masters, leaves those that are none any more."""
        try:
            masters = self._discovery.refresh()
        except NoNodeError as error:
            log_event("cluster_out_of_reach", "warning", error=str(error))
            return
        served = {shard.identity: (shard, away) for shard, away in self._own_of(masters)}
        for identity in [identity for identity in self._pullers if identity not in served]:
            puller = self._pullers.pop(identity)
            puller.stop()
            self._leaving.append(puller)
            log_event("shard_left", shard=puller.shard.address)
        for identity, (shard, away) in served.items():
            there = self._pullers.get(identity)
            if there is None:
                self._attach(identity, shard, away)
            elif there.shard != shard:
                there.shard = shard
        busy = {id(job.puller) for job in self._pool.running()}
        for puller in [puller for puller in self._leaving if puller.stopped and id(puller) not in busy]:
            puller.close()
            self._leaving.remove(puller)
        if masters:
            known = [*masters, *(puller.shard for puller in self._leaving)]
            alive = {shard.identity for shard in known}
            self._services.scripts.forget_shards(alive)
            self._model_store.forget_shards(alive)

    def _own_of(self, masters: Sequence[Shard]) -> list[tuple[Shard, bool]]:
        """Those that this worker serves, each with whether it stands in there."""
        return [(shard, False) for shard in masters] if self._own is None else self._own.of(masters)

    def _attach(self, identity: str, shard: Shard, away: bool) -> None:
        puller = Puller(
            self._options.name,
            shard,
            away,
            self._credentials,
            self._pool,
            self._metrics.jobs,
            self._attendance.connected,
            self._wake.set,
            self._dead,
        )
        self._pullers[identity] = puller
        puller.start()
        log_event(
            "shard_attached", shard=shard.address, node_id=shard.node_id, hashtag=shard.tag, stands_in=away
        )

    def _shut_down(self) -> int:
        """Stops taking, gives back what has not started, finishes the rest or gives that back too."""
        deadline_s = time.monotonic() + self._options.grace_s
        pullers = [*self._pullers.values(), *self._leaving]
        self._attendance.stop()
        self._same.stop()
        log_event(
            "stopping",
            grace_s=self._options.grace_s,
            running=len(self._pool.running()),
            stuck=len(self._stuck),
        )
        self._fail_stuck()
        for puller in pullers:
            puller.stop()
        self._give_back(self._pool.take_queued(lambda _: True))
        for puller in pullers:
            puller.join(max(0.0, min(2.0, deadline_s - time.monotonic())))
        self._give_back(self._pool.take_queued(lambda _: True))
        self._pool.wait_idle(max(0.0, deadline_s - time.monotonic()), self._stuck)
        left = [job for job in self._pool.running() if job not in self._stuck]
        self._give_back(left)
        for puller in pullers:
            if puller.stopped:
                puller.close()
        log_event("stopped", unfinished=len(left), jobs=self._metrics.jobs.counts.snapshot())
        return EXIT_UNFINISHED if left else EXIT_OK

    def _fail_stuck(self) -> None:
        """Else the shard has them run once more."""
        for job, text in self._stuck.items():
            send(JobContext(self._services, job.shard, job), [failed(job, text)])
            self._metrics.jobs.ended(job, JobStatus.FAILED)

    def _give_back(self, jobs: list[Job]) -> None:
        by_shard: dict[Shard, list[Job]] = defaultdict(list)
        for job in jobs:
            by_shard[job.shard].append(job)
        for shard, mine in by_shard.items():
            give_back(shard, self._credentials, mine)
            for job in mine:
                self._metrics.jobs.ended(job, JobStatus.GIVEN_BACK)


def main(options: WorkerOptions, started: Started | None = None) -> int:
    """Runs a worker. Returns the exit code, or ends the process when threads are still busy. `started`: a
    library process for its models."""
    libraries = Libraries(options.backend, started, options.library_socket)
    try:
        access = ClusterAccess.from_env()
    except BadSetting as error:
        log_event("bad_setting", "error", error=str(error))
        libraries.stop()
        return EXIT_USAGE
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    log_event(
        "started",
        pid=os.getpid(),
        name=options.name,
        job_threads=options.job_threads,
        model_threads=options.model_threads,
    )
    try:
        code = Worker(options, access, libraries).run()
    except Exception as error:
        log_event("fault", "error", error=one_line(error))
        code = EXIT_FAULT
    for_the_next = options.library_socket is not None and code in (EXIT_AGAIN, EXIT_FAULT)
    if not for_the_next:
        libraries.stop()
    sys.stderr.flush()
    sys.stdout.flush()
    if code == EXIT_AGAIN:
        os.environ[BEGUN_ANEW] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    os._exit(code)  # jobs and models run in threads that may never end; nothing is left to clean up
