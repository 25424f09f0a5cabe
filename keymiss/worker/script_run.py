"""A run of a script's function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keymiss.reading.tensors import Tensor


@dataclass(frozen=True)
class ScriptRun:
    """What is asked of a script."""

    key: str
    function: str
    inputs: Sequence[Tensor] = ()
    outputs: int = 0
    """0: what it returns is not asked for."""
    keys: Sequence[str] = ()
    args: Sequence[str] = ()
    list_at: int = -1
    """From this input on they are one list (AI.SCRIPTRUN's $); -1: where the function has one."""
    read_only: bool = False
    """It may send no commands."""
