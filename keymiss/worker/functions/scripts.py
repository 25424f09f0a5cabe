"""Scripts: run when they are uploaded, loaded again where a registration needs them.

A script is known by the sha1 of its source. Every shard has its own namespace for it, as in
RedisGears, so a global that a script fills with something of the shard (its hash tag, say) is never
seen by another shard. Loading runs the top level with `run()` and `execute()` doing nothing.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from types import CodeType

from keymiss.cluster.topology import Shard
from keymiss.corpus.catchup import catch_up
from keymiss.logs import log_event, one_line
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Recorder, Registration, Run
from keymiss.worker.functions.gears_api import script_globals
from keymiss.worker.functions.job_context import CURRENT, GearsError, JobContext


@dataclass(frozen=True)
class LoadedScript:
    """A script in the namespace of one shard; registrations by ordinal."""

    registrations: tuple[Registration, ...]


def sha1_of(source: bytes) -> str:
    """The script's name."""
    return hashlib.sha1(source, usedforsecurity=False).hexdigest()


def split_registration_id(registration_id: str) -> tuple[str, int]:
    """``<sha1>-<ordinal>``. GearsError if it is not of that form."""
    sha1, dash, ordinal = registration_id.rpartition("-")
    if not dash or not ordinal.isdigit():
        raise GearsError(f"registration id {registration_id!r} is not <script sha1>-<ordinal>")
    return sha1, int(ordinal)


def execute_source(context: JobContext, source: bytes, keep_runs: bool) -> Recorder:
    """Runs a script's top level on the context's shard and returns what it registered and wants to
    run."""
    recorder = Recorder(keep_runs=keep_runs)
    here = JobContext(
        context.services,
        context.shard,
        context.job,
        context.cache,
        recorder=recorder,
        loading=not keep_runs,
    )
    code: CodeType = compile(source, "<script>", "exec", dont_inherit=True)
    token = CURRENT.set(here)
    try:
        exec(code, script_globals())
    finally:
        CURRENT.reset(token)
    return recorder


class ScriptStore:
    """The loaded scripts of every shard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, str], LoadedScript] = {}
        self._guards: dict[tuple[str, str], threading.Lock] = {}

    def registration(self, context: JobContext, registration_id: str) -> Registration:
        """The registration, its script loaded (and onRegistered called) if this shard needs it the
        first time. GearsError when the shard does not know it."""
        sha1, ordinal = split_registration_id(registration_id)
        registrations = self._get(context, sha1).registrations
        if ordinal >= len(registrations):
            raise GearsError(f"script {sha1} made {len(registrations)} registrations, not {ordinal + 1}")
        return registrations[ordinal]

    def _get(self, context: JobContext, sha1: str) -> LoadedScript:
        place = (context.shard.identity, sha1)
        with self._lock:
            script = self._loaded.get(place)
            guard = self._guards.setdefault(place, threading.Lock())
        if script is not None:
            return script
        with guard:
            script = self._loaded.get(place)
            if script is None:
                source = context.connection.command("KM.SCRIPT", "GET", sha1)
                if source is None:
                    raise GearsError(f"the shard has no script {sha1}")
                script = self._load(context, source)
                with self._lock:
                    self._loaded[place] = script
            return script

    def _load(self, context: JobContext, source: bytes) -> LoadedScript:
        script = LoadedScript(tuple(execute_source(context, source, keep_runs=False).registrations))
        call_on_registered(context, script)
        return script

    def forget_shards(self, alive: set[str]) -> None:
        """Drops the namespaces of shards that are gone."""
        with self._lock:
            for place in [place for place in self._loaded if place[0] not in alive]:
                del self._loaded[place]
                self._guards.pop(place, None)

    def deploy(self, context: JobContext, source: bytes) -> Run | None:
        """Runs an uploaded script, then registers on every master what it registered. Returns the
        run it asked for. GearsError names the shards that could not be reached; the others keep the
        registrations, and the same upload again completes them."""
        recorder = execute_source(context, source, keep_runs=True)
        if not recorder.registrations:
            return recorder.run
        sha1 = sha1_of(source)
        failures: list[str] = []
        masters = context.services.masters()
        for shard in masters:
            here = context.on(shard)
            uploaded = LoadedScript(tuple(recorder.registrations)) if shard == context.shard else None
            try:
                self._deploy_on(here, sha1, source, uploaded)
            except Exception as error:
                failures.append(f"{shard.address}: {one_line(error)}")
        if failures:
            raise GearsError(
                f"not registered on {len(failures)} of {len(masters)} shards: {'; '.join(failures)}"
            )
        log_event(
            "script_registered", sha1=sha1, registrations=len(recorder.registrations), shards=len(masters)
        )
        return recorder.run

    def _deploy_on(
        self, context: JobContext, sha1: str, source: bytes, uploaded: LoadedScript | None
    ) -> None:
        if uploaded is None:
            script = self._load(context, source)
        else:
            script = uploaded
            call_on_registered(context, script)
        with self._lock:
            self._loaded[(context.shard.identity, sha1)] = script
        connection = context.connection
        connection.command("KM.SCRIPT", "SET", sha1, source)
        for registration in script.registrations:
            connection.command(*register_command(sha1, registration))
        catch_up(
            connection.command, lambda registration_id: split_registration_id(registration_id)[0] == sha1
        )


def call_on_registered(context: JobContext, script: LoadedScript) -> None:
    """Calls every onRegistered of the script on the context's shard."""
    token = CURRENT.set(context.on(context.shard))
    try:
        for registration in script.registrations:
            if registration.on_registered is not None:
                event_loops.resolve(registration.on_registered())
    finally:
        CURRENT.reset(token)


def register_command(sha1: str, registration: Registration) -> list[str]:
    """The KM.REGISTER command for a registration."""
    return [
        "KM.REGISTER",
        f"{sha1}-{registration.ordinal}",
        sha1,
        str(registration.ordinal),
        registration.reader,
        registration.desc,
        registration.mode,
        registration.prefix,
        ",".join(registration.keys.event_types),
        ",".join(registration.keys.key_types),
        ",".join(registration.keys.commands),
        str(registration.keys.miss_batch),
        "1" if registration.keys.coalesce else "0",
    ]


def all_shards(context: JobContext, local: bool) -> list[Shard]:
    """The shards a run concerns."""
    return [context.shard] if local else (context.services.masters() or [context.shard])
