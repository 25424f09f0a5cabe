"""Export a Hugging Face BERT-like question-answering model to TorchScript.

    python -m models.export --model models/reader --out var/models/reader.pt

The result takes (input_ids, attention_mask, token_type_ids), INT64 [batch, seq] of any size, and gives
(start_logits, end_logits), FLOAT [batch, seq]. Beside it: <name>.tokenizer.json and <name>.json, which says
what it was made from; a second run with the same source files and versions does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keymiss import text

DEFAULT_MODEL = "models/reader"
FULL_SIZE_MODEL = "bert-large-uncased-whole-word-masking-finetuned-squad"
FORMAT = "1"  # change when what is exported changes, so that older exports are made again
TOLERANCE = 1e-4  # between the traced and the eager model's logits
SOURCE_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer*", "vocab.txt")
PICKLED_FILES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


class ExportError(RuntimeError):
    """A model that cannot be exported; the text says why and what to do."""


@dataclass(frozen=True)
class Exported:
    """What an export is: its files, what it was made from, and what it takes."""

    model: str
    path: str
    tokenizer: str
    source_digest: str
    sha256: str
    size_bytes: int
    vocab_size: int
    max_tokens: int


@contextmanager
def no_warnings() -> Iterator[None]:
    """TorchScript is deprecated but is what the TORCH backend takes; transformers warns of its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_source(model: str) -> tuple[Path, str]:
    """The folder with the model's files, and a line that says what was chosen.

    `model` is a local folder (as given or from the project's root) or a hub name. ExportError when a folder
    has no model or the hub cannot be reached: nothing else is ever taken instead.
    """
    folder = text.model_folder(model)
    if folder:
        if not (folder / "config.json").is_file():
            raise ExportError(f"{model} is a folder without config.json: not a Hugging Face model")
        embedded = " (the embedded reader)" if folder.resolve() == text.ROOT / DEFAULT_MODEL else ""
        return folder, f"{model}: local folder{embedded}"
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ExportError(f"there is no folder {model}")
    return _download(model), f"{model}: Hugging Face hub"


def _download(model: str) -> Path:
    """The hub's files of a model, from its local cache when they are there."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model, allow_patterns=list(SOURCE_FILES)))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=[*SOURCE_FILES, *PICKLED_FILES]))
        return folder
    except Exception as error:  # the hub's client raises a dozen unrelated types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(
            f"{model} is no local folder and could not be had from the Hugging Face hub ({reason}). "
            f"Give a local folder with its config.json, weights and tokenizer: --model <folder>"
        ) from error


def source_digest(folder: Path) -> str:
    """A digest of the source files and of the versions that the export depends on."""
    versions = f"{version('torch')} {version('transformers')}"  # not imported for it: that takes a second
    digest = hashlib.sha256(f"{FORMAT} {versions}".encode())
    patterns = (*SOURCE_FILES, *PICKLED_FILES)
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(f"\n{path.name} {sha256_of(path)}".encode())
    return digest.hexdigest()


def default_out(model: str) -> Path:
    """Where a model is exported to when no place is given: var/models/<name>.pt."""
    return text.models_folder() / f"{text.model_slug(str(text.model_folder(model) or model))}.pt"


def export(model: str = DEFAULT_MODEL, out: Path | None = None) -> tuple[Exported, bool]:
    """Export `model` to `out` unless it is there already; also says whether it was made now."""
    folder, chosen = find_source(model)
    print(f"model: {chosen}")
    out = out or default_out(model)
    about, tokenizer_file = out.with_suffix(".json"), out.with_suffix(".tokenizer.json")
    digest = source_digest(folder)
    known = _known(about, digest, out, tokenizer_file)
    if known:
        return known, False
    out.parent.mkdir(parents=True, exist_ok=True)
    about.unlink(missing_ok=True)
    vocab_size, max_tokens = _write(folder, out, tokenizer_file)
    sha256, size_bytes = sha256_of(out), out.stat().st_size
    made = Exported(model, str(out), str(tokenizer_file), digest, sha256, size_bytes, vocab_size, max_tokens)
    about.write_text(json.dumps(asdict(made), indent=2) + "\n")
    return made, True


def _known(about: Path, digest: str, out: Path, tokenizer_file: Path) -> Exported | None:
    """The export that is there, if it was made from just these source files and is whole."""
    if not (about.is_file() and out.is_file() and tokenizer_file.is_file()):
        return None
    try:
        known = Exported(**json.loads(about.read_text()))
    except (ValueError, TypeError):
        return None
    whole = known.source_digest == digest and known.size_bytes == out.stat().st_size
    if not whole or known.sha256 != sha256_of(out):
        return None
    return replace(known, path=str(out), tokenizer=str(tokenizer_file))


def _write(folder: Path, out: Path, tokenizer_file: Path) -> tuple[int, int]:
    """Trace the model into `out`, put its tokenizer beside it; how many tokens it knows and takes."""
    import torch

    model = load_eager(folder)
    config = model.config
    _write_tokenizer(folder, tokenizer_file)
    tokens = text.load_tokenizer(tokenizer_file).get_vocab_size()
    if tokens > config.vocab_size:
        raise ExportError(f"the tokenizer has {tokens} tokens, the model only {config.vocab_size}")
    if config.max_position_embeddings < text.MAX_SEQUENCE_TOKENS:
        raise ExportError(
            f"the model takes {config.max_position_embeddings} tokens, {text.MAX_SEQUENCE_TOKENS} needed"
        )
    traced = trace(model)
    for batch, seq in ((1, 8), (3, 61), (2, text.MAX_SEQUENCE_TOKENS)):
        difference = compare(model, traced, batch, seq)
        if not difference <= TOLERANCE:
            raise ExportError(f"the traced model differs by {difference:.1e} for {batch} x {seq} tokens")
    part = out.with_suffix(".part")
    with no_warnings():
        torch.jit.save(traced, str(part))
    part.replace(out)
    return config.vocab_size, text.MAX_SEQUENCE_TOKENS


def _write_tokenizer(folder: Path, path: Path) -> None:
    """The model's tokenizer as one file, made from vocab.txt where the model has no tokenizer.json."""
    if (folder / "tokenizer.json").is_file():
        shutil.copyfile(folder / "tokenizer.json", path)
        return
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer.save(str(path))


def load_eager(folder: Path) -> Any:
    """The model in float32 with eager attention; ExportError if it has no trained question-answering head."""
    import torch
    import transformers
    from transformers import AutoModelForQuestionAnswering

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with no_warnings():
            model, info = AutoModelForQuestionAnswering.from_pretrained(
                str(folder), attn_implementation="eager", dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder.name} is not a question-answering model: {error}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"]))
        raise ExportError(f"{folder.name} is not trained to answer questions: it lacks {missing}")
    return model.eval()


def trace(model: Any) -> Any:
    """The TorchScript of an eager model, for batches of any size and length.

    The attention mask is made here, as BERT's additive [batch, 1, 1, seq], and the positions are given:
    transformers' own mask code decides on the values and lengths it sees, which a trace would freeze.
    """
    import torch

    takes = arguments_of(model)

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> tuple[Any, Any]:
            away = (1.0 - mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min
            extra = {}
            if "token_type_ids" in takes:
                extra["token_type_ids"] = types
            if "position_ids" in takes:
                extra["position_ids"] = torch.arange(ids.size(1), device=ids.device)[None]
            out = self.model(input_ids=ids, attention_mask=away, **extra)
            return out.start_logits, out.end_logits

    inputs = dummy_inputs(2, 17, model.config.vocab_size)
    with no_warnings(), torch.no_grad():
        return torch.jit.trace(Reader().eval(), inputs, strict=False)


def arguments_of(model: Any) -> set[str]:
    """What the model's forward takes: not every BERT-like model has token types and positions."""
    return set(inspect.signature(model.forward).parameters)


def read_back(path: str | Path) -> Any:
    """The TorchScript in a file, on the CPU. RuntimeError if it is none."""
    import torch

    with no_warnings():
        return torch.jit.load(str(path), map_location="cpu").eval()


def dummy_inputs(batch: int, seq: int, vocab_size: int) -> tuple[Any, Any, Any]:
    """Inputs of random tokens; each row but the first ends in some padding, where it is long enough."""
    import torch

    made = torch.Generator().manual_seed(batch * 1000 + seq)
    ids = torch.randint(1, vocab_size, (batch, seq), generator=made)
    mask = torch.ones_like(ids)
    for row in range(1, batch):
        mask[row, max(4, seq - 3 * row) :] = 0
    types = torch.zeros_like(ids)
    types[:, seq // 3 :] = 1
    return ids * mask, mask, types * mask


def compare(model: Any, traced: Any, batch: int, seq: int) -> float:
    """The greatest difference of the two models' logits over the tokens that are not padding."""
    import torch

    ids, mask, types = dummy_inputs(batch, seq, model.config.vocab_size)
    extra = {"token_type_ids": types} if "token_type_ids" in arguments_of(model) else {}
    with torch.no_grad():
        eager = model(input_ids=ids, attention_mask=mask, **extra)
        start, end = traced(ids, mask, types)
    keep = mask.bool()
    pairs = ((eager.start_logits, start), (eager.end_logits, end))
    return max(float((one - other)[keep].abs().max()) for one, other in pairs)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 done, 1 the model cannot be exported."""
    parser = argparse.ArgumentParser(prog="python -m models.export", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"local folder or hub name; full size: {FULL_SIZE_MODEL}"
    )
    parser.add_argument("--out", type=Path, help="default: var/models/<name>.pt")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        made, new = export(options.model, options.out)
    except ExportError as error:
        print(f"models.export: {error}", file=sys.stderr)
        return 1
    did = "exported" if new else "already exported"
    print(
        f"{did}: {made.path}, {made.size_bytes / 1e6:.1f} MB, sha256 {made.sha256[:12]}, "
        f"{time.monotonic() - began:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
