"""Train the split reader (keymiss.models.split_reader), in two phases that can be told apart at any time.

    keymiss models train-split steady    --start FOLDER --out var/train-split FILE...
    keymiss models train-split cool-down --start FOLDER --out FOLDER --steps 800 FILE...
    keymiss models train-split write     --start FOLDER --checkpoint FILE --out FOLDER

`steady` trains with a constant learning rate, as long as wanted; `cool-down` takes its last checkpoint and
lets the rate fall to 0, which makes a reader of it: <out>/cool-down/reader. So hours can be spent as they
come, and there is a reader after each (Hu et al. 2024, MiniCPM: warm-up, stable, decay). Both keep a
checkpoint every few minutes and go on from it when the same command is given again. Same seed, same machine,
same number of threads: same result.

`--start` is a cross-encoder of BERT's layout (one relevance logit), or a whole reader: outputs that it has
are kept and trained on; its word embeddings stay as they are. On a CPU the matrices are multiplied in
bfloat16, with weights kept in float32.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor

from keymiss.models import question_store, split_reader, squad
from keymiss.models.by_model import find
from keymiss.models.by_split import SplitModel
from keymiss.models.command_line import (
    Data,
    LearningRate,
    OnDevice,
    Seed,
    Threads,
    device_of,
    said_in_one_line,
)
from keymiss.models.split_pairs import LOOSE, TIGHT, Batch, Stream
from keymiss.models.split_reader import NEVER, Group, SplitReader
from keymiss.models.split_steps import Making, Step, Steps
from keymiss.models.squad import Paragraph, Question
from keymiss.models.stopping import Stopping
from keymiss.reading import tokenizers
from keymiss.reading.reader import Reader
from keymiss.typer_app import exit_code, typer_app

FACTORS = {  # how often a question is taken; 1 if not named
    "qasrl_qanom_sentences": 0.1,
    "qamr_sentences": 0.25,
    "drop_dev_span": 0.5,
    "fairytaleqa_explicit": 0.6,
    "squadshifts_reddit": 0.7,
    "squadshifts_amazon_reviews": 0.7,
    "nq_swap": 0.7,
    "timeqa_human_train": 0.7,
    "bioasq_9b_factoid_train": 1.5,
    "covid_qa": 2.0,
    "squadshifts_new_wiki": 1.5,
}
LATE_FACTORS = FACTORS | {  # in the cool-down: what is nearest to articles, and to what people ask of them
    "qasrl_qanom_sentences": 0.03,
    "qamr_sentences": 0.1,
    "fairytaleqa_explicit": 0.3,
    "squadshifts_reddit": 0.3,
    "squadshifts_amazon_reviews": 0.3,
    "bioasq_9b_factoid_train": 2.5,
    "covid_qa": 4.0,
    "squadshifts_new_wiki": 2.5,
    "squad_v1_train_samples": 1.5,
    "squad_v1_train_a12_44": 1.5,
    "squad_v1_train_head": 1.5,
}
CHECK_QUESTIONS = 120  # of the calibration parts, for the figures printed on the way
CHECK_CHARS = 1000
SAID_EVERY = 20  # steps
TAUGHT = 0.7  # of the loss, if there is a teacher
TEMPERATURE = 2.0  # of spans
LIKE_TEACHER = 2.0  # of the distance to its states, beside the loss of spans
GPU_PROCESSES = max(2, len(os.sched_getaffinity(0)) - 2)  # that make batches
STEADY_STEPS = 20_000
COOLING_STEPS = 800
app = typer_app()


class TrainError(RuntimeError):
    """A training that cannot begin or go on; the text says why and what to do."""


FAULTS = (TrainError, split_reader.SplitReaderError, squad.BadFile, tokenizers.TextError, OSError)


@dataclass(frozen=True)
class Settings:
    """What decides the result, besides the data. `passages`: of a step, each with its questions; `parts`:
    runs they are put into."""

    seed: int = 20
    split: int = 9
    learning_rate: float = 1.5e-4
    weight_decay: float = 0.01
    warmup_steps: int = 200
    clip_norm: float = 1.0
    passages: int = 16
    parts: int = 4
    relevance_weight: float = 0.5
    dropout: float = 0.0
    teacher: str = ""  # SHA-256 of its weights

    def digest(self, data: str) -> str:
        """What a checkpoint was made with."""
        return hashlib.sha256(json.dumps([asdict(self), data]).encode()).hexdigest()[:16]


def outputs_of(
    model: SplitReader, batch: Batch, device: str, made_by_layers: list[Tensor] | None = None
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Start, end and relevance logits of each of the batch's reads, float32; start and end where an answer
    may begin or end. `made_by_layers` as of SplitReader.upper_packed."""

    def on(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device)

    halves = [(on(half.ids), False, on(half.mask)) for half in batch.questions]
    halves += [(on(half.ids), True, on(half.mask)) for half in batch.texts]
    table = model.lower_packed(halves)
    table = torch.cat((table.new_zeros(1, model.shape.width), table))
    groups = [
        Group(read.rows.shape[0], read.rows.shape[1], split_reader.bias_of(on(read.mask)))
        for read in batch.reads
    ]
    rows = torch.cat([on(read.rows).reshape(-1) for read in batch.reads])
    outputs = model.upper_packed(table.index_select(0, rows), groups, made_by_layers)
    found = []
    for read, (start, end, relevance) in zip(batch.reads, outputs, strict=True):
        never = ~on(read.allowed)
        start, end = (logits.float().masked_fill(never, NEVER) for logits in (start, end))
        found.append((start, end, relevance.float()))
    return found


def losses(
    model: SplitReader, batch: Batch, device: str, teacher: SplitReader | None = None
) -> tuple[Tensor, Tensor]:
    """Of spans (cross entropy of start and end) and of relevance (binary), each summed over the pairs; of
    TAUGHT of it the other side is what the teacher says (Hinton et al. 2015): that a text answers is what it
    does not give to [CLS]. Of spans there is then also how far the states of our upper layers are from those
    of its last ones (Cao et al. 2020)."""
    ours_made: list[Tensor] = []
    outputs = outputs_of(model, batch, device, ours_made)
    taught: Sequence[tuple[Tensor, Tensor, Tensor] | None] = [None] * len(outputs)
    spans, relevances = torch.zeros((), device=device), torch.zeros((), device=device)
    if teacher:
        theirs_made: list[Tensor] = []
        with torch.no_grad():
            taught = outputs_of(teacher, batch, device, theirs_made)
        read = torch.cat([torch.from_numpy(one.mask).reshape(-1) for one in batch.reads]).to(device)
        pairs = sum(len(one.answers) for one in batch.reads)
        spans = spans + LIKE_TEACHER * pairs * _apart(ours_made, theirs_made, read)
    for read_, ours, theirs in zip(batch.reads, outputs, taught, strict=True):
        wanted = [torch.from_numpy(one).to(device) for one in (read_.starts, read_.ends, read_.answers)]
        for side in (0, 1):
            spans = spans + _span_loss(ours[side], wanted[side], theirs[side] if theirs else None) / 2
        answers = wanted[2]
        if theirs:
            answers = (1 - TAUGHT) * answers + TAUGHT * (1 - torch.softmax(theirs[0], -1)[:, 0])
        relevances = relevances + torch.nn.functional.binary_cross_entropy_with_logits(
            ours[2], answers, reduction="sum"
        )
    return spans, relevances


def _apart(ours: Sequence[Tensor], theirs: Sequence[Tensor], read: Tensor) -> Tensor:
    """Squared distance of our layers' states [tokens, width] to those of as many of their last ones, as a
    share of their square; mean of layers and of the tokens that are `read`."""
    shares = [
        (one - other).float().square().sum(-1) / other.float().square().sum(-1)
        for one, other in zip(ours, theirs[-len(ours) :], strict=True)
    ]
    mean: Tensor = torch.stack(shares).mean(0)[read].mean()
    return mean


def _span_loss(logits: Tensor, wanted: Tensor, taught: Tensor | None) -> Tensor:
    loss = -(wanted * torch.log_softmax(logits, -1)).sum()
    if taught is None:
        return loss
    said = torch.softmax(taught / TEMPERATURE, -1)
    soft = -(said * torch.log_softmax(logits / TEMPERATURE, -1)).sum()
    return (1 - TAUGHT) * loss + TAUGHT * TEMPERATURE**2 * soft


class Trainer:
    """A model, its optimizer and its place in the training. Runs on `threads` threads at once."""

    def __init__(
        self, start: Path, settings: Settings, device: str, threads: int, teacher: SplitReader | None = None
    ) -> None:
        self.model = split_reader.load(start, settings.split, settings.seed).to(device)
        self.model.dropout(settings.dropout)
        self._teacher = teacher.to(device).eval() if teacher else None
        self.model.words.weight.requires_grad_(False)
        self.device, self.settings, self.step = device, settings, 0
        self._twins = [self.model, *(_twin(self.model, settings.dropout) for _ in range(threads - 1))]
        torch.set_num_threads(1)  # of one run; two that wait for each other lose to others' load
        self._pool = ThreadPoolExecutor(threads, initializer=_begin_thread, initargs=(device,))
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [one for one in trained if one.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [one for one in trained if one.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, settings.learning_rate, betas=(0.9, 0.98), fused=True)

    def train(self, step: Step, rate: float) -> Tensor:
        """One step; the mean losses of a pair, of spans and of relevance [2]: a GPU may still be at it."""
        torch.manual_seed(self.step)  # of dropout
        lines = [step.batches[at :: len(self._twins)] for at in range(len(self._twins))]
        done = list(self._pool.map(self._run, self._twins, lines, [step.pairs] * len(lines)))
        torch.clear_autocast_cache()  # the weights change now
        for twin in self._twins[1:]:
            for ours, theirs in zip(self.model.parameters(), twin.parameters(), strict=True):
                if theirs.grad is not None:
                    ours.grad = theirs.grad if ours.grad is None else ours.grad.add_(theirs.grad)
                    theirs.grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return torch.stack(done).sum(0)

    def _run(self, model: SplitReader, batches: Sequence[Batch], count: int) -> Tensor:
        total = torch.zeros(2, device=self.device)
        for batch in batches:
            spans, relevances = losses(model, batch, self.device, self._teacher)
            ((spans + self.settings.relevance_weight * relevances) / count).backward()
            total += torch.stack((spans.detach(), relevances.detach())) / count
        return total

    def save(self, path: Path, digest: str, **more: Any) -> None:
        """Write the checkpoint; the one before stays until this one is whole."""
        part = path.with_suffix(".part")
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save({**state, "digest": digest, "settings": asdict(self.settings), **more}, part)
        part.replace(path)

    def resume(self, path: Path, digest: str) -> dict[str, Any]:
        """Go on from a checkpoint. TrainError if it was made with other settings or files."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if state["digest"] != digest:
            raise TrainError(
                f"{path} was made with other settings or data ({state['settings']}): "
                "give those, or another --out, or remove it"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        return state

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _begin_thread(device: str) -> None:
    """One thread for a product, and bfloat16 in it for good: to leave it would empty the other threads' cache
    of weights too, at any time, and no two trainings would round the same."""
    torch.set_num_threads(1)
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans for seconds for every new length
    torch.autocast(device, torch.bfloat16).__enter__()


def _twin(model: SplitReader, dropout: float) -> SplitReader:
    """The same weights, with gradients of its own."""
    twin = SplitReader(model.shape)
    twin.dropout(dropout)
    for theirs, ours in zip(twin.parameters(), model.parameters(), strict=True):
        theirs.data = ours.data
        theirs.requires_grad_(ours.requires_grad)
    return twin


def steady_rate(step: int, settings: Settings) -> float:
    """The learning rate of a step, as a share of the highest."""
    return min(1.0, (step + 1) / max(1, settings.warmup_steps))


def cooling_rate(done: int, steps: int) -> float:
    """The same, in a cool-down of so many steps."""
    return max(0.0, (steps - done) / steps)


def check(
    model: SplitReader, reader: Reader, pairs: Sequence[tuple[Paragraph, Question]]
) -> tuple[float, float]:
    """Exact match and F1, in percent, of the answers to questions about passages not trained on."""
    run, exact, shared = SplitModel(model.eval()), 0.0, 0.0
    for paragraph, question in pairs:
        given = find(run, reader, question.question, reader.sentence(paragraph.context)).text
        references = [answer.text for answer in question.answers]
        exact += squad.exact_match(given, references)
        shared += squad.f1(given, references)
    model.train()
    return 100 * exact / max(1, len(pairs)), 100 * shared / max(1, len(pairs))


def questions_to_check(paths: Sequence[Path], count: int) -> list[tuple[Paragraph, Question]]:
    """Some of the calibration parts. TrainError: a context trained on is also held out."""
    held: set[str] = set()
    trained: set[str] = set()
    checks = []
    for path in paths:
        parts = squad.split(squad.read(path))
        held |= {p.context for article in parts.held_out + parts.calibration for p in article}
        trained |= {p.context for article in parts.train for p in article}
        short = [p for article in parts.calibration for p in article if len(p.context) < CHECK_CHARS]
        checks += [(p, q) for p in short for q in p.questions if q.answers]
    if held & trained:
        raise TrainError(f"{len(held & trained)} held-out contexts are also in what is trained on")
    return random.Random(0).sample(checks, min(count, len(checks)))


@dataclass(frozen=True)
class Options:
    """What a training is told."""

    data: list[Path]
    start: Path
    out: Path
    copy: Path | None
    settings: Settings
    device: str
    threads: int
    every_s: float
    steps: int
    checks: int = CHECK_QUESTIONS
    teacher: Path | None = None


class Run:
    """One command: what it trains on, where it keeps its checkpoints."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options, self.console, self.settings = options, console, options.settings
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.start / "tokenizer.json"
        tokenizer = tokenizers.load_tokenizer(path)
        data = question_store.digest(options.data, path, self.settings.seed)
        self.digest = self.settings.digest(data)
        self.checks = questions_to_check(options.data, options.checks)
        kept = options.out / f"questions-{data}.npz"
        store = self._store(kept, tokenizer)
        self.stream = Stream(store, self.settings.passages, self.settings.seed)
        gpu = options.device == "cuda"
        making = Making(kept, tokenizers.marks_of(tokenizer), self.settings.parts, LOOSE if gpu else TIGHT)
        self.steps = Steps(making, store, self.stream, GPU_PROCESSES if gpu else 0)
        self.shares = self.stream.group_shares(FACTORS)
        self.late_shares = self.stream.group_shares(LATE_FACTORS)
        self.reader = Reader(tokenizer, max_tokens=split_reader.MAX_TOKENS)
        teacher = split_reader.load(options.teacher, 0) if options.teacher else None
        threads = 1 if gpu else options.threads
        self.trainer = Trainer(options.start, self.settings, options.device, threads, teacher)

    def _store(self, path: Path, tokenizer: Any) -> question_store.Store:
        if not path.is_file():
            say = lambda line: self.console.print(line, markup=False)  # noqa: E731
            question_store.build(self.options.data, tokenizer, self.settings.seed, say).save(path)
        return question_store.Store.load(path)

    def steady(self) -> None:
        """With a constant rate up to step --steps."""
        checkpoint = self.options.out / "checkpoint.pt"
        if checkpoint.is_file():
            self.trainer.resume(checkpoint, self.digest)
            self.console.print(f"going on from step {self.trainer.step} of {checkpoint}", markup=False)
        self.stream.skip(self.trainer.step, self.shares)
        rates = [steady_rate(step, self.settings) for step in range(self.trainer.step, self.options.steps)]
        self._train(checkpoint, rates, self.shares, self.options.steps)

    def cool_down(self) -> None:
        """From the steady checkpoint, with the rate falling to 0 over --steps steps; writes the reader."""
        folder = self.options.out / "cool-down"
        folder.mkdir(exist_ok=True)
        checkpoint = folder / "checkpoint.pt"
        steady = self.options.out / "checkpoint.pt"
        if checkpoint.is_file():
            began = int(self.trainer.resume(checkpoint, self.digest)["began"])
        elif steady.is_file():
            self.trainer.resume(steady, self.digest)
            began = self.trainer.step
        else:
            raise TrainError(f"there is no {steady}: train with `steady` first")
        self.console.print(f"cooling down from step {began}, now {self.trainer.step}", markup=False)
        self.stream.skip(began, self.shares)
        self.stream.skip(self.trainer.step - began, self.late_shares)
        steps = self.options.steps
        rates = [cooling_rate(done, steps) for done in range(self.trainer.step - began, steps)]
        self._train(checkpoint, rates, self.late_shares, began + steps, began=began)
        self._write(folder / "reader")

    def close(self) -> None:
        """End its threads and processes."""
        self.trainer.close()
        self.steps.close()

    def _write(self, folder: Path) -> None:
        split_reader.save(self.trainer.model, folder, self.options.start)
        self.console.print(f"written: {folder}", markup=False)

    def _train(
        self, checkpoint: Path, rates: Sequence[float], shares: dict[str, float], last: int, **more: Any
    ) -> None:
        trainer, began_s, saved_s = self.trainer, time.monotonic(), time.monotonic()
        said_s, pairs, losses_of_steps = began_s, 0, list[Tensor]()
        with Stopping() as stopped:
            steps = self.steps.taken(shares, len(rates))
            for done, (rate, step) in enumerate(zip(rates, steps, strict=True), 1):
                losses_of_steps.append(trainer.train(step, rate))
                pairs += step.pairs
                if done % SAID_EVERY == 0 or trainer.step == last:
                    spans, relevances = self._mean(losses_of_steps)
                    now_s = time.monotonic()
                    self.console.print(
                        f"step {trainer.step} of {last}: loss of spans {spans:.3f}, of relevance "
                        f"{relevances:.3f}; {(now_s - said_s) / len(losses_of_steps):.2f} s a step, "
                        f"{pairs / (now_s - said_s):.0f} pairs/s"
                    )
                    said_s, pairs, losses_of_steps = now_s, 0, []
                due = time.monotonic() - saved_s >= self.options.every_s
                if due or stopped or trainer.step == last:
                    self._mean(losses_of_steps)
                    self._save(checkpoint, **more)
                    saved_s = time.monotonic()
                    if not stopped:
                        exact, shared = check(trainer.model, self.reader, self.checks)
                        self.console.print(
                            f"step {trainer.step}: {len(self.checks)} questions not trained on: "
                            f"EM {exact:.1f}, F1 {shared:.1f}; {saved_s - began_s:.0f} s"
                        )
                if stopped:
                    raise TrainError(f"stopped at step {trainer.step}; the same command goes on from there")

    def _mean(self, losses_of_steps: Sequence[Tensor]) -> tuple[float, float]:
        """TrainError if one is no number: the weights are lost then."""
        spans, relevances = (
            torch.stack([torch.zeros(2), *(one.cpu() for one in losses_of_steps)]).sum(0).tolist()
        )
        if not math.isfinite(spans + relevances):
            raise TrainError(
                f"the loss is {spans + relevances} at step {self.trainer.step}: lower --learning-rate"
            )
        many = max(1, len(losses_of_steps))
        return spans / many, relevances / many

    def _save(self, checkpoint: Path, **more: Any) -> None:
        self.trainer.save(checkpoint, self.digest, **more)
        if self.options.copy:
            copy = self.options.copy / checkpoint.relative_to(self.options.out)
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_suffix(".part")
            part.write_bytes(checkpoint.read_bytes())
            part.replace(copy)


Start = Annotated[Path, typer.Option(help="folder of the cross-encoder or whole reader to start from")]
Out = Annotated[Path, typer.Option(help="for checkpoints and result")]
Copy = Annotated[Path | None, typer.Option(help="a second folder that checkpoints are copied to")]
Split = Annotated[int, typer.Option(help="layers that read the halves apart")]
Passages = Annotated[int, typer.Option(min=1, help="in a step")]
Checks = Annotated[int, typer.Option(min=1, help="questions not trained on that are asked on the way")]
Warmup = Annotated[int, typer.Option(min=1, help="steps until the highest learning rate")]
Dropout = Annotated[float, typer.Option(min=0, max=0.9, help="of each layer's two sums")]
Parts = Annotated[int, typer.Option(min=1, help="runs that a step's pairs are put into; 1 for a GPU")]
Teacher = Annotated[
    Path | None, typer.Option(help="folder of a reader to learn from too; --split 0 trains one")
]
ManySteps = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"steady: the last step ({STEADY_STEPS}); cool-down: over how many ({COOLING_STEPS})"
    ),
]
EveryS = Annotated[float, typer.Option(help="seconds between checkpoints")]


@app.command("steady", help="Train with a constant learning rate.")
@app.command("cool-down", help="Let the rate fall to 0, write the reader.")
def train(
    phase: typer.Context,
    data: Data,
    start: Start,
    out: Out = Path("var/train-split"),
    copy: Copy = None,
    split: Split = Settings.split,
    learning_rate: LearningRate = Settings.learning_rate,
    passages: Passages = Settings.passages,
    seed: Seed = Settings.seed,
    device: OnDevice = None,
    threads: Threads = 2,
    every_s: EveryS = 600.0,
    steps: ManySteps = None,
    checks: Checks = CHECK_QUESTIONS,
    warmup: Warmup = Settings.warmup_steps,
    dropout: Dropout = Settings.dropout,
    parts: Parts = Settings.parts,
    teacher: Teacher = None,
) -> None:
    """One of the two phases, by the command's name."""
    steady = phase.info_name == "steady"
    steps = steps or (STEADY_STEPS if steady else COOLING_STEPS)
    settings = Settings(
        seed,
        split,
        learning_rate,
        warmup_steps=warmup,
        passages=passages,
        parts=parts,
        dropout=dropout,
        teacher=_sum_of(teacher),
    )
    options = Options(
        data, start, out, copy, settings, device_of(device), threads, every_s, steps, checks, teacher
    )
    with said_in_one_line("train-split", *FAULTS):
        run_of = Run(options, Console(highlight=False, soft_wrap=True))
        try:
            run_of.steady() if steady else run_of.cool_down()
        finally:
            run_of.close()


def _sum_of(folder: Path | None) -> str:
    path = folder and folder / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else ""


@app.command("write")
def write(
    start: Annotated[Path, typer.Option(help="as in the training")],
    checkpoint: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option(help="folder of the reader")],
    whole: Annotated[
        bool, typer.Option("--whole", help="as Hugging Face's BertForQuestionAnswering, of --split 0")
    ] = False,
    packed: Annotated[
        bool,
        typer.Option("--packed", help="weights in 8 bits, word embeddings only in --start: a third of it"),
    ] = False,
) -> None:
    """Make a reader of a checkpoint as it is."""
    with said_in_one_line("train-split", *FAULTS):
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise TrainError(f"{checkpoint} is no checkpoint: {error}") from None
        model = split_reader.load(start, state["settings"]["split"])
        model.load_state_dict(state["model"])
        split_reader.save(model, out, start, whole=whole, packed=packed)
        print(f"written: {out}, of step {state['step']}")


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models train-split", arguments)


if __name__ == "__main__":
    sys.exit(main())
