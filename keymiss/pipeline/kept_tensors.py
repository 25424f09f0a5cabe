"""Tensors made of sentences: written with a mark of what they were made from, and read with it, at once.

So a tensor is never taken for that of another sentence: marks are fields of a hash of the article (index ->
mark), and one script writes both if the sentence is still that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keymiss.pipeline.model_version import SAME_MODEL, ModelVersion
from keymiss.pipeline.records import as_dict
from keymiss.reading.tensors import Tensor, from_blob

# KEYS: sentences, marks, tensors. ARGV: name and version of the model if they are made by one, else nothing,
# how many tensors a sentence has, then of each sentence index, text, mark, of each tensor type, two sizes,
# blob.
WRITE = (
    SAME_MODEL
    + """
local model, each, at, key = ARGV[1], tonumber(ARGV[3]), 4, 3
if model ~= '' and not same_model(model, ARGV[2]) then return 0 end
while key <= #KEYS do
    local here = redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1]
    if here then redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 2]) end
    at = at + 3
    for _ = 1, each do
        if here then
            redis.call('AI.TENSORSET', KEYS[key], ARGV[at], ARGV[at + 1], ARGV[at + 2], 'BLOB', ARGV[at + 3])
        end
        at, key = at + 4, key + 1
    end
end
if model ~= '' then redis.call('KM.DERIVE', 'MODELS', 1, model, 0, unpack(KEYS, 2)) end
return 1
"""
)

# KEYS: sentences, then hashes of marks, then tensors. ARGV: index, number of hashes.
READ = """
local found = {redis.call('HGET', KEYS[1], ARGV[1])}
for i = 2, #KEYS do
    if i <= 1 + tonumber(ARGV[2]) then
        found[i] = redis.call('HGET', KEYS[i], ARGV[1])
    else
        local tensor = redis.pcall('AI.TENSORGET', KEYS[i], 'META', 'BLOB')
        found[i] = type(tensor) == 'table' and not tensor.err and tensor
    end
end
return found
"""


# KEYS: the tensor. ARGV: a model's name and version, seconds ("0": for good), type, two sizes, blob.
KEEP = (
    SAME_MODEL
    + """
if not same_model(ARGV[1], ARGV[2]) then return 0 end
redis.call('AI.TENSORSET', KEYS[1], ARGV[4], ARGV[5], ARGV[6], 'BLOB', ARGV[7])
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
redis.call('KM.DERIVE', 'MODELS', 1, ARGV[1], 0, KEYS[1])
return 1
"""
)


@dataclass(frozen=True)
class Made:
    """What was made of one sentence: its index and text, the mark, tensors of two sizes by key."""

    idx: str
    text: str
    mark: str
    tensors: Mapping[str, Tensor]


def write_command(
    sentences: str, marks: str, made: Sequence[Made], model: ModelVersion | None = None
) -> list[Any]:
    """Keeps what was made of sentences (each with as many tensors) that are still the same; if it is made by
    a model, only while that is the same, and it goes when that does. Its reply is 0 if the model is not."""
    tensor_keys = [key for one in made for key in one.tensors]
    arguments: list[Any] = []
    for one in made:
        arguments += [one.idx, one.text, one.mark]
        for tensor in one.tensors.values():
            arguments += [tensor.type_name, *tensor.dims, tensor.array.tobytes()]
    names = [sentences, marks, *tensor_keys]
    version = [model.key, str(model.version)] if model else ["", ""]
    return ["EVAL", WRITE, len(names), *names, *version, len(made[0].tensors), *arguments]


def keep_command(model: ModelVersion, key: str, tensor: Tensor, ttl_s: str) -> list[Any]:
    """Keeps a tensor of two sizes that a model made, while that is the same, and for `ttl_s` seconds ("0":
    for good)."""
    value = [tensor.type_name, *tensor.dims, tensor.array.tobytes()]
    return ["EVAL", KEEP, 1, key, model.key, str(model.version), ttl_s, *value]


def read_command(sentences: str, idx: str, marks: Sequence[str], tensors: Sequence[str]) -> list[Any]:
    """The sentence, its field of each hash in `marks`, and each tensor; None for what is not there."""
    names = [sentences, *marks, *tensors]
    return ["EVAL_RO", READ, len(names), *names, idx, len(marks)]


def tensor_of(reply: Sequence[Any] | None) -> Tensor | None:
    """A tensor in the raw reply to `read_command`, or to ``AI.TENSORGET key META BLOB``."""
    if not reply:
        return None
    fields = as_dict(reply)
    return from_blob(fields[b"dtype"].decode(), fields[b"shape"], fields[b"blob"])
