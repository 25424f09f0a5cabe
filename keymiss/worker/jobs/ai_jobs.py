"""Jobs of the AI commands: model runs (batched, if their model wants that), scripts, DAGs, what is to be
looked into, and scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from redis.exceptions import ResponseError

from keymiss.reading import tensors
from keymiss.reading.backends.base import ModelError
from keymiss.reading.tensors import Tensor, from_array
from keymiss.worker.functions.dags import (
    GetStep,
    ModelStep,
    NotRun,
    Outcome,
    ScriptStep,
    SetStep,
    Step,
    run_steps,
)
from keymiss.worker.functions.job_context import JobContext
from keymiss.worker.functions.records import decode
from keymiss.worker.job import Job, JobKind, JobStatus
from keymiss.worker.jobs import resp
from keymiss.worker.jobs.replies import End, Reply, done, failed_plainly, plain_text, send
from keymiss.worker.script_run import ScriptRun

OK, NOT_RUN, TIMED_OUT = resp.Status("OK"), resp.Status("NA"), resp.Status("TIMEDOUT")

META, BLOB, VALUES = 1, 2, 4
"""Parts of AI.TENSORGET, as a DAG's payload has them."""

SCAN_COUNT = 1000


class Payload:
    """A job's payload, read from its beginning."""

    def __init__(self, payload: Sequence[bytes]) -> None:
        self._parts: Iterator[bytes] = iter(payload)

    def bytes(self) -> bytes:
        """The next one."""
        return next(self._parts)

    def text(self) -> str:
        """The next one, a name or a key."""
        return self.bytes().decode("utf-8", "surrogateescape")

    def number(self) -> int:
        """The next one."""
        return int(self.bytes())

    def names(self) -> list[str]:
        """How many, and they."""
        return [self.text() for _ in range(self.number())]

    def rest(self) -> list[str]:
        """What is left."""
        return [one.decode("utf-8", "surrogateescape") for one in self._parts]


# ---- runs ----


@dataclass(frozen=True)
class _ModelRun:
    job: Job
    key: str
    inputs: list[Tensor]
    outputs: list[str]

    @property
    def rows(self) -> int:
        return self.inputs[0].dims[0]


def _read_run(context: JobContext, job: Job) -> _ModelRun:
    payload = Payload(job.payload)
    key, inputs, outputs = payload.text(), payload.names(), payload.names()
    return _ModelRun(job, key, tensors.get_tensors(context.connection, inputs), outputs)


def run_model(context: JobContext, job: Job) -> Any:
    """AI.MODELEXECUTE: reads the inputs, runs, stores the outputs."""
    run = _read_run(context, job)
    result = context.services.models.run(
        context.shard, context.connection, run.key, run.inputs, len(run.outputs)
    )
    context.count_model_run(result.duration_us)
    return _store(context, job, run.outputs, result.outputs)


def _store(context: JobContext, job: Job, names: Sequence[str], made: Sequence[Tensor]) -> Any:
    """Not what came after its client had been told that it is too late."""
    if job.overdue:
        return TIMED_OUT
    tensors.set_tensors(context.connection, list(zip(names, made, strict=True)))
    return OK


def run_batch(context: JobContext, run: Sequence[Job], ended: Callable[[Reply], None]) -> None:
    """Runs of one model whose inputs differ in their rows alone: as many rows at once as the model wants."""
    read: list[_ModelRun] = []
    for job in run:
        try:
            read.append(_read_run(context, job))
        except (ModelError, tensors.TensorError, ResponseError) as error:
            ended(failed_plainly(job, error))
    for batch in _batches(read):
        for reply in _run_together(context, batch):
            ended(reply)


def _batches(runs: Sequence[_ModelRun]) -> list[list[_ModelRun]]:
    """By the shapes that the inputs have now: they may have been replaced since the server looked."""
    batches: dict[Any, list[list[_ModelRun]]] = {}
    for run in runs:
        shapes = tuple((tensor.type_name, tensor.dims[1:]) for tensor in run.inputs)
        alone = any(not tensor.dims or tensor.dims[0] != run.inputs[0].dims[:1][0] for tensor in run.inputs)
        like = (run.key, shapes, len(run.outputs), run.job.local_id if alone else None)
        mine = batches.setdefault(like, [[]])
        if mine[-1] and sum(one.rows for one in mine[-1]) + run.rows > run.job.batch:
            mine.append([])
        mine[-1].append(run)
    return [batch for many in batches.values() for batch in many]


def _run_together(context: JobContext, batch: Sequence[_ModelRun]) -> list[Reply]:
    first = batch[0]
    try:
        if len(batch) == 1:
            inputs = first.inputs
        else:
            parts = zip(*([tensor.array for tensor in run.inputs] for run in batch), strict=True)
            inputs = [from_array(np.concatenate(part)) for part in parts]
        result = context.services.models.run(
            context.shard, context.connection, first.key, inputs, len(first.outputs)
        )
        rows = sum(run.rows for run in batch) if len(batch) > 1 else None
        if rows is not None and any(output.dims[:1] != (rows,) for output in result.outputs):
            raise ModelError("Model did not generate the expected batch size")
    except (ModelError, tensors.TensorError, ResponseError, ValueError) as error:
        return [failed_plainly(run.job, error) for run in batch]
    replies, at = [], 0
    for run in batch:
        run.job.model_runs_us.append(result.duration_us)
        made = result.outputs
        if rows is not None:
            made = [from_array(output.array[at : at + run.rows]) for output in result.outputs]
            at += run.rows
        try:
            reply = resp.encode(_store(context, run.job, run.outputs, made))
            replies.append(done(run.job, reply))
        except ResponseError as error:
            replies.append(failed_plainly(run.job, error))
    return replies


def run_script(context: JobContext, job: Job) -> Any:
    """AI.SCRIPTEXECUTE, AI.SCRIPTRUN."""
    step = _script_step(Payload(job.payload))
    inputs = tensors.get_tensors(context.connection, list(step.inputs))
    run = ScriptRun(step.key, step.function, inputs, len(step.outputs), step.keys, step.args, step.list_at)
    result = context.services.torch_scripts.run(context.shard, context.connection, run)
    context.count_model_run(result.duration_us)
    return _store(context, job, step.outputs, result.outputs if step.outputs else [])


# ---- DAGs ----


def _script_step(payload: Payload) -> ScriptStep:
    key, function, list_at = payload.text(), payload.text(), payload.number()
    keys, args, inputs, outputs = (payload.names() for _ in range(4))
    return ScriptStep(key, function, inputs, outputs, keys, args, list_at)


def _step(payload: Payload) -> Step:
    kind = payload.text()
    if kind == "model":
        return ModelStep(payload.text(), payload.names(), payload.names())
    if kind == "script":
        return _script_step(payload)
    name = payload.text()
    if kind == "get":
        return GetStep(name, payload.number())
    type_name, dims = payload.text(), [payload.number() for _ in range(payload.number())]
    return SetStep(name, tensors.from_blob(type_name, dims, payload.bytes()))


def run_dag(context: JobContext, job: Job) -> Any:
    """AI.DAGEXECUTE and its kin."""
    payload = Payload(job.payload)
    read_only = payload.text() == "1"
    loaded, kept = payload.names(), payload.names()
    steps = [_step(payload) for _ in range(payload.number())]
    found = dict(zip(loaded, tensors.get_tensors(context.connection, loaded), strict=True))
    outcomes = run_steps(context, steps, found, read_only)
    if job.overdue:
        return TIMED_OUT
    if kept and not any(isinstance(outcome, Exception) for outcome in outcomes):
        tensors.set_tensors(context.connection, [(name, found[name]) for name in kept])
    return [_reply(step, outcome) for step, outcome in zip(steps, outcomes, strict=True)]


def _reply(step: Step, outcome: Outcome) -> Any:
    if isinstance(outcome, NotRun):
        return NOT_RUN
    if isinstance(outcome, Exception):
        return resp.Error(plain_text(outcome))
    if outcome is None:
        return OK
    assert isinstance(step, GetStep)
    return _tensor_reply(outcome, step.parts)


def _tensor_reply(tensor: Tensor, parts: int) -> Any:
    """As AI.TENSORGET."""
    contents = _values(tensor) if parts & VALUES else tensor.blob if parts & BLOB else None
    if not parts & META:
        return contents
    meta: list[Any] = ["dtype", tensor.type_name, "shape", list(tensor.dims)]
    if contents is not None:
        meta += ["values" if parts & VALUES else "blob", contents]
    return meta


def _values(tensor: Tensor) -> list[Any]:
    flat: list[Any] = tensor.array.ravel().tolist()
    return [resp.Double(value) if isinstance(value, float) else value for value in flat]


# ---- looking, scanning ----


def look(context: JobContext, job: Job) -> End:
    """Looks into what is to be stored, and has it stored, which ends the job. ModelError if it is bad: then
    what was there before stays."""
    what, key, *rest = job.payload
    name = key.decode("utf-8", "surrogateescape")
    if what == b"script":
        source, *entry_points = rest
        context.services.torch_scripts.look(source, [decode(one) for one in entry_points])
        taken = context.connection.command(*_looked(job, key, [], []))
        return End(JobStatus.DONE if taken else JobStatus.LATE)
    if what == b"stored":
        return _look_at_stored(context, job, name)
    backend, size = rest
    store = context.services.models.store
    part = partial(context.connection.command, "KM.CANDIDATE", job.id)
    looked = store.look(name, backend.decode(), int(size), part)
    found = looked.model
    if backend in (b"TORCH", b"ONNX"):
        context.connection.command("KM.BACKEND", backend, found.version)
    version = 0
    try:
        version = int(context.connection.command(*_looked(job, key, found.inputs, found.outputs)))
    finally:
        store.looked(context.shard, name, looked, version or None)
    if version:
        store.note_digest(context.connection, name, version, looked.sha256)
    return End(JobStatus.DONE if version else JobStatus.LATE)


def _looked(job: Job, key: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[object, ...]:
    """The command that stores it and ends the job."""
    return ("KM.LOOKED", key, job.id, len(inputs), *inputs, len(outputs), *outputs)


def _look_at_stored(context: JobContext, job: Job, key: str) -> End:
    """A model that was stored unlooked: its names are kept; the client gets what AI.MODELGET says then."""
    info = context.connection.command("KM.MODELINFO", key)
    if info is not None:
        model, _ = context.services.models.store.get_as(context.shard, context.connection, key, info)
        names = (len(model.inputs), *model.inputs, len(model.outputs), *model.outputs)
        context.connection.command("KM.MODELNAMES", key, info[1], *names)
    return send(context, [done(job, resp.encode(OK))])[0]


def scan(context: JobContext, job: Job) -> Any:
    """The keys of all models, or scripts, each with its tag."""
    (what,) = job.payload
    kind, *asked = (
        ("km-aimodl", "KM.MODELINFO") if what == b"models" else ("km-script", "AI.SCRIPTGET", "META")
    )
    cursor, found = b"0", []
    while True:
        cursor, keys = context.connection.command("SCAN", cursor, "TYPE", kind, "COUNT", SCAN_COUNT)
        found += keys
        if cursor == b"0":
            break
    names = sorted(set(found))
    replies = context.connection.pipeline([(asked[0], name, *asked[1:]) for name in names])
    tags = [_tag(reply) for reply in replies]
    return [[name, tag] for name, tag in zip(names, tags, strict=True) if tag is not None]


def _tag(reply: Any) -> bytes | None:
    if not isinstance(reply, list):  # the key went meanwhile
        return None
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    tag: bytes = fields[b"tag"]
    return tag


RUNS: dict[JobKind, Callable[[JobContext, Job], Any]] = {
    JobKind.MODEL: run_model,
    JobKind.TORCHSCRIPT: run_script,
    JobKind.DAG: run_dag,
    JobKind.SCAN: scan,
}
"""What gives the reply of a job of its kind. LOOK is none of them: its reply is a command of its own."""
