"""What a script sees: its globals, and the importable modules `redisgears` and `redisAI`.

The functions find their shard and job in the context variable of `context`, so one module serves
every script and shard of the process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import types
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

from keymiss.logs import log_event
from keymiss.worker.functions import redisai_api
from keymiss.worker.functions.builder import GearsBuilder
from keymiss.worker.functions.futures import GearsFuture
from keymiss.worker.functions.hooks import call_next
from keymiss.worker.functions.job_context import CURRENT, FlatError, GearsError, JobContext, Reply, current
from keymiss.worker.functions.records import decode
from keymiss.worker.functions.time_events import register_time_event

_LEVELS = {"debug": "debug", "verbose": "debug", "notice": "info", "warning": "warning"}

_MAY_WAIT_FOR_A_JOB = frozenset(
    {
        *(
            "GET",
            "MGET",
            "RG.PYEXECUTE",
            "RG.UNREGISTER",
            "RG.TRIGGER",
            "AI._MODELSCAN",
            "AI._SCRIPTSCAN",
            "AI.MODELGET",
        ),
        *("AI.MODELSTORE", "AI.MODELSET", "AI.MODELEXECUTE", "AI.MODELRUN"),
        *("AI.SCRIPTSTORE", "AI.SCRIPTSET", "AI.SCRIPTEXECUTE", "AI.SCRIPTRUN"),
        *("AI.DAGEXECUTE", "AI.DAGEXECUTE_RO", "AI.DAGRUN", "AI.DAGRUN_RO"),
    }
)
"""Commands that may wait for another job: the pool lets another thread work meanwhile."""


GEARS_SETTING = "KEYMISS_GEARS_"


def execute(*args: Any) -> Any:
    """Runs a command on the shard of the job and returns its reply: str (bytes where it is not
    UTF-8), int, list or None. An error reply is raised. While a stored script is loaded it does
    nothing and returns None."""
    context = current()
    if context.loading:
        return None
    if not args or not isinstance(args[0], str | bytes):
        raise GearsError("the given command must be a string: execute(command, argument, ...)")
    name = args[0].decode("latin-1") if isinstance(args[0], bytes) else str(args[0])
    context.ran_commands()
    if name.upper() in _MAY_WAIT_FOR_A_JOB:
        with context.services.waiting():
            return decode(context.connection.command(*args))
    return decode(context.connection.command(*args))


def execute_together(commands: Sequence[Sequence[Any]], *, raw: bool = False) -> list[Any]:
    """Runs commands in one round trip. An error is a reply too (`Exception`): nothing is raised for it.
    `raw`: strings as bytes, which takes a long list of them less time."""
    context = current()
    context.ran_commands()
    replies = context.connection.pipeline(commands)
    return replies if raw else [decode(reply) for reply in replies]


def hashtag() -> str:
    """The tag of the lowest slot that the job's shard serves."""
    return current().shard.tag


def log(message: Any, level: str = "notice") -> None:
    """Writes to the worker's log; levels debug, verbose, notice, warning. The line of a job that clients wait
    for has their requests' ids."""
    context = CURRENT.get()
    ids = context.request_fields if context is not None else {}
    log_event("script", _LEVELS.get(level, "info"), message=str(message), **ids)


def override_reply(value: Any, record: Any = None) -> None:
    """Sets what the clients that wait for the missed key get. A str that looks like ``-ERR text`` or
    ``+OK`` becomes an error or a status; bytes go out as they are. `record`: one of those that the function
    was given, if it takes several misses; its clients get the reply when the function waits, or ends."""
    _reply("override_reply").set(value, record)


def fail_reply(error: Any, record: Any = None) -> None:
    """The clients that wait for the missed key get this error, as if the function had raised it; it goes on
    if it takes several misses."""
    _reply("fail_reply").fail(error, record)


def reply_together(
    commands: Sequence[Sequence[Any]],
    values: Sequence[tuple[object, Any]],
    models: Sequence[tuple[str, int]],
) -> tuple[list[Any], list[bool]]:
    """`execute_together` and, behind it in the same round trip, what the clients of records get (value or
    error, record), which counts only while the models are of these versions. Whether each did."""
    current().ran_commands()
    return _reply("override_reply").with_commands(commands, values, models)


def _reply(name: str) -> Reply:
    reply = current().reply
    if reply is None:
        raise GearsError(f"{name}: no client waits for this function")
    return reply


def config_get(key: str) -> str | None:
    """The shard's settings when the job was taken: ``cache``: "yes" or "no"; ``answer-ttl-s``: a number, "0"
    for no limit. Others: what RG.CONFIGSET or the module's load arguments say, else the worker's environment
    variable KEYMISS_GEARS_<KEY>, None when neither does."""
    if key == "cache":
        return "yes" if current().cache else "no"
    if key == "answer-ttl-s":
        job = current().job
        return None if job is None else str(job.answer_ttl_s)
    (value,) = current().connection.command("RG.CONFIGGET", key)
    if isinstance(value, Exception):
        return os.environ.get(f"{GEARS_SETTING}{key.upper()}")
    return str(decode(value))


def max_idle_s(context: JobContext) -> float:
    """How long a run waits for other shards."""
    (limit_ms,) = context.connection.command("RG.CONFIGGET", "ExecutionMaxIdleTime")
    return int(limit_ms) / 1000


def gears_config_get(key: str, default: Any = None) -> Any:
    """`config_get` with a default."""
    value = config_get(key)
    return default if value is None else value


GB = GearsBuilder
GearsConfigGet = gears_config_get
# The names as scripts use them, for scripts that import them when types are checked only (gears/*.py).


def flat_error(message: Any) -> NoReturn:
    """Raises an error whose text is the message."""
    raise FlatError(str(message))


class Atomic:
    """RedisGears' atomic block stops the server; a client cannot."""

    def __init__(self) -> None:
        raise GearsError("atomic() is not supported: use a Lua script, execute('EVAL', ...)")


def create_future() -> asyncio.Future[Any]:
    """A future of the running coroutine's loop."""
    return asyncio.get_running_loop().create_future()


def set_future_results(future: asyncio.Future[Any], result: Any) -> None:
    """Ends a future, from any thread."""

    def end() -> None:
        if not future.done():
            future.set_result(result)

    future.get_loop().call_soon_threadsafe(end)


def set_future_exception(future: asyncio.Future[Any], error: Any) -> None:
    """Ends a future with an error, from any thread."""
    raised = error if isinstance(error, BaseException) else GearsError(str(error))

    def end() -> None:
        if not future.done():
            future.set_exception(raised)

    future.get_loop().call_soon_threadsafe(end)


def run_coroutine(
    coroutine: Coroutine[Any, Any, Any], f: asyncio.Future[Any] | None = None, delay: float = 0
) -> None:
    """Starts a coroutine beside the running one, after `delay` seconds; `f` gets its result. It is
    cancelled if it still runs when the function has ended."""

    async def body() -> None:
        try:
            await asyncio.sleep(delay)
            result = await coroutine
        except Exception as error:
            log(f"coroutine failed: {error}", "warning")
            if f is not None:
                set_future_exception(f, error)
            return
        if f is not None:
            set_future_results(f, result)

    asyncio.get_running_loop().create_task(body())


def script_globals() -> dict[str, Any]:
    """A fresh namespace for one script."""
    return {
        "__name__": "__gears__",
        "GB": GB,
        "GearsBuilder": GearsBuilder,
        "execute": execute,
        "hashtag": hashtag,
        "log": log,
        "override_reply": override_reply,
        "fail_reply": fail_reply,
        "configGet": config_get,
        "gearsConfigGet": gears_config_get,
        "GearsConfigGet": GearsConfigGet,
        "flat_error": flat_error,
        "atomic": Atomic,
        "createFuture": create_future,
        "setFutureResults": set_future_results,
        "setFutureException": set_future_exception,
        "runCoroutine": run_coroutine,
        "isAsyncAllow": lambda: True,
        "isInAtomicBlock": lambda: False,
        "call_next": call_next,
        "registerTE": register_time_event,
        "gearsFuture": GearsFuture,
        "redisgears": REDISGEARS,
    }


def _module(name: str, doc: str, members: dict[str, Any]) -> types.ModuleType:
    module = types.ModuleType(name, doc)
    module.__dict__.update(members)
    return module


REDISGEARS = _module(
    "redisgears",
    "The module that RedisGears puts beside its functions.",
    {
        "executeCommand": execute,
        "getMyHashTag": hashtag,
        "log": log,
        "config_get": config_get,
        "overrideReply": override_reply,
        "atomicCtx": Atomic,
        "flatError": flat_error,
        "isAsyncAllow": lambda: True,
        "isInAtomicBlock": lambda: False,
        "callNext": call_next,
        "registerTimeEvent": register_time_event,
        "gearsFutureCtx": GearsFuture,
    },
)


def install_modules() -> None:
    """Makes ``import redisgears`` (as gearsclient does) and ``import redisAI`` work in this process."""
    sys.modules["redisgears"] = REDISGEARS
    sys.modules["redisAI"] = _module(
        "redisAI", "Tensors and models, as RedisGears 1.2 has them.", redisai_api.MEMBERS
    )
