"""Scripts: TorchScript as source, of which single functions are run over tensors.

What a script can reach is named here and nothing else: torch's operators, `redis.execute`, `redis.asList` and
`redisAI.model_execute`, which ask whoever runs it (`ScriptCalls`). There is no Python behind it: TorchScript
has neither imports nor files.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, cast

from keymiss.reading.backends.base import ModelError, reason_of
from keymiss.reading.backends.torchscript import from_torch, to_torch
from keymiss.reading.tensors import Tensor

MAX_WORDS = 32
"""Of a command whose arguments stand one by one; more of them go as a list."""

SIGNATURE = ["List[Tensor]", "List[str]", "List[str]"]
"""Of an entry point: tensors, keys, arguments."""


class ScriptCalls(Protocol):
    """What a script asks for while it runs. Both raise ModelError, whose text is the script's error."""

    def execute(self, words: list[str]) -> Any:
        """A command's reply: str, int, None or a list of them."""

    def run_model(self, key: str, inputs: list[Tensor], outputs: int) -> list[Tensor]:
        """Runs the model at the key; as many outputs as are wanted."""


class _Running:
    """The calls of one run, and the first error among them: TorchScript wraps it in a page of its own."""

    def __init__(self, calls: ScriptCalls) -> None:
        self.calls = calls
        self.error: ModelError | None = None

    def __call__(self, ask: Callable[[ScriptCalls], Any]) -> Any:
        try:
            return ask(self.calls)
        except ModelError as error:
            raise self.failed(error) from error

    def failed(self, error: ModelError) -> ModelError:
        """Keeps it, and gives it back to be raised."""
        self.error = self.error or error
        return error


_RUNNING: ContextVar[_Running] = ContextVar("keymiss_script")


def _execute(command: str, *words: str | None) -> Any:
    given = [command, *(word for word in words if word is not None)]
    return _RUNNING.get()(lambda calls: calls.execute(given))


def _execute_list(command: str, words: list[str]) -> Any:
    return _RUNNING.get()(lambda calls: calls.execute([command, *words]))


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    raise _RUNNING.get().failed(ModelError(f"redis.asList: the reply is a {type(value).__name__}, no list"))


def _model_execute(key: str, inputs: list[Any], outputs: int) -> list[Any]:
    given = from_torch(inputs)
    return to_torch(_RUNNING.get()(lambda calls: calls.run_model(key, given, outputs)))


@functools.cache
def _names() -> dict[str, Any]:
    """What a script's names mean. Made once a process: torch keeps the operators."""
    import torch
    from torch.jit._builtins import _find_builtin

    library = torch.library.Library("keymiss", "DEF")
    words = ", ".join(f"str? word{number}=None" for number in range(MAX_WORDS))
    for schema, function in (
        (f"execute(str command, {words}) -> Any", _execute),
        ("execute.list(str command, str[] words) -> Any", _execute_list),
        ("as_list(Any value) -> Any[]", _as_list),
        ("model_execute(str key, Tensor[] inputs, int outputs) -> Tensor[]", _model_execute),
    ):
        library.define(schema, alias_analysis="CONSERVATIVE")  # else what only writes is left out
        library.impl(schema.partition("(")[0], function, "CompositeExplicitAutograd")
    operators = torch.ops.keymiss

    def module(name: str, **members: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__dict__.update(members)
        return made

    of_torch = {
        name: value
        for name, value in vars(torch).items()
        if isinstance(value, (torch.dtype, torch.layout, torch.memory_format))
        or (callable(value) and _find_builtin(value))
    }
    return {
        "torch": module("torch", **of_torch),
        "redis": module("redis", execute=operators.execute, asList=operators.as_list),
        "redisAI": module("redisAI", model_execute=operators.model_execute),
        "_library": library,
    }


class TorchScript:
    """A compiled source. Its functions may run in several threads at once."""

    def __init__(self, source: str, entry_points: Sequence[str] = ()) -> None:
        """ModelError if it does not compile, or an entry point is not one."""
        import torch

        names = _names()
        self._unit: Any = torch._C.CompilationUnit()
        try:
            self._unit.define(source + "\n", cast(Any, names.get))
        except Exception as error:
            raise ModelError(f"the script does not compile: {_compiler_says(error)}") from error
        for name in entry_points:
            self._check(name)

    def _check(self, name: str) -> None:
        function = self._unit.find_function(name)
        if function is None:
            raise ModelError(f"Function {name} does not exist in the given script.")
        kinds = _kinds(function)
        if len(kinds) != len(SIGNATURE):
            raise ModelError(f"Wrong number of inputs in function {name}. Expected 3 but was {len(kinds)}")
        if kinds != SIGNATURE:
            raise ModelError(
                f"Wrong inputs type in function {name}. Expected signature similar to: "
                f"def {name}(tensors: List[Tensor], keys: List[str], args: List[str])"
            )

    def call(
        self, name: str, keys: Sequence[str], args: Sequence[str], calls: ScriptCalls, list_at: int = -1
    ) -> ScriptCall:
        """A call that is still to be run over tensors. From `list_at` on they are one list (-1: where the
        function has one). ModelError if there is no such function."""
        function = self._unit.find_function(name)
        if function is None:
            raise ModelError(f"Function does not exist: {name}")
        return ScriptCall(name, function, [list(keys), list(args)], calls, list_at)


class ScriptCall:
    """Runs like a model."""

    def __init__(
        self, name: str, function: Any, rest: list[list[str]], calls: ScriptCalls, list_at: int
    ) -> None:
        self._name, self._function, self._rest = name, function, rest
        self._calls, self._list_at = calls, list_at

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What the function returns. ModelError with what it says if it fails."""
        import torch

        running = _Running(self._calls)
        token = _RUNNING.set(running)
        try:
            with torch.inference_mode():
                returned = self._function(*self._arguments(to_torch(inputs)))
                return [] if returned is None else from_torch(returned)
        except ModelError:
            raise
        except Exception as error:
            raise running.error or ModelError(reason_of(error)) from error
        finally:
            _RUNNING.reset(token)

    def _arguments(self, tensors: list[Any]) -> list[Any]:
        """An entry point's three; or, of a function that takes tensors one by one, these, the last of them
        perhaps a list."""
        kinds = _kinds(self._function)
        if kinds == SIGNATURE:
            return [tensors, *self._rest]
        if unknown := [kind for kind in kinds if kind not in ("Tensor", "List[Tensor]")]:
            raise ModelError(f"Unsupported input type in function definition: {self._name} ({unknown[0]})")
        single = kinds.index("List[Tensor]") if "List[Tensor]" in kinds else len(kinds)
        fits = len(tensors) >= single if single < len(kinds) else len(tensors) == single
        if not fits or len(kinds) > single + 1 or self._list_at not in (-1, single):
            raise ModelError(
                f"Wrong number of inputs provided to function: {self._name} takes {', '.join(kinds)}"
            )
        return [*tensors[:single], tensors[single:]] if single < len(kinds) else tensors


def _kinds(function: Any) -> list[str]:
    return [str(argument.type) for argument in function.schema.arguments]


def _compiler_says(error: Exception) -> str:
    """Its first line, and where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:400] or type(error).__name__
