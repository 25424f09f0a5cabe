"""One version of a model: what was computed is of one model only, and is kept only while it is that one's.

A model may be replaced at any time. Its version on a shard is a number of more than 53 bits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from keymiss.pipeline.records import as_dict

TRIES = 3

Item = TypeVar("Item")


@dataclass(frozen=True)
class ModelVersion:
    """`sha256` is empty until a worker has loaded the model: the same version all the same. `lower`: of a
    split reader, whose upper half this is then; one of the two is never used with another one's."""

    key: str
    version: int
    sha256: str = field(compare=False)
    lower: ModelVersion | None = None

    @property
    def models(self) -> list[ModelVersion]:
        """This one, and the lower half."""
        return [self, self.lower] if self.lower else [self]


def model_version(key: str, reply: Sequence[Any] | None) -> ModelVersion | None:
    """From the reply to ``KM.MODELINFO key``; None when there is no such model."""
    if not reply:
        return None
    info = as_dict(reply)
    return ModelVersion(key, info["version"], info["sha256"])


async def by_one_version(
    items: Sequence[Item], compute: Callable[[Sequence[Item]], Awaitable[Sequence[Item]]]
) -> Sequence[Item]:
    """Has all items computed. `compute` gives back those during which the model was replaced: they are of no
    one model, and are computed again. What this gives had that happen each time."""
    for _ in range(TRIES):
        if items:
            items = await compute(items)
    return items


# Lua's whole numbers end at 2^53, so it is the module that compares versions: KM.MODELCHUNK gives an error
# for another one. A model is no key of a script: it belongs to the shard, whatever slot its key is in.
SAME_MODEL = """
local function same_model(key, version)
    local same = redis.pcall('KM.MODELCHUNK', key, version, 0, 0)
    if type(same) ~= 'table' then return true end
    if string.find(same.err, 'was replaced', 1, true) then return false end
    if string.find(same.err, 'model key is empty', 1, true) then return false end
    error(same)
end
"""

# KEYS: a hash of sentences if what is kept is of one of them, what is kept. ARGV: how many of KEYS it is made
# from, how many models, their names, their versions, its time to live in s ("0": for good), index and text of
# the sentence if there is one, the values. KM.DERIVE has what is kept go when a source or a model changes.
KEEP = (
    SAME_MODEL
    + """
local sources, models = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 1, models do
    if not same_model(ARGV[2 + i], ARGV[2 + models + i]) then return 0 end
end
local ttl, value = ARGV[3 + 2 * models], 4 + 2 * models
if sources > 0 then
    if redis.call('HGET', KEYS[1], ARGV[value]) ~= ARGV[value + 1] then return 0 end
    value = value + 2
end
local life = ttl == '0' and {} or {'EX', ttl}
for i = sources + 1, #KEYS do
    redis.call('SET', KEYS[i], ARGV[value], unpack(life))
    value = value + 1
end
local derive = {'KM.DERIVE', 'MODELS', models, unpack(ARGV, 3, 2 + models)}
derive[#derive + 1] = sources
for _, key in ipairs(KEYS) do derive[#derive + 1] = key end
redis.call(unpack(derive))
return 1
"""
)


def keep_command(
    model: ModelVersion,
    values: Mapping[str, str | bytes],
    ttl_s: str,
    sentence: tuple[str, str, str] | None = None,
) -> list[str | bytes]:
    """Keeps `values` (key -> value) for `ttl_s` seconds ("0": for good), if the model is still that version
    and `sentence` (key of the hash, index, text) still that text. They go when either changes, and before
    anything else when memory is short."""
    models, sources = model.models, sentence[:1] if sentence else ()
    names, versions = [one.key for one in models], [str(one.version) for one in models]
    arguments = [str(len(sources)), str(len(models)), *names, *versions, ttl_s]
    arguments += sentence[1:] if sentence else ()
    n_keys = str(len(sources) + len(values))
    return ["EVAL", KEEP, n_keys, *sources, *values, *arguments, *values.values()]
