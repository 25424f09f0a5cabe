"""Runs one job, whatever its kind, and answers the shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from redis import exceptions
from redis.exceptions import RedisError, ResponseError

from keymiss import keys
from keymiss.cluster.topology import Shard
from keymiss.logs import log_event
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Registration
from keymiss.worker.functions.commands import run_command
from keymiss.worker.functions.execution import Flow, run_flow
from keymiss.worker.functions.inner_runs import results_of
from keymiss.worker.functions.job_context import (
    CURRENT,
    GearsError,
    JobContext,
    ReplySlot,
)
from keymiss.worker.functions.on_every_shard import gears_command, unregister
from keymiss.worker.functions.other_shards import NoOwnerError
from keymiss.worker.functions.records import decode, missing_record, read_records
from keymiss.worker.functions.requirements import check_requirements
from keymiss.worker.functions.scripts import Upload, sha1_of
from keymiss.worker.functions.streams import COMES_AGAIN, RunBatch, read_stream
from keymiss.worker.job import AI_JOBS, Job, JobKind, JobStatus, Run
from keymiss.worker.jobs import ai_jobs, resp
from keymiss.worker.jobs.replies import (
    End,
    RepliesOfARun,
    Reply,
    done,
    ended,
    failed_by,
    failed_plainly,
    send,
)
from keymiss.worker.metrics import JobMetrics
from keymiss.worker.services import Services

ASK_ALIVE_AFTER_S = 0.5
"""A job that waited longer in this process is not started before the shard says somebody waits."""

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
PASSING_CODES = ("MISCONF", "NOREPLICAS")
"""Of errors that have no class: the disk is full, or replicas are away."""

OK = resp.Status("OK")


class JobRunner:
    """`run` never raises for what a job did; only for a fault of the worker itself."""

    def __init__(self, services: Services, metrics: JobMetrics) -> None:
        self._services = services
        self._metrics = metrics

    def run(self, run: Run) -> None:
        """Runs and answers, counts how each job ended and logs what is to be logged."""
        try:
            if run[0].batch > 1 and run[0].kind is JobKind.MODEL:
                self._run_batch(run)
            elif run[0].batch > 1:
                self._run_misses(run)
            else:
                self._run_one(run[0])
        finally:
            self._services.connections.send_posted()

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
            if job.kind is JobKind.LOOK:
                return ai_jobs.look(context, job)
            reply = self._services.limits.run((job,), lambda: self._perform(context, job))
        except Exception as error:
            return _fail(context, job, error)
        except SystemExit as error:
            return _fail(context, job, _called_exit(error))
        return send(context, [reply])[0]

    def _run_batch(self, run: Run) -> None:
        """Of one model: each is answered when its part has run."""
        began_s = time.monotonic()
        context = JobContext(self._services, run[0].shard, run[0], run[0].cache)
        open_jobs = {job: job.queued_ms / 1000 + job.waited_s for job in run}

        def ended(job: Job, end: End) -> None:
            self._ended(job, end, open_jobs.pop(job), time.monotonic() - began_s)

        try:
            wanted = _wanted(context, run)
        except (RedisError, OSError):
            wanted = list(run)
        for job in run:
            if job in wanted:
                self._metrics.started(job, open_jobs[job])
            else:
                ended(job, End(JobStatus.ABANDONED))
        if not wanted:
            return
        here = replace(context, job=wanted[0], others=tuple(wanted[1:]))
        token = CURRENT.set(here)
        try:
            ai_jobs.run_batch(here, wanted, lambda reply: ended(reply.job, send(here, [reply])[0]))
        except Exception as error:
            for job in list(open_jobs):
                ended(job, send(here, [failed_plainly(job, error)])[0])
        finally:
            CURRENT.reset(token)

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
            done_by = partial(run_flow, here, [here.shard], lambda _shard: flow, _raise)
            self._services.limits.run(tuple(wanted), done_by)
            replies.rest()
        except Exception as error:
            replies.rest(error)
        except SystemExit as error:
            replies.rest(_called_exit(error))
        finally:
            CURRENT.reset(token)
            replies.flush()

    def _perform(self, context: JobContext, job: Job) -> Reply:
        token = CURRENT.set(context)
        try:
            if job.kind is JobKind.SCRIPT:
                return _script(context, job)
            return done(job, resp.encode(_ANSWERS[job.kind](context, job)))
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
    if job.kind is JobKind.EVENT and passes(error) and not comes_again:
        context.services.missed(context.shard)
    reply = failed_plainly(job, error) if job.kind in AI_JOBS else failed_by(job, error)
    return send(context, [reply])[0]


def passes(error: Exception) -> bool:
    """Whether a function may meet it while shards restart or change: an event that fails so is worth another
    try."""
    by_code = isinstance(error, ResponseError) and str(error).startswith(PASSING_CODES)
    return isinstance(error, PASSING) or by_code


def _raise(error: Exception) -> None:
    raise error


def _registered(context: JobContext, job: Job) -> Any:
    """A miss or an event: the first error ends it, and its text is the answer."""
    scripts = context.services.scripts
    registration = scripts.registration(context, job.registration_id)
    slot = ReplySlot()
    here = replace(context, reply=slot, upload=registration.upload)

    if registration.reader == "StreamReader":
        read_stream(here, job, registration, _over_batches(here, registration))
        return None
    if registration.callback is not None:
        _time_event(here, registration)
        return None

    def reader(at: JobContext) -> Iterator[Any]:
        if job.kind is JobKind.MISS:
            return iter([_miss_record(job)])
        return iter(read_records(at.connection, [job.key], job.event, registration.keys.read_value))

    def flow_of(shard: Shard) -> Flow:
        mine = registration if shard == here.shard else scripts.registration(here.on(shard), registration.id)
        return Flow(reader, mine.steps)

    run_flow(here, [context.shard], flow_of, _raise)
    if job.kind is JobKind.EVENT and not slot.is_set:
        return resp.NOTHING
    return resp.from_override(slot.value)


def _time_event(context: JobContext, registration: Registration) -> None:
    """It ends with its key."""
    connection = context.connection
    if registration.prefix and not connection.command("EXISTS", registration.prefix):
        connection.command("KM.UNREGISTER", registration.id)
        return
    assert registration.callback is not None
    token = CURRENT.set(context)
    try:
        event_loops.resolve(registration.callback())
    finally:
        CURRENT.reset(token)


def _over_batches(here: JobContext, registration: Registration) -> RunBatch:
    def run(records: list[dict[str, Any]]) -> None:
        flow = Flow(lambda _at: iter(records), registration.steps)
        run_flow(here, [here.shard], lambda _shard: flow, _raise)

    return run


def _script(context: JobContext, job: Job) -> Reply:
    """RG.PYEXECUTE: OK, or ``[[results], [errors]]`` if the script runs something. With UNBLOCKING the
    execution's id instead; what it comes to is told the shard when it ends."""
    source, unblocking, session, description, replaced, *requirements = job.payload
    texts = [requirement.decode("utf-8", "replace") for requirement in requirements]
    check_requirements(texts)
    upload = Upload(
        source,
        session.decode() or sha1_of(source),
        description.decode("utf-8", "replace"),
        replaced.decode() or None,
        tuple(texts),
    )
    run, name = context.services.scripts.deploy(context, upload)
    if run is None:
        return done(job, resp.encode(OK))
    here = replace(context, upload=name)
    token = CURRENT.set(here)
    try:
        context.connection.command("KM.RUNS", job.id, *(("UNATTENDED",) if unblocking else ()))
        results, errors = results_of(here, run)
    finally:
        CURRENT.reset(token)
    results = [r if isinstance(r, (str, bytes, bytearray, int)) else str(r) for r in results]
    if not unblocking:
        return done(job, resp.encode([results, errors]))
    return ended(job, len(results), resp.encode(results), resp.encode(errors))


def _answer_command(context: JobContext, job: Job) -> Any:
    return resp.of_function(run_command(context, job))


def _answer_unregister(context: JobContext, job: Job) -> Any:
    unregister(context, job)
    return OK


def _answer_gears(context: JobContext, job: Job) -> Any:
    reply = gears_command(context, job)
    return OK if reply is None else reply


_ANSWERS: dict[JobKind, Callable[[JobContext, Job], Any]] = {
    JobKind.MISS: _registered,
    JobKind.EVENT: _registered,
    JobKind.COMMAND: _answer_command,
    JobKind.UNREGISTER: _answer_unregister,
    JobKind.GEARS: _answer_gears,
    **ai_jobs.RUNS,
}
