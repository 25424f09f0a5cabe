"""Runs one job, whatever its kind, and answers the shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from redis import exceptions
from redis.exceptions import RedisError, ResponseError

from keymiss import keys
from keymiss.logs import log_event, one_line
from keymiss.reading import tensors
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Registration
from keymiss.worker.functions.builder import Run as ScriptRun
from keymiss.worker.functions.execution import Flow, flows_of_run, run_flow
from keymiss.worker.functions.job_context import CURRENT, GearsError, JobContext, ReplySlot
from keymiss.worker.functions.other_shards import NoOwnerError
from keymiss.worker.functions.records import decode, missing_record, read_records
from keymiss.worker.functions.requirements import check_requirements
from keymiss.worker.functions.scripts import all_shards
from keymiss.worker.functions.streams import COMES_AGAIN, RunBatch, read_stream
from keymiss.worker.job import Job, JobKind, JobStatus, Run
from keymiss.worker.jobs import resp
from keymiss.worker.jobs.replies import End, RepliesOfARun, done, failed, send
from keymiss.worker.metrics import JobMetrics
from keymiss.worker.services import Services

ASK_ALIVE_AFTER_S = 0.5
"""A job that waited longer in this process is not started before the shard says somebody waits."""

MAX_ERRORS_LOGGED = 10

PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterDownError,
    exceptions.MovedError,
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.MasterDownError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    NoOwnerError,
)
"""What a function may meet while shards restart or change: an event that fails so is worth another try."""

OK = resp.Status("OK")

GoesOn = Callable[[], None]
"""What is left of a job whose clients have their reply."""


class JobRunner:
    """`run` never raises for what a job did; only for a fault of the worker itself."""

    def __init__(self, services: Services, metrics: JobMetrics) -> None:
        self._services = services
        self._metrics = metrics

    def run(self, run: Run) -> None:
        """Runs and answers, counts how each job ended and logs what is to be logged."""
        if run[0].batch > 1:
            self._run_misses(run)
        else:
            self._run_one(run[0])

    def _run_one(self, job: Job) -> None:
        began_s, queued_s = time.monotonic(), job.queued_ms / 1000 + job.waited_s
        end = self._end_of(JobContext(self._services, job.shard, job, job.cache), job, queued_s)
        self._ended(job, end, queued_s, time.monotonic() - began_s)

    def _ended(self, job: Job, end: End, queued_s: float, took_s: float) -> None:
        self._metrics.ended(job, end.status, None if end.status is JobStatus.ABANDONED else took_s)
        _log_end(job, end, queued_s, took_s)

    def _end_of(self, context: JobContext, job: Job, queued_s: float) -> End:
        try:
            if not _wanted(context, (job,)):
                return End(JobStatus.ABANDONED)
            self._metrics.started(job, queued_s)
            reply, goes_on = self._perform(context, job)
        except Exception as error:
            return _fail(context, job, error)
        except SystemExit as error:
            return _fail(context, job, _called_exit(error))
        finally:
            event_loops.cancel_leftovers()
        end = send(context, [done(job, reply)])[0]
        if goes_on is not None and end.status is JobStatus.DONE:
            goes_on()
        return end

    def _run_misses(self, run: Run) -> None:
        """Of a function that takes several: each is answered when the function has its answer."""
        began_s = time.monotonic()
        context = JobContext(self._services, run[0].shard, run[0], run[0].cache)
        queued_s = {job: job.queued_ms / 1000 + job.waited_s for job in run}

        def ended(job: Job, end: End) -> None:
            self._ended(job, end, queued_s[job], time.monotonic() - began_s)

        try:
            wanted = _wanted(context, run)
        except (RedisError, OSError):
            wanted = list(run)  # whether the answers can be sent will be seen
        for job in run:
            if job not in wanted:
                ended(job, End(JobStatus.ABANDONED))
        if not wanted:
            return
        for job in wanted:
            self._metrics.started(job, queued_s[job])
            job.model_runs_us = wanted[0].model_runs_us
        records = [(job, _miss_record(job)) for job in wanted]
        replies = RepliesOfARun(context, records, ended)
        here = replace(context, job=wanted[0], others=tuple(wanted[1:]), reply=replies)
        token = CURRENT.set(here)
        try:
            registration = self._services.scripts.registration(here, wanted[0].registration_id)
            if registration.keys.miss_batch == 1:
                raise GearsError("the function takes one miss at a time, but is registered for several")
            given = [record for _, record in records]
            flow = Flow(lambda _at: iter([given]), registration.steps)
            run_flow(here, [here.shard], lambda _shard: flow, _raise)
            replies.rest()
        except Exception as error:
            replies.rest(error)
        except SystemExit as error:
            replies.rest(_called_exit(error))
        finally:
            CURRENT.reset(token)
            event_loops.cancel_leftovers()
            replies.flush()

    def _perform(self, context: JobContext, job: Job) -> tuple[bytes, GoesOn | None]:
        token = CURRENT.set(context)
        try:
            if job.kind in (JobKind.MISS, JobKind.EVENT):
                return resp.encode(_registered(context, job)), None
            if job.kind is JobKind.SCRIPT:
                reply, goes_on = _script(context, job)
                return resp.encode(reply), goes_on
            if job.kind is JobKind.UNREGISTER:
                return resp.encode(_unregister(context, job)), None
            return resp.encode(_model(context, job)), None
        finally:
            CURRENT.reset(token)


def _wanted(context: JobContext, run: Run) -> list[Job]:
    """Those that have time left, and that somebody waits for if they were here for long."""
    left = [job for job in run if not job.overdue]
    doubtful = [job for job in left if job.waited_s > ASK_ALIVE_AFTER_S]
    alive = context.connection.pipeline([("KM.ALIVE", job.id) for job in doubtful])
    gone = {job for job, one in zip(doubtful, alive, strict=True) if one == 0}
    return [job for job in left if job not in gone]


def _miss_record(job: Job) -> dict[str, Any]:
    return missing_record(decode(job.key), job.event)


def _called_exit(error: SystemExit) -> GearsError:
    return GearsError(f"the function called exit({error.code})")


def _log_end(job: Job, end: End, queued_s: float, took_s: float) -> None:
    """A failed job, and one whose clients gave ids, has one line. A question is not logged."""
    if end.error is None and not (job.kind is JobKind.MISS and job.request_ids):
        return
    key = decode(job.key)
    if job.kind is JobKind.MISS:
        key = keys.without_question(job.key.decode("utf-8", "backslashreplace"))
    fields: dict[str, Any] = {
        **job.request_fields,
        "kind": job.kind,
        "shard": job.shard.address,
        "key": key,
        "status": end.status,
        "queued_ms": round(queued_s * 1000, 1),
        "took_ms": round(took_s * 1000, 1),
    }
    if job.model_runs_us:
        fields["model_ms"] = round(sum(job.model_runs_us) / 1000, 1)
    if end.error is None:
        log_event("job_done", **fields)
    else:
        log_event("job_failed", "warning", **fields, error=end.error)


def _fail(context: JobContext, job: Job, error: Exception) -> End:
    comes_again = COMES_AGAIN in getattr(error, "__notes__", ())
    if job.kind is JobKind.EVENT and isinstance(error, PASSING) and not comes_again:
        context.services.missed(context.shard)
    return send(context, [failed(job, one_line(error))])[0]


def _raise(error: Exception) -> None:
    raise error


def _registered(context: JobContext, job: Job) -> Any:
    """A miss or an event: the first error ends it, and its text is the answer."""
    registration = context.services.scripts.registration(context, job.registration_id)
    slot = ReplySlot()
    here = JobContext(context.services, context.shard, job, job.cache, reply=slot)

    if registration.reader == "StreamReader":
        read_stream(here, job, registration, _over_batches(here, registration))
        return None

    def reader(at: JobContext) -> Iterator[Any]:
        if job.kind is JobKind.MISS:
            return iter([_miss_record(job)])
        return iter(read_records(at.connection, [job.key], job.event, registration.keys.read_value))

    flow = Flow(reader, registration.steps)
    run_flow(here, [context.shard], lambda _shard: flow, _raise)
    return resp.from_override(slot.value)


def _over_batches(here: JobContext, registration: Registration) -> RunBatch:
    def run(records: list[dict[str, Any]]) -> None:
        flow = Flow(lambda _at: iter(records), registration.steps)
        run_flow(here, [here.shard], lambda _shard: flow, _raise)

    return run


def _script(context: JobContext, job: Job) -> tuple[Any, GoesOn | None]:
    """RG.PYEXECUTE: OK, or ``[[results], [errors]]`` if the script runs something. With UNBLOCKING the job's
    id instead, and it runs then; what it came to is in the log."""
    source, unblocking, *requirements = job.payload
    check_requirements([requirement.decode("utf-8", "replace") for requirement in requirements])
    run = context.services.scripts.deploy(context, source)
    if run is None:
        return OK, None
    if unblocking == b"1":
        return str(job.id), lambda: _run_unattended(context, job, run)
    results, errors = _run(context, run)
    return [results, errors], None


def _run_unattended(context: JobContext, job: Job, run: ScriptRun) -> None:
    token = CURRENT.set(context)
    try:
        results, errors = _run(context, run)
        log_event("script_ran", job=job.id, results=len(results), errors=errors[:MAX_ERRORS_LOGGED])
    except (Exception, SystemExit) as error:
        log_event("script_failed", "warning", job=job.id, error=one_line(error))
    finally:
        CURRENT.reset(token)
        event_loops.cancel_leftovers()


def _run(context: JobContext, run: ScriptRun) -> tuple[list[Any], list[str]]:
    errors: list[str] = []
    here = JobContext(context.services, context.shard, context.job, context.cache)
    shards = all_shards(context, run.local)
    flow_of = flows_of_run(run, context.shard, others=len(context.services.masters()) > 1)
    results = run_flow(here, shards, flow_of, lambda error: errors.append(one_line(error)))
    return [r if isinstance(r, (str, bytes, bytearray, int)) else str(r) for r in results], errors


def _unregister(context: JobContext, job: Job) -> Any:
    """On every master; an error only if none of them knew the registration or one is out of reach."""
    (registration_id,) = job.payload
    refused: list[str] = []
    masters = context.services.masters()
    for shard in masters:
        try:
            context.on(shard).connection.command("KM.UNREGISTER", registration_id)
        except ResponseError as error:
            refused.append(str(error))
    if masters and len(refused) == len(masters):
        raise GearsError(refused[0])
    return OK


def _model(context: JobContext, job: Job) -> Any:
    """AI.MODELEXECUTE: reads the inputs, runs, stores the outputs."""
    fields = iter(job.payload)
    key = next(fields)
    inputs = [next(fields) for _ in range(int(next(fields)))]
    outputs = [next(fields) for _ in range(int(next(fields)))]
    connection = context.connection
    given = tensors.get_tensors(connection, inputs)
    name = key.decode("utf-8", "surrogateescape")
    result = context.services.models.run(context.shard, connection, name, given, len(outputs))
    context.count_model_run(result.duration_us)
    tensors.set_tensors(connection, list(zip(outputs, result.outputs, strict=True)))
    return OK
