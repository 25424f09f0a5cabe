"""The baseline script: one line of JSON, and the same answers as the system's own text, span and export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from keymiss.models import export as exporting
from keymiss.reading.reader import default_reader
from keymiss.resources import PROJECT
from tests.patience import patient

QUESTION = "Who performs viral transmission among adults"
CANDIDATES = [
    "Among adults, viral transmission is performed mainly by young parents of school children.",
    {"sentence": "The weather was cold that year and few patients came.", "sentencekey": "x"},
]


def own_answer(sentence: str) -> str:
    reader = default_reader()
    encoded = reader.sentence(sentence)
    inputs = reader.inputs(QUESTION, encoded)
    arrays = (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids)
    with torch.no_grad():
        out = exporting.load_eager(PROJECT / "models" / "reader")(
            **dict(
                zip(
                    ("input_ids", "attention_mask", "token_type_ids"),
                    map(torch.from_numpy, arrays),
                    strict=True,
                )
            )
        )
    return reader.answer(encoded, inputs, out.start_logits.numpy(), out.end_logits.numpy()).text


def test_prints_the_same_answers_with_both_times(tmp_path: Path) -> None:
    file = tmp_path / "candidates.json"
    file.write_text(json.dumps(CANDIDATES))
    script = [sys.executable, "scripts/plain_bert_qa.py", "--question", QUESTION, "--candidates", str(file)]
    done = subprocess.run(script, cwd=PROJECT, capture_output=True, text=True, timeout=patient(100))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["cold_s"] > said["warm_ms_per_sentence"] / 1000 > 0
    sentences = [one["sentence"] if isinstance(one, dict) else one for one in CANDIDATES]
    assert [one["answer"] for one in said["answers"]] == [own_answer(sentence) for sentence in sentences]


def test_without_a_sentence_it_says_what_to_give() -> None:
    script = [sys.executable, "scripts/plain_bert_qa.py"]
    done = subprocess.run(script, cwd=PROJECT, capture_output=True, text=True, timeout=patient(100))
    assert done.returncode == 2
    assert "give --sentence or --candidates" in done.stderr
