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

from keymiss.cluster.access import ClusterAccess
from keymiss.cluster.discovery import Discovery, NoNodeError, RefusedError
from keymiss.cluster.shard_connection import ThreadConnections
from keymiss.cluster.topology import Shard
from keymiss.environment import BadSetting
from keymiss.logs import log_event, one_line
from keymiss.reading.backends.table import backend_table
from keymiss.worker.functions import gears_api
from keymiss.worker.functions.scripts import ScriptStore
from keymiss.worker.job import Job, JobStatus
from keymiss.worker.jobs.attendance import Attendance
from keymiss.worker.jobs.pull import Puller, give_back
from keymiss.worker.jobs.runner import JobRunner
from keymiss.worker.jobs.threads import JobPool
from keymiss.worker.metrics import WorkerMetrics
from keymiss.worker.model_runner import ModelPool, ModelRunner, ModelStore
from keymiss.worker.options import WorkerOptions
from keymiss.worker.services import Services

EXIT_OK, EXIT_FAULT, EXIT_USAGE, EXIT_NO_NODE, EXIT_UNFINISHED = 0, 1, 2, 3, 4
"""See the module's text."""

REFRESH_S = 1.0
"""How often the cluster is asked who its masters are; at once after a pull failed."""

REPORT_S = 60.0
"""How often the counts are logged, if they changed."""


class Worker:
    """Everything that lives as long as the process."""

    def __init__(self, options: WorkerOptions, access: ClusterAccess) -> None:
        self._options = options
        self._credentials = access.credentials
        self._wake = threading.Event()
        self._stopping = False
        self._fault: str | None = None
        self._metrics = WorkerMetrics(options.name, options.backend)
        self._discovery = Discovery(options.nodes or access.nodes, self._credentials)
        self._pool = JobPool(options.job_threads, self._handle, self._dead)
        backends = backend_table(options.backend)
        self._model_store = ModelStore(backends, self._metrics.not_kept)
        self._model_pool = ModelPool(options.model_threads, list(backends.values()), self._dead)
        self._attendance = Attendance(self._credentials)
        self._services = Services(
            connections=ThreadConnections(options.execute_timeout_s, self._credentials),
            masters=self._discovery.masters,
            models=ModelRunner(
                self._model_store, self._model_pool, self._metrics.models, self._metrics.not_kept
            ),
            scripts=ScriptStore(),
            waiting=self._pool.waiting,
            not_kept=self._metrics.not_kept,
            missed=self._attendance.missed,
        )
        self._runner = JobRunner(self._services, self._metrics.jobs)
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
        self._model_pool.start()
        try:
            if not self._find_cluster():
                return EXIT_OK if self._stopping else EXIT_NO_NODE
        except RefusedError as error:  # waiting does not help
            log_event("refused", "error", error=str(error))
            return EXIT_USAGE
        reported = self._metrics.jobs.counts.snapshot()
        report_at_s = time.monotonic() + REPORT_S
        while not self._stopping and self._fault is None:
            self._refresh()
            self._wake.wait(REFRESH_S)
            if self._wake.is_set() and not self._stopping and self._fault is None:
                self._wake.clear()
                time.sleep(0.05)  # several pullers of one lost shard wake this once, not many times
            if time.monotonic() > report_at_s and self._metrics.jobs.counts.snapshot() != reported:
                reported = self._metrics.jobs.counts.snapshot()
                report_at_s = time.monotonic() + REPORT_S
                log_event("counts", jobs=reported)
        if self._fault is not None:
            log_event("fault", "error", error=self._fault, jobs=self._metrics.jobs.counts.snapshot())
            return EXIT_FAULT
        return self._shut_down()

    def _watch(self) -> None:
        """The figures that are looked up when somebody asks for the metrics."""
        watch = self._metrics.watch
        watch("jobs_running", "Jobs that run now.", lambda: len(self._pool.running()))
        watch("job_threads", "Jobs that may run at once.", lambda: self._options.job_threads)
        watch("shards_attached", "Masters that answer this worker's pulls.", self._shards_attached)
        watch("models_loaded", "Different models in memory.", lambda: self._model_store.loaded()[0])
        watch("models_bytes", "Size of the loaded models' files.", lambda: self._model_store.loaded()[1])

    def _shards_attached(self) -> int:
        # list() of a dict's values is one step: the main thread may change the dict meanwhile
        return sum(puller.attached for puller in list(self._pullers.values()))

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
            os._exit(EXIT_UNFINISHED)  # asked twice: the shards take the jobs back by themselves
        self._stopping = True
        self._wake.set()

    def _dead(self, text: str) -> None:
        self._fault = self._fault or text
        self._wake.set()

    def _handle(self, job: Job) -> None:
        if job.puller is not None and job.generation != job.puller.generation:
            self._metrics.jobs.ended(job, JobStatus.LOST)
            return
        self._runner.run(job)

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
            shards = {shard.identity: shard for shard in self._discovery.refresh()}
        except NoNodeError as error:
            log_event("cluster_out_of_reach", "warning", error=str(error))
            return
        for identity in [identity for identity in self._pullers if identity not in shards]:
            puller = self._pullers.pop(identity)
            puller.stop()
            self._leaving.append(puller)
            log_event("shard_left", shard=puller.shard.address)
        for identity, shard in shards.items():
            known = self._pullers.get(identity)
            if known is None:
                self._attach(identity, shard)
            elif known.shard != shard:
                known.shard = shard
        busy = {id(job.puller) for job in self._pool.running()}
        for puller in [puller for puller in self._leaving if puller.stopped and id(puller) not in busy]:
            puller.close()
            self._leaving.remove(puller)
        if shards:
            alive = {*shards, *(puller.shard.identity for puller in self._leaving)}
            self._services.scripts.forget_shards(alive)
            self._model_store.forget_shards(alive)

    def _attach(self, identity: str, shard: Shard) -> None:
        puller = Puller(
            self._options.name,
            shard,
            self._credentials,
            self._pool,
            self._metrics.jobs,
            self._attendance.connected,
            self._wake.set,
            self._dead,
        )
        self._pullers[identity] = puller
        puller.start()
        log_event("shard_attached", shard=shard.address, node_id=shard.node_id, hashtag=shard.tag)

    def _shut_down(self) -> int:
        """Stops taking, gives back what has not started, finishes the rest or gives that back too."""
        deadline_s = time.monotonic() + self._options.grace_s
        pullers = [*self._pullers.values(), *self._leaving]
        self._attendance.stop()
        log_event("stopping", grace_s=self._options.grace_s, running=len(self._pool.running()))
        for puller in pullers:
            puller.stop()
        self._give_back(self._pool.take_queued(lambda _: True))
        for puller in pullers:
            puller.join(max(0.0, min(2.0, deadline_s - time.monotonic())))
        self._give_back(self._pool.take_queued(lambda _: True))
        self._pool.wait_idle(max(0.0, deadline_s - time.monotonic()))
        left = self._pool.running()
        self._give_back(left)
        for puller in pullers:
            if puller.stopped:
                puller.close()
        log_event("stopped", unfinished=len(left), jobs=self._metrics.jobs.counts.snapshot())
        return EXIT_UNFINISHED if left else EXIT_OK

    def _give_back(self, jobs: list[Job]) -> None:
        by_shard: dict[Shard, list[Job]] = defaultdict(list)
        for job in jobs:
            by_shard[job.shard].append(job)
        for shard, mine in by_shard.items():
            give_back(shard, self._credentials, mine)
            for job in mine:
                self._metrics.jobs.ended(job, JobStatus.GIVEN_BACK)


def main(options: WorkerOptions) -> int:
    """Runs a worker. Returns the exit code, or ends the process when threads are still busy."""
    try:
        access = ClusterAccess.from_env()
    except BadSetting as error:
        log_event("bad_setting", "error", error=str(error))
        return EXIT_USAGE
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.nice(options.nice)
    log_event(
        "started",
        pid=os.getpid(),
        name=options.name,
        job_threads=options.job_threads,
        model_threads=options.model_threads,
    )
    try:
        code = Worker(options, access).run()
    except Exception as error:
        log_event("fault", "error", error=one_line(error))
        code = EXIT_FAULT
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)  # jobs and models run in threads that may never end; nothing is left to clean up
