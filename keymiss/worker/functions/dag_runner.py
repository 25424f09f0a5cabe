"""`redisAI.createDAGRunner()` of gears functions: a DAG that is put together step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from keymiss.reading import tensors
from keymiss.reading.backends.base import ModelError
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.dags import GetStep, ModelStep, NotRun, ScriptStep, SetStep, Step, run_steps
from keymiss.worker.functions.job_context import GearsError, current

ALL_PARTS = 3


def _name(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise GearsError(f"{what} must be a string, not {value!r}")
    return value


def _names(what: str, values: Any) -> list[str]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise GearsError(f"{what} must be iterable, not {values!r}")
    return [_name(f"{what}: each name", value) for value in values]


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise GearsError(f"expected a tensor, got {type(value).__name__}")
    return value


class DAGRunner:
    """Its methods have RedisGears' names, and give it back, so that calls can be chained."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tensor] = {}
        self._steps: list[Step] = []

    def Input(self, name: str, tensor: Tensor) -> DAGRunner:
        """A tensor that is there before the first step."""
        if _name("Input: the name", name) in self._loaded:
            raise GearsError(f"Input: {name} is there already")
        self._loaded[name] = _tensor(tensor)
        return self

    def TensorSet(self, name: str, tensor: Tensor) -> DAGRunner:
        """A tensor that gets a name."""
        self._steps.append(SetStep(_name("TensorSet: the name", name), _tensor(tensor)))
        return self

    def TensorGet(self, name: str) -> DAGRunner:
        """A tensor that `Run` gives."""
        self._steps.append(GetStep(_name("TensorGet: the name", name), ALL_PARTS))
        return self

    def ModelRun(self, name: str, inputs: Iterable[str], outputs: Iterable[str]) -> DAGRunner:
        """Runs the model at the key `name`."""
        key = _name("ModelRun: the key", name)
        self._steps.append(
            ModelStep(key, _names("ModelRun: inputs", inputs), _names("ModelRun: outputs", outputs))
        )
        return self

    def ScriptRun(
        self, name: str, func: str, inputs: Iterable[str] = (), outputs: Iterable[str] = ()
    ) -> DAGRunner:
        """Calls a function of the script at the key `name`."""
        self._steps.append(
            ScriptStep(
                _name("ScriptRun: the key", name),
                _name("ScriptRun: the function", func),
                _names("ScriptRun: inputs", inputs),
                _names("ScriptRun: outputs", outputs),
            )
        )
        return self

    def OpsFromString(self, ops: str) -> DAGRunner:
        """Steps as AI.DAGEXECUTE has them, each behind ``|>``."""
        first, *rest = _name("OpsFromString: the steps", ops).split("|>")
        if first.strip() or not rest:
            raise GearsError("OpsFromString: every step begins with |>")
        self._steps += [_step(words.split()) for words in rest]
        return self

    async def Run(self) -> list[Tensor]:
        """The tensors that are asked for, in the steps' order. ModelError with a step's first error; other
        coroutines of the function go on meanwhile."""
        if not self._steps:
            raise GearsError("DAG is empty")
        context, found = current(), dict(self._loaded)
        outcomes = await asyncio.to_thread(run_steps, context, self._steps, found)
        for outcome in outcomes:
            if isinstance(outcome, ModelError):
                raise ModelError(outcome.reason)
            if isinstance(outcome, Exception):
                raise outcome
        for step, outcome in zip(self._steps, outcomes, strict=True):
            if isinstance(outcome, NotRun):
                raise GearsError(f"there is no tensor {getattr(step, 'name', '')} in the DAG")
        return [outcome for outcome in outcomes if isinstance(outcome, Tensor)]


# ---- steps as text ----


class _Words:
    """What is left of a step's words."""

    def __init__(self, words: list[str]) -> None:
        self.all = words
        self._left = words[1:]

    def one(self) -> str:
        """The next word."""
        if not self._left:
            raise GearsError(f"OpsFromString: a word is missing behind {' '.join(self.all)}")
        return self._left.pop(0)

    def counted(self) -> list[str]:
        """A number and as many words."""
        number = self.one()
        if not number.isdigit():
            raise GearsError(f"OpsFromString: {number} is not a number, in {' '.join(self.all)}")
        return [self.one() for _ in range(int(number))]

    def rest(self) -> list[str]:
        """All that is left."""
        rest, self._left = self._left, []
        return rest

    @property
    def more(self) -> bool:
        """True while there is something."""
        return bool(self._left)


def _step(words: list[str]) -> Step:
    given = _Words(words)
    name = words[0].upper() if words else ""
    if name == "AI.TENSORGET":
        step: Step = GetStep(given.one(), ALL_PARTS)
    elif name == "AI.TENSORSET":
        step = _set_step(given)
    elif name == "AI.MODELEXECUTE":
        key, parts = given.one(), _parts(given, ("INPUTS", "OUTPUTS"))
        step = ModelStep(key, parts["INPUTS"], parts["OUTPUTS"])
    elif name == "AI.SCRIPTEXECUTE":
        key, function = given.one(), given.one()
        parts = _parts(given, ("KEYS", "INPUTS", "ARGS", "OUTPUTS"))
        step = ScriptStep(key, function, parts["INPUTS"], parts["OUTPUTS"], parts["KEYS"], parts["ARGS"])
    else:
        raise GearsError(f"Unsupported command within DAG: {name}")
    if given.more:
        raise GearsError(f"OpsFromString: too many words: {' '.join(words)}")
    return step


def _parts(given: _Words, known: tuple[str, ...]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    while given.more:
        word = given.one().upper()
        if word not in known or word in parts:
            raise GearsError(f"OpsFromString: unexpected {word} in {' '.join(given.all)}")
        parts[word] = given.counted()
    return {word: parts.get(word, []) for word in known}


def _set_step(given: _Words) -> SetStep:
    name, type_name, rest = given.one(), given.one(), given.rest()
    words = [word.upper() for word in rest]
    at = words.index("VALUES") if "VALUES" in words else len(words)
    if not all(word.isdigit() for word in rest[:at]):
        raise GearsError("OpsFromString: a tensor is its name, type, dimensions, and VALUES")
    dims, texts = [int(word) for word in rest[:at]], rest[at + 1 :]
    values: list[Any] = list(texts)
    if type_name.upper() != "STRING":
        try:
            values = [
                float(text) if type_name.upper() in ("FLOAT", "DOUBLE") else int(text) for text in texts
            ]
        except ValueError as error:
            raise GearsError(f"OpsFromString: {error}") from error
    return SetStep(name, tensors.from_values(type_name, dims, values))
