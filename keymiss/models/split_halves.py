"""The halves of a split reader as two modules, each as it is exported.

lower: (input_ids, attention_mask, token_type_ids), INT64 [batch, seq] -> states, FLOAT [batch, seq, width]
upper: (states, attention_mask), FLOAT [batch, seq, width] and INT64 [batch, seq]
       -> start_logits, end_logits, FLOAT [batch, seq], relevance, FLOAT [batch]

What is run by the lower one is questions or texts, told by the token types; what is run by the upper one, a
question's states with a text's behind them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keymiss.models.forms import dummy_inputs
from keymiss.models.split_reader import NEVER, TEXT_POSITION, Group, SplitReader
from keymiss.reading.reader import LOWER, UPPER


def _bias(mask: Tensor, kind: torch.dtype) -> Tensor:
    """As split_reader.bias_of, by arithmetic that a trace does not freeze."""
    return (1.0 - mask[:, None, None, :].to(kind)) * NEVER


class LowerHalf(nn.Module):
    """Embeddings and lower layers."""

    input_names = ("input_ids", "attention_mask", "token_type_ids")
    output_names = ("states",)

    def __init__(self, model: SplitReader) -> None:
        super().__init__()
        self.words, self.places, self.types, self.norm = model.words, model.places, model.types, model.norm
        self.layers = nn.ModuleList(model.layers[: model.shape.split])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """See the module's text."""
        rows, seq = input_ids.shape
        places = torch.arange(seq, device=input_ids.device)[None] + token_type_ids * TEXT_POSITION
        states = self.norm(self.words(input_ids) + self.places(places) + self.types(token_type_ids))
        states = states.reshape(rows * seq, -1)
        group = Group(rows, seq, _bias(attention_mask, states.dtype))
        for layer in self.layers:
            states = layer(states, [group])
        kept: Tensor = states.view(rows, seq, -1).float()
        return kept

    def examples(self, batch: int, seq: int, text: bool = True) -> tuple[Tensor, ...]:
        """Inputs of this size: texts, or questions."""
        ids, mask, _ = dummy_inputs(batch, seq, self.words.num_embeddings)
        return ids, mask, torch.full_like(ids, int(text)) * mask


class UpperHalf(nn.Module):
    """Upper layers and outputs."""

    input_names = ("states", "attention_mask")
    output_names = ("start_logits", "end_logits", "relevance")

    def __init__(self, model: SplitReader) -> None:
        super().__init__()
        self.layers = nn.ModuleList(model.layers[model.shape.split :])
        self.span, self.pooler, self.relevance = model.span, model.pooler, model.relevance
        self.width, self.kind = model.shape.width, torch.float32

    def forward(self, states: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the module's text."""
        rows, seq, _ = states.shape
        states = states.to(self.kind).reshape(rows * seq, self.width)
        group = Group(rows, seq, _bias(attention_mask, states.dtype))
        for layer in self.layers:
            states = layer(states, [group])
        states = states.view(rows, seq, self.width)
        start, end = self.span(states).float().unbind(-1)
        relevance = self.relevance(torch.tanh(self.pooler(states[:, 0]))).float().squeeze(-1)
        return start, end, relevance

    def examples(self, batch: int, seq: int) -> tuple[Tensor, ...]:
        """Inputs of this size, of random states of the length that a norm gives them."""
        made = torch.Generator().manual_seed(batch * 1000 + seq)
        _, mask, _ = dummy_inputs(batch, seq, 2)
        return torch.randn(batch, seq, self.width, generator=made), mask


Halves = LowerHalf | UpperHalf
HALVES: dict[str, type[Halves]] = {LOWER: LowerHalf, UPPER: UpperHalf}
