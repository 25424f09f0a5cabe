"""Scripts: run when they are uploaded, loaded again where a registration needs them.

Every upload has a namespace on every shard, as in RedisGears, so a global that a script fills with something
of the shard (its hash tag, say) is never seen by another shard, nor by another session. Loading runs the top
level with `run()` and `execute()` doing nothing.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType
from typing import Any

from redis.exceptions import RedisError

from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import Shard
from keymiss.corpus.catchup import catch_up
from keymiss.logs import log_event, one_line
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Recorder, Registered, Registration, Run
from keymiss.worker.functions.gears_api import script_globals
from keymiss.worker.functions.job_context import CURRENT, GearsError, JobContext


@dataclass(frozen=True)
class Upload:
    """What RG.PYEXECUTE was given. `session`: the ID, or the source's sha1; `replaced`: the session that goes
    when this one is there."""

    source: bytes
    session: str
    description: str = ""
    replaced: str | None = None
    requirements: tuple[str, ...] = ()

    @property
    def sha1(self) -> str:
        """The script's name."""
        return sha1_of(self.source)

    @property
    def whole(self) -> bool:
        """It goes in as a whole or not at all."""
        return self.session != self.sha1


@dataclass(frozen=True)
class LoadedScript:
    """A script in the namespace of one shard; registrations by ordinal."""

    registrations: tuple[Registration, ...]
    namespace: dict[str, Any]


@dataclass(frozen=True)
class Named:
    """An upload: its namespace's name, and its session."""

    upload: str
    session: str


@dataclass(frozen=True)
class StoredRegistration:
    """A row of KM.REGISTRATIONS."""

    id: str
    sha1: str
    ordinal: int
    mode: str
    commands: tuple[str, ...]
    session: str
    upload: str
    trigger: str

    @classmethod
    def of(cls, row: Sequence[Any]) -> StoredRegistration:
        """Of its bytes."""
        text = [one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else one for one in row]
        return cls(
            id=text[0],
            sha1=text[1],
            ordinal=int(text[2]),
            mode=text[5],
            commands=tuple(filter(None, text[9].split(","))) if text[3] == "CommandReader" else (),
            session=text[12],
            upload=text[13],
            trigger=text[14],
        )


def sha1_of(source: bytes) -> str:
    """The script's name."""
    return hashlib.sha1(source, usedforsecurity=False).hexdigest()


def stored_registrations(connection: ShardConnection) -> list[StoredRegistration]:
    """Those of a shard, the newest first."""
    return [StoredRegistration.of(row) for row in connection.command("KM.REGISTRATIONS")]


def execute_source(context: JobContext, source: bytes, recorder: Recorder) -> LoadedScript:
    """Runs a script's top level on the context's shard: what it registered is in the recorder, too."""
    here = JobContext(
        context.services,
        context.shard,
        context.job,
        context.cache,
        recorder=recorder,
        loading=not recorder.keep_runs,
        upload=recorder.upload,
    )
    code: CodeType = compile(source, "<script>", "exec", dont_inherit=True)
    namespace = script_globals()
    token = CURRENT.set(here)
    try:
        exec(code, namespace)
    finally:
        CURRENT.reset(token)
    return LoadedScript(tuple(recorder.registrations), namespace)


class ScriptStore:
    """The loaded scripts of every shard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, str], LoadedScript] = {}
        self._guards: dict[tuple[str, str], threading.Lock] = {}
        self._stored: dict[tuple[str, str], StoredRegistration] = {}

    def registration(self, context: JobContext, registration_id: str) -> Registration:
        """The registration, its script loaded (and onRegistered called) if this shard needs it the
        first time. GearsError when the shard does not know it."""
        stored = self._stored.get((context.shard.identity, registration_id)) or self._look_up(
            context, registration_id
        )
        registrations = self._get(context, stored).registrations
        if stored.ordinal >= len(registrations):
            raise GearsError(
                f"script {stored.sha1} made {len(registrations)} registrations, not {stored.ordinal + 1}"
            )
        return registrations[stored.ordinal]

    def namespace(self, context: JobContext) -> dict[str, Any] | None:
        """Of the context's upload on its shard; None when it is not loaded there."""
        with self._lock:
            script = self._loaded.get((context.shard.identity, context.upload or ""))
        return None if script is None else script.namespace

    def _look_up(self, context: JobContext, registration_id: str) -> StoredRegistration:
        rows = stored_registrations(context.connection)
        with self._lock:
            for place in [place for place in self._stored if place[0] == context.shard.identity]:
                del self._stored[place]
            self._stored.update({(context.shard.identity, row.id): row for row in rows})
        for row in rows:
            if row.id == registration_id:
                return row
        raise GearsError(f"the shard has no registration {registration_id!r}")

    def _get(self, context: JobContext, stored: StoredRegistration) -> LoadedScript:
        place = (context.shard.identity, stored.upload)
        with self._lock:
            script = self._loaded.get(place)
            guard = self._guards.setdefault(place, threading.Lock())
        if script is not None:
            return script
        with guard:
            script = self._loaded.get(place)
            if script is None:
                source = context.connection.command("KM.SCRIPT", "GET", stored.sha1)
                if source is None:
                    raise GearsError(f"the shard has no script {stored.sha1}")
                with self._lock:
                    ids = {
                        row.ordinal: row.id
                        for (shard, _), row in self._stored.items()
                        if shard == place[0] and row.upload == stored.upload
                    }
                script = self._load(
                    context,
                    source,
                    Named(stored.upload, stored.session),
                    lambda ordinal: ids.get(ordinal, ""),
                )
                with self._lock:
                    self._loaded[place] = script
            return script

    def _load(
        self, context: JobContext, source: bytes, of: Named, id_of: Callable[[int], str]
    ) -> LoadedScript:
        recorder = Recorder(of.upload, keep_runs=False, new_id=id_of, session=of.session)
        script = execute_source(context, source, recorder)
        call_on_registered(context, script)
        return script

    def forget_shards(self, alive: set[str]) -> None:
        """Drops the namespaces of shards that are gone."""
        with self._lock:
            for place in [place for place in self._loaded if place[0] not in alive]:
                del self._loaded[place]
                self._guards.pop(place, None)
            for place in [place for place in self._stored if place[0] not in alive]:
                del self._stored[place]

    def forget_registration(self, shard: Shard, registration_id: str) -> None:
        """It is unregistered; the namespace goes with the last one of its upload."""
        with self._lock:
            gone = self._stored.pop((shard.identity, registration_id), None)
            if gone is None or any(
                place[0] == shard.identity and row.upload == gone.upload
                for place, row in self._stored.items()
            ):
                return
            self._loaded.pop((shard.identity, gone.upload), None)
            self._guards.pop((shard.identity, gone.upload), None)

    def deploy(self, context: JobContext, upload: Upload) -> tuple[Run | None, str]:
        """Runs an uploaded script, then registers on every master what it registered. Returns the
        run it asked for, and the upload's name. GearsError names the shards that could not be reached. Of a
        script without a session the others keep the registrations, and the same upload again completes them;
        a session is as it was before."""
        connection = context.connection
        old = [
            row
            for row in stored_registrations(connection)
            if upload.whole and row.session == (upload.replaced or upload.session)
        ]
        gone = {row.id for row in old}
        (name,) = _new_ids(connection, 1) if upload.whole else (upload.sha1,)
        recorder = Recorder(
            name,
            keep_runs=True,
            session=upload.session,
            new_id=lambda _ordinal: _new_ids(connection, 1)[0],
            there=[
                Registered(row.id, row.mode, row.trigger, row.commands)
                for row in stored_registrations(connection)
                if row.id not in gone
            ],
        )
        uploaded = execute_source(context, upload.source, recorder)
        if not recorder.registrations:
            return recorder.run, name
        failures: list[str] = []
        masters = context.services.masters()
        for shard in masters:
            here = context.on(shard)
            try:
                self._deploy_on(here, upload, name, uploaded, is_here=shard == context.shard)
            except Exception as error:
                failures.append(f"{shard.address}: {one_line(error)}")
        new = [registration.id for registration in uploaded.registrations]
        if failures:
            if upload.whole or any(one.trigger or one.hook for one in uploaded.registrations):
                self._unregister(context, masters, new)
            raise GearsError(
                f"not registered on {len(failures)} of {len(masters)} shards: {'; '.join(failures)}"
            )
        self._unregister(context, masters, sorted(gone))
        log_event(
            "script_registered",
            sha1=upload.sha1,
            session=upload.session,
            registrations=len(recorder.registrations),
            shards=len(masters),
        )
        return recorder.run, name

    def _unregister(self, context: JobContext, masters: Sequence[Shard], ids: Sequence[str]) -> None:
        for shard in masters:
            with suppress(RedisError, OSError):  # a shard that is gone, or never had them
                context.on(shard).connection.pipeline([("KM.UNREGISTER", id_) for id_ in ids])
            for id_ in ids:
                self.forget_registration(shard, id_)

    def _deploy_on(
        self, context: JobContext, upload: Upload, name: str, uploaded: LoadedScript, is_here: bool
    ) -> None:
        ids = {registration.ordinal: registration.id for registration in uploaded.registrations}
        if is_here:
            script = uploaded
            call_on_registered(context, script)
        else:
            named = Named(name, upload.session)
            script = self._load(context, upload.source, named, lambda ordinal: ids.get(ordinal, ""))
        connection = context.connection
        connection.command("KM.SCRIPT", "SET", upload.sha1, upload.source)
        connection.command("KM.SESSION", upload.session, upload.description, *upload.requirements)
        for registration in script.registrations:
            if registration.callback is not None:  # a time event is that of the shard that the script ran on
                if not is_here:
                    continue
                if registration.prefix:
                    connection.command("SET", registration.prefix, registration.id)
            checked = uploaded.registrations[registration.ordinal]
            connection.command(*register_command(upload, registration, checked.told))
        with self._lock:
            self._loaded[(context.shard.identity, name)] = script
        catch_up(connection.command, lambda registration_id: registration_id in ids.values())


def _new_ids(connection: ShardConnection, count: int) -> list[str]:
    return [id_.decode() for id_ in connection.command("KM.IDS", count)]


def call_on_registered(context: JobContext, script: LoadedScript) -> None:
    """Calls every onRegistered of the script on the context's shard."""
    token = CURRENT.set(context.on(context.shard))
    try:
        for registration in script.registrations:
            if registration.on_registered is not None:
                event_loops.resolve(registration.on_registered())
    finally:
        CURRENT.reset(token)


def register_command(upload: Upload, registration: Registration, told: Mapping[str, int]) -> list[str]:
    """The KM.REGISTER command for a registration."""
    return [
        "KM.REGISTER",
        registration.id,
        upload.sha1,
        str(registration.ordinal),
        registration.reader,
        registration.desc,
        registration.mode,
        registration.prefix,
        ",".join(registration.keys.event_types),
        ",".join(registration.keys.key_types),
        ",".join(registration.commands),
        str(registration.keys.miss_batch),
        "1" if registration.keys.coalesce else "0",
        upload.session,
        registration.upload,
        registration.trigger,
        "\n".join(f"{name}={value}" for name, value in told.items()),
    ]


def all_shards(context: JobContext, local: bool) -> list[Shard]:
    """The shards a run concerns."""
    return [context.shard] if local else (context.services.masters() or [context.shard])
