"""The split reader: BERT whose lower layers read question and text apart, and whose upper layers read both.

In the lower `split` layers tokens of the question attend to the question only and tokens of the text to the
text only, so each half is run alone: the text's when it comes in, the question's once. The upper layers run
over the two put together. So that a half never depends on the other one:

* the question is ``[CLS] question [SEP]``, token type 0, positions 0, 1, 2, ...
* the text is ``text [SEP]``, token type 1, positions TEXT_POSITION, TEXT_POSITION + 1, ... whatever the
  question's length: about where a text begins behind a question of ten words, as in the pre-training. A
  longer question has positions that the text has too; their token types tell them apart.

Outputs: logits of an answer's start and end, over the question's tokens and then the text's, with [CLS] as
"no answer"; and the relevance logit of the cross-encoder it starts from, out of [CLS].

A folder has Hugging Face's layout and names (`bert.encoder.layer.0...`), and `split_layers` in config.json.
In a packed one word embeddings are those of another folder (`words_of` in config.json, relative), and the
layers' weights are INT8 with a scale for each row (`<name>.scale`, FLOAT16 [rows]).
Sources: DeFormer (Cao et al. 2020), PreTTR (MacAvaney et al. 2020).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from keymiss.models.export import SPLIT_KEY, WORDS_OF, whole_beside

TEXT_POSITION = 16
SHORTEST_QUESTION = 3  # [CLS], a token, [SEP]
MAX_TOKENS = 512 - TEXT_POSITION + SHORTEST_QUESTION  # of both: a text ends at position 512
HEAD_STD = 0.02  # of new weights of outputs, as BERT's others
NEVER = -1e4  # what is added where nothing may attend; in bfloat16 too it leaves nothing


class SplitReaderError(ValueError):
    """A folder that holds no split reader, nor anything to start one from; the text says why."""


@dataclass(frozen=True)
class Shape:
    """Sizes, as in config.json. `split`: how many layers read the halves apart."""

    layers: int
    split: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    epsilon: float

    @classmethod
    def of(cls, config: dict[str, Any], split: int | None = None) -> Shape:
        """From a config.json. SplitReaderError if it is not BERT's, or says of no split and none is given."""
        try:
            if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
                raise SplitReaderError(f"not a BERT with GELU: {config['model_type']}")
            layers = int(config["num_hidden_layers"])
            chosen = config.get(SPLIT_KEY) if split is None else split
            if chosen is None:
                raise SplitReaderError(f"config.json has no {SPLIT_KEY}: not a split reader")
            if not 0 <= chosen < layers:
                raise SplitReaderError(f"a split at layer {chosen} of {layers}")
            return cls(
                layers, int(chosen), config["hidden_size"], config["num_attention_heads"],
                config["intermediate_size"], config["vocab_size"], config["max_position_embeddings"],
                config["layer_norm_eps"],
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise SplitReaderError(f"config.json: {type(error).__name__} {error}") from None


class Group(NamedTuple):
    """Rows of one length, one behind the other: `rows` x `seq` tokens; `bias` [rows or 1, 1, seq or 1, seq]
    is added to their attention."""

    rows: int
    seq: int
    bias: Tensor | None = None


def _split(states: Tensor, groups: Sequence[Group]) -> Sequence[Tensor]:
    """The states of each group."""
    if len(groups) == 1:  # as an exported half's: of any size
        return [states]
    parts: Sequence[Tensor] = states.split([group.rows * group.seq for group in groups])
    return parts


class Layer(nn.Module):
    """One transformer layer of BERT; query, key and value are one product."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, 0.0
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.mixed = nn.Linear(shape.width, shape.width)
        self.mixed_norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.inner = nn.Linear(shape.width, shape.inner)
        self.outer = nn.Linear(shape.inner, shape.width)
        self.norm = nn.LayerNorm(shape.width, shape.epsilon)

    def forward(self, states: Tensor, groups: Sequence[Group]) -> Tensor:
        """states [tokens of all groups, width]: only the attention is a matter of the groups."""
        parts = _split(self.qkv(states), groups)
        mixed = [self._attended(part, group) for part, group in zip(parts, groups, strict=True)]
        states = self.mixed_norm(self._dropped(self.mixed(torch.cat(mixed))) + states)
        states = self.norm(self._dropped(self.outer(functional.gelu(self.inner(states)))) + states)
        return states

    def _dropped(self, states: Tensor) -> Tensor:
        return functional.dropout(states, self.dropout) if self.training and self.dropout else states

    def _attended(self, qkv: Tensor, group: Group) -> Tensor:
        size = qkv.shape[-1] // 3 // self.heads
        qkv = qkv.view(group.rows, group.seq, 3, self.heads, size)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if qkv.is_cuda:
            bias = group.bias if group.bias is None else group.bias.to(query.dtype)
            mixed = functional.scaled_dot_product_attention(query, key, value, bias)
            return mixed.transpose(1, 2).reshape(group.rows * group.seq, -1)
        weights = query @ key.transpose(-1, -2) * size**-0.5
        if group.bias is not None:
            weights = (weights + group.bias).to(weights.dtype)
        mixed = torch.softmax(weights, -1, dtype=weights.dtype) @ value
        return mixed.transpose(1, 2).reshape(group.rows * group.seq, -1)


class SplitReader(nn.Module):
    """Both halves, and their outputs."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.positions, shape.width)
        self.types = nn.Embedding(2, shape.width)
        self.norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.span = nn.Linear(shape.width, 2)
        self.pooler = nn.Linear(shape.width, shape.width)
        self.relevance = nn.Linear(shape.width, 1)

    def dropout(self, share: float) -> None:
        """Drop this share of what each layer adds, in training."""
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.dropout = share

    def embedded(self, ids: Tensor, text: bool) -> Tensor:
        """ids [batch, seq] of questions with [CLS] and [SEP], or of texts with [SEP] -> [batch, seq,
        width]."""
        first = TEXT_POSITION if text else 0
        places = torch.arange(first, first + ids.shape[1], device=ids.device)
        embedded: Tensor = self.words(ids) + self.places(places) + self.types.weight[int(text)]
        embedded = self.norm(embedded)
        return embedded

    def lower(self, ids: Tensor, text: bool, mask: Tensor | None = None) -> Tensor:
        """The states of one half: ids as in `embedded`; mask [batch, seq] bool, False at padding."""
        states = self.lower_packed([(ids, text, mask)])
        return states.view(*ids.shape, -1)

    def lower_packed(self, halves: Sequence[tuple[Tensor, bool, Tensor | None]]) -> Tensor:
        """The same of halves of several lengths, (ids, text, mask) as in `lower`, in one run: the states of
        all tokens, padding too, one behind the other [tokens, width]."""
        width = self.shape.width
        states = torch.cat([self.embedded(ids, text).reshape(-1, width) for ids, text, _ in halves])
        groups = [
            Group(ids.shape[0], ids.shape[1], None if mask is None else bias_of(mask))
            for ids, _, mask in halves
        ]
        for layer in self.layers[: self.shape.split]:
            states = layer(states, groups)
        return states

    def upper(
        self, question: Tensor, text: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States of both halves [batch, q, width], [batch, t, width] -> start and end [batch, q + t],
        relevance [batch]. mask [batch, q + t] bool, False at padding."""
        states = torch.cat((question, text), 1)
        group = Group(states.shape[0], states.shape[1], None if mask is None else bias_of(mask))
        (read,) = self.upper_packed(states.reshape(-1, self.shape.width), [group])
        return read

    def upper_packed(
        self, states: Tensor, groups: Sequence[Group], made_by_layers: list[Tensor] | None = None
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The upper layers and the outputs, of pairs of several lengths: states [tokens, width] of all of
        them. `made_by_layers` takes the states that each layer makes."""
        for layer in self.layers[self.shape.split :]:
            states = layer(states, groups)
            if made_by_layers is not None:
                made_by_layers.append(states)
        made = []
        for part, group in zip(_split(states, groups), groups, strict=True):
            part = part.view(group.rows, group.seq, -1)
            start, end = self.span(part).unbind(-1)
            made.append((start, end, self.relevance(torch.tanh(self.pooler(part[:, 0]))).squeeze(-1)))
        return made

    def forward(
        self,
        question: Tensor,
        text: Tensor,
        question_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ids of both halves -> start, end, relevance, as `upper`."""
        masks = (question_mask, text_mask)
        both = (
            None if question_mask is None or text_mask is None else torch.cat((question_mask, text_mask), 1)
        )
        return self.upper(self.lower(question, False, masks[0]), self.lower(text, True, masks[1]), both)

    def joint(self, question: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same in one run of all layers, the lower ones with a mask of two blocks: to check the
        halves."""
        states = torch.cat((self.embedded(question, False), self.embedded(text, True)), 1)
        of_text = torch.arange(states.shape[1]) >= question.shape[1]
        apart = of_text[:, None] != of_text[None, :]
        bias = torch.zeros(apart.shape).masked_fill(apart, float("-inf"))[None, None]
        group, states = Group(states.shape[0], states.shape[1], bias), states.reshape(-1, self.shape.width)
        for layer in self.layers[: self.shape.split]:
            states = layer(states, [group])
        (read,) = self.upper_packed(states, [group._replace(bias=None)])
        return read


def bias_of(mask: Tensor) -> Tensor:
    """mask [batch, seq] bool -> what is added to the attention [batch, 1, 1, seq]."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, NEVER)[:, None, None, :]


# ---- files


EMBEDDINGS = {
    "words.weight": "bert.embeddings.word_embeddings.weight",
    "places.weight": "bert.embeddings.position_embeddings.weight",
    "types.weight": "bert.embeddings.token_type_embeddings.weight",
    "norm.weight": "bert.embeddings.LayerNorm.weight",
    "norm.bias": "bert.embeddings.LayerNorm.bias",
    "pooler.weight": "bert.pooler.dense.weight",
    "pooler.bias": "bert.pooler.dense.bias",
    "relevance.weight": "classifier.weight",
    "relevance.bias": "classifier.bias",
    "span.weight": "qa_outputs.weight",
    "span.bias": "qa_outputs.bias",
}
PARTS = {
    "mixed": "attention.output.dense",
    "mixed_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "norm": "output.LayerNorm",
}
WORDS = EMBEDDINGS["words.weight"]
SCALE = ".scale"
STEPS = 127  # of INT8, from 0 to the greatest weight of a row
RELEVANCE = ("bert.pooler.", "classifier.")
OUTPUTS = ("span.", "pooler.", "relevance.")
QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))


def to_hugging_face(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The weights under Hugging Face's names."""
    named = {theirs: state[ours] for ours, theirs in EMBEDDINGS.items()}
    for layer in range(layers):
        for kind in ("weight", "bias"):
            for ours, theirs in PARTS.items():
                named[f"bert.encoder.layer.{layer}.{theirs}.{kind}"] = state[f"layers.{layer}.{ours}.{kind}"]
            for theirs, part in zip(QKV, state[f"layers.{layer}.qkv.{kind}"].chunk(3), strict=True):
                named[f"bert.encoder.layer.{layer}.{theirs}.{kind}"] = part.contiguous()
    return named


def from_hugging_face(named: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The other way; what a cross-encoder has not (start and end) is left out."""
    state = {ours: named[theirs] for ours, theirs in EMBEDDINGS.items() if theirs in named}
    for layer in range(layers):
        for kind in ("weight", "bias"):
            for ours, theirs in PARTS.items():
                state[f"layers.{layer}.{ours}.{kind}"] = named[f"bert.encoder.layer.{layer}.{theirs}.{kind}"]
            parts = [named[f"bert.encoder.layer.{layer}.{theirs}.{kind}"] for theirs in QKV]
            state[f"layers.{layer}.qkv.{kind}"] = torch.cat(parts)
    return state


def load(folder: Path, split: int | None = None, seed: int = 0) -> SplitReader:
    """A split reader, or (with `split`) a cross-encoder or a whole reader to make one of, in float32; outputs
    that it has not are new, by the seed.

    SplitReaderError if the folder holds none of them.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        named = _unpacked(load_file(folder / "model.safetensors"))
    except (OSError, ValueError) as error:
        raise SplitReaderError(f"{folder}: {error}") from None
    beside = whole_beside(folder)
    if WORDS not in named and beside != folder:
        try:
            with safe_open(beside / "model.safetensors", "pt") as other:
                named[WORDS] = other.get_tensor(WORDS)
        except (OSError, SafetensorError) as error:
            raise SplitReaderError(
                f"{folder}: a packed reader, whose word embeddings are in {beside}, which has to be there: "
                f"{error}"
            ) from None
    model = SplitReader(Shape.of(config, split))
    try:
        state = from_hugging_face(
            {name: tensor.float() for name, tensor in named.items()}, model.shape.layers
        )
    except KeyError as error:
        raise SplitReaderError(f"{folder}: model.safetensors has no {error}") from None
    fresh = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name not in state and name.startswith(OUTPUTS):
            new = (
                torch.randn(tensor.shape, generator=fresh) * HEAD_STD
                if tensor.ndim > 1
                else torch.zeros_like(tensor)
            )
            state[name] = new
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise SplitReaderError(f"{folder}: {error}") from None
    return model


def _packed(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without word embeddings, the layers' weights in INT8."""
    packed = {name: tensor for name, tensor in named.items() if name != WORDS}
    for name, tensor in named.items():
        if name.startswith("bert.encoder.") and tensor.ndim == 2:
            scale = (tensor.float().abs().amax(1) / STEPS).clamp(min=1e-7).half()
            packed[name] = (
                torch.round(tensor.float() / scale.float()[:, None]).clamp(-STEPS, STEPS).to(torch.int8)
            )
            packed[name + SCALE] = scale
    return packed


def _unpacked(named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.float() * named[name + SCALE].float()[:, None] if name + SCALE in named else tensor
        for name, tensor in named.items()
        if not name.endswith(SCALE)
    }


def save(
    model: SplitReader,
    folder: Path,
    start: Path,
    dtype: torch.dtype = torch.float16,
    whole: bool = False,
    packed: bool = False,
) -> None:
    """Hugging Face's layout; config.json and the tokenizer are those of the folder it was started from.

    `whole`: as BertForQuestionAnswering, which has no relevance and where a text begins right behind its
    question. SplitReaderError if the layers are split.
    `packed`: a third of the size; the word embeddings stay those of `start`, which has to stay beside it.
    """
    if whole and model.shape.split:
        raise SplitReaderError(f"a reader split at layer {model.shape.split} is no whole one")
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().to(dtype) for name, tensor in model.state_dict().items()}
    named = to_hugging_face(state, model.shape.layers)
    config = json.loads((start / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["BertForQuestionAnswering"]
    if whole:
        named = {name: tensor for name, tensor in named.items() if not name.startswith(RELEVANCE)}
    else:
        config[SPLIT_KEY] = model.shape.split
    if packed:
        named = _packed(named)
        config[WORDS_OF] = os.path.relpath(start.resolve(), folder.resolve())
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    for name in ("id2label", "label2id", "num_labels"):  # of the cross-encoder's one logit
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (start / name).is_file():
            (folder / name).write_bytes((start / name).read_bytes())
