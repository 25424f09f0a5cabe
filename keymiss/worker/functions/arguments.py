"""What the calls of `GearsBuilder` accept. Anything else is a GearsError, in RedisGears' words where it
has some: an argument that is taken and ignored is worse than an error."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from keymiss.worker.functions.job_context import GearsError

KEY_TYPES = ("string", "list", "hash", "set", "zset", "stream", "module", "empty")

MISS = "keymiss"

Params = ParamSpec("Params")
Result = TypeVar("Result")


def counted(method: Callable[Params, Result]) -> Callable[Params, Result]:
    """A method that is called with too many, too few or unknown arguments says so as RedisGears does."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise GearsError(f"wrong number of args to {method.__name__} function: {error}") from None
        return method(*args, **kwargs)

    return call


def function(name: str, value: Any) -> None:
    """`name`: the step's, with the argument's if it takes several functions."""
    if not callable(value):
        raise GearsError(f"{name} argument must be a function, not {value!r}")


def text(name: str, value: Any) -> None:
    """A str."""
    if not isinstance(value, str):
        raise GearsError(f"{name} argument must be a string, not {value!r}")


def truth(name: str, value: Any) -> None:
    """True or False, not what is like it."""
    if not isinstance(value, bool):
        raise GearsError(f"{name} value is not boolean: {value!r}")


def number(name: str, value: Any) -> None:
    """A whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise GearsError(f"{name} argument must be a number, 0 or more, not {value!r}")


def known(call: str, given: Iterable[str], options: Iterable[str]) -> None:
    """Refuses arguments that the call does not have."""
    for name in given:
        if name not in options:
            raise GearsError(
                f"{call} has no argument {name!r}; it has {', '.join(options) or 'none of its own'}"
            )


def names(name: str, each: str, value: Any) -> tuple[str, ...]:
    """A list of names; None is none. They are joined by commas on the way to the shards."""
    if value is None:
        return ()
    if isinstance(value, (str, bytes)):
        raise GearsError(f"{name} must be a list of strings, not one string")
    try:
        entries = tuple(value)
    except TypeError:
        raise GearsError(f"given {name} is not iterable: {value!r}") from None
    for entry in entries:
        if not isinstance(entry, str):
            raise GearsError(f"given {each} type is not string: {entry!r}")
        if not entry or "," in entry:
            raise GearsError(f"{name} must be a list of non-empty strings without commas, got {entry!r}")
    return entries


def what_triggers(
    event_types: tuple[str, ...], key_types: tuple[str, ...], commands: tuple[str, ...], mode: str
) -> None:
    """Refuses registrations that would not run when they say."""
    for name in key_types:
        if name not in KEY_TYPES:
            raise GearsError(f"unknown key type {name!r}; there are {', '.join(KEY_TYPES)}")
    if MISS not in event_types:
        if mode == "sync" and not commands:
            raise GearsError(
                "mode 'sync' is not supported for events: a function runs after the command was answered. "
                "Use 'async_local', commands=[...] whose clients wait, or a Lua script for what the next "
                "command must see"
            )
        return
    if len(event_types) > 1:
        raise GearsError(f"eventTypes: '{MISS}' stands alone; register a second time for the other events")
    if key_types and key_types != ("empty",):
        raise GearsError(f"keyTypes: the type of a key that is missed is 'empty', not {key_types[0]!r}")
    others = [name for name in commands if name not in ("get", "mget")]
    if others or commands == ("mget",):
        raise GearsError(
            f"commands={others or ['mget']!r}: only the GET of a missing key is caught, and with it MGET: "
            "commands=['get'] or ['get', 'mget']"
        )
