"""Values as Cypher text, for the ``CYPHER name=value`` prefix of GRAPH.QUERY.

That prefix is the only way parameters reach such a server, so what stands in it must be quoted: a
string between double quotes, with backslash and double quote escaped, is read back as it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MAX_INTEGER = 2**63 - 1


def with_parameters(query: str, parameters: Mapping[str, Value]) -> str:
    """The query behind its parameters. ValueError for a value or a name that cannot be written."""
    given = [f"{_name(name)}={literal(value)}" for name, value in parameters.items()]
    return f"CYPHER {' '.join(given)} {query}" if given else query


def literal(value: Value) -> str:
    """One value. ValueError: NUL in a string, a number that is not finite or not in 64 bits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
            raise ValueError(f"{value} does not fit in 64 bits")
        return str(value)
    if isinstance(value, float):
        return _decimal(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_name(name)}:{literal(each)}" for name, each in value.items()) + "}"
    return "[" + ",".join(map(literal, value)) + "]"


def _quoted(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"a NUL cannot be written in Cypher: {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _decimal(number: float) -> str:
    if not math.isfinite(number):
        raise ValueError(f"{number} cannot be written in Cypher")
    return repr(number)


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name")
    return name
