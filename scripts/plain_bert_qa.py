"""The baseline: the same question with plain transformers, without Redis.

    python scripts/plain_bert_qa.py --model models/reader --question "..." --candidates candidates.json

`--candidates`: a JSON list of sentences, or of objects with "sentence". Cold: from the start of this process
to the answer over one sentence (--sentence, else the first candidate). Warm: every candidate after that, one
by one.
Prints {"cold_s", "warm_ms_per_sentence" (null without candidates), "answers": [{"answer", "score"}, ...]}.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

MAX_TOKENS = 512
MAX_ANSWER_TOKENS = 30


def process_age_s() -> float:
    """Seconds since this process was started, imports and interpreter included (Linux; 10 ms steps)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def load(folder: str) -> tuple[Any, Any]:
    """The tokenizer and the model, as transformers gives them, in float32."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)
    return tokenizer, model.eval()


def answer(tokenizer: Any, model: Any, question: str, sentence: str) -> dict[str, Any]:
    """The best span of one sentence: text and the sum of its logits."""
    import torch

    inputs = tokenizer(
        question,
        sentence,
        truncation="only_second",
        max_length=MAX_TOKENS,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    offsets = inputs.pop("offset_mapping")[0]
    inside = torch.tensor([part == 1 for part in inputs.sequence_ids(0)])
    with torch.no_grad():
        output = model(**inputs)
    start = output.start_logits[0].masked_fill(~inside, -1e9)
    end = output.end_logits[0].masked_fill(~inside, -1e9)
    joint = (start[:, None] + end[None, :]).triu()
    allowed = torch.ones_like(joint).triu().tril(MAX_ANSWER_TOKENS - 1).bool()
    best = int(joint.masked_fill(~allowed, -1e18).argmax())
    first, last = divmod(best, len(start))
    text = sentence[int(offsets[first][0]) : int(offsets[last][1])]
    return {"answer": text, "score": round(float(joint[first, last]), 4)}


def read_candidates(path: Path) -> list[str]:
    """The sentences of a JSON list of strings or of objects with "sentence"."""
    listed = json.loads(path.read_text())
    return [one["sentence"] if isinstance(one, dict) else one for one in listed]


def main(
    model: Annotated[str, typer.Option(help="local folder or hub name")] = "models/reader",
    question: str = "Who performs viral transmission among adults",
    sentence: Annotated[str, typer.Option(help="the sentence of the cold answer")] = "",
    file: Annotated[Path | None, typer.Option("--candidates", help="JSON list of sentences")] = None,
) -> None:
    """The baseline: the same question with plain transformers, without Redis."""
    candidates = read_candidates(file) if file else []
    first = sentence or next(iter(candidates), None)
    if not first:
        raise typer.BadParameter("give --sentence or --candidates")
    loaded = load(model)
    answers = [answer(*loaded, question, first)]
    cold_s = process_age_s()
    began = time.perf_counter()
    if candidates:
        answers = [answer(*loaded, question, one) for one in candidates]
    warm_ms = 1000 * (time.perf_counter() - began) / len(candidates) if candidates else None
    print(
        json.dumps(
            {
                "cold_s": round(cold_s, 3),
                "warm_ms_per_sentence": warm_ms and round(warm_ms, 3),
                "answers": answers,
            },
            ensure_ascii=False,
        )
    )


if __name__ == "__main__":
    typer.run(main)
