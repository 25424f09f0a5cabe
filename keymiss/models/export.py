"""Export a Hugging Face BERT-like question-answering model to a form that the worker runs (forms.py).

    keymiss models export --model models/reader --form all

Each file carries what it says of itself (`keymiss.reading.reader.About`: tokenizer, sizes, calibration).
Beside it: <file>.json, which says what it was made from; a second run with the same source files and versions
does nothing. <name>.tokenizer.json is for what has only the model's name
(`keymiss.reading.tokenizers.tokenizer_path`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import typer
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tokenizers import Tokenizer

from keymiss.models.encoder_folder import ENCODER_FILES
from keymiss.models.forms import DEFAULT_FORM, FORMS, ExportError, arguments_of, dummy_inputs, quiet
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.backends.table import backend_table
from keymiss.reading.reader import MAX_SEQUENCE_TOKENS, About, Calibration
from keymiss.reading.tensors import Tensor
from keymiss.resources import PROJECT

__all__ = ["ExportError", "arguments_of"]  # which others take from here

DEFAULT_MODEL = "models/reader"
FULL_SIZE_MODEL = "bert-large-uncased-whole-word-masking-finetuned-squad"
FORMAT = "4"  # change when what is exported changes, so that older exports are made again
TOLERANCE = 1e-4  # between the logits of a float32 form and the eager model's
COMPARED = ((1, 8), (32, 8), (3, 61), (16, 45), (32, 96), (1, 384), (4, 384))  # batch, tokens, padded
LOCK_FILE = ".export.lock"
OTHERS_EXPORT_S = 1800.0  # for another process that exports to the same folder
MIN_TOKENS = 256  # a question of 64, and windows of a text that overlap by 128 and still get on
CALIBRATION_FILE = "reader.json"
SOURCE_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "tokenizer*",
    "vocab.txt",
    CALIBRATION_FILE,
    *ENCODER_FILES,
)
PICKLED_FILES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")

Logits = NDArray[np.float32]


WORDS_OF = "words_of"  # in config.json: the folder with the word embeddings
SPLIT_KEY = "split_layers"  # in config.json: how many layers of a split reader read question and text apart


@dataclass(frozen=True)
class Exported:
    """What an export is: its files, what it was made from, what it takes, and what runs it. `difference`: the
    greatest between its logits and the eager model's. `runs`: it was loaded and run as it will be."""

    model: str
    form: str
    backend: str
    path: str
    tokenizer: str
    source_digest: str
    sha256: str
    size_bytes: int
    vocab_size: int
    max_tokens: int
    difference: float
    runs: bool = False


def note_that_it_runs(made: Exported) -> None:
    """Beside the export, if anything may be written there."""
    with suppress(OSError):
        _note(replace(made, runs=True))


def _note(made: Exported) -> None:
    with _whole(about_file(Path(made.path))) as part:
        part.write_text(json.dumps(asdict(made), indent=2) + "\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    about = path.stat()
    return _sha256_of(path.resolve(), about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(256)
def _sha256_of(path: Path, *_as_it_was: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_source(model: str) -> tuple[Path, str]:
    """The folder with the model's files, and a line that says what was chosen.

    `model` is a local folder (as given or from the project's root) or a hub name. ExportError when a folder
    has no model or the hub cannot be reached: nothing else is ever taken instead.
    """
    folder = tokenizers.model_folder(model)
    if folder:
        if not (folder / "config.json").is_file():
            raise ExportError(f"{model} is a folder without config.json: not a Hugging Face model")
        embedded = " (the embedded reader)" if folder.resolve() == PROJECT / DEFAULT_MODEL else ""
        return folder, f"{model}: local folder{embedded}"
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ExportError(f"there is no folder {model}")
    return _download(model), f"{model}: Hugging Face hub"


def is_split(folder: Path) -> bool:
    """Whether a folder says that it holds a split reader (keymiss.models.split_reader).

    Read as a whole BERT, it would answer wrongly.
    """
    try:
        return SPLIT_KEY in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


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


def source_digest(folder: Path, form: str = DEFAULT_FORM) -> str:
    """A digest of the source files and of the versions that an export in this form depends on."""
    versions = " ".join(_version(package) for package in FORMS[form].packages)
    digest = hashlib.sha256(f"{FORMAT} {form} {versions}".encode())
    patterns = (*SOURCE_FILES, *PICKLED_FILES)
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    for path in (*files, *_words_of(folder)):
        digest.update(f"\n{path.name} {sha256_of(path)}".encode())
    return digest.hexdigest()


def _words_of(folder: Path) -> list[Path]:
    """The file that has the word embeddings of a packed split reader."""
    path = whole_beside(folder) / "model.safetensors"
    return [path] if path.parent != folder and path.is_file() else []


def whole_beside(folder: Path) -> Path:
    """The folder of the whole reader that a packed split one has its word embeddings from, of the same shape;
    of any other reader its own."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Path(os.path.normpath(folder / config[WORDS_OF])) if WORDS_OF in config else folder
    except (OSError, ValueError, TypeError):
        return folder


def _version(package: str) -> str:
    """Not of the imported package: importing torch and transformers takes a second."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise ExportError(f"this form needs the package {package}, which is not installed") from None


def default_out(model: str, form: str = DEFAULT_FORM) -> Path:
    """Where a model is exported to when no place is given: var/models/<name><suffix of the form>."""
    return (
        tokenizers.models_folder()
        / f"{tokenizers.model_slug(str(tokenizers.model_folder(model) or model))}{FORMS[form].suffix}"
    )


def about_file(out: Path) -> Path:
    """The JSON beside an export: no two forms share it."""
    return out.with_name(f"{out.name}.json")


def tokenizer_file(out: Path, form: str) -> Path:
    """The tokenizer beside an export, the same for all forms of a model."""
    return out.with_name(f"{out.name.removesuffix(FORMS[form].suffix)}.tokenizer.json")


class Source:
    """A model to export: its folder, and the eager model, loaded once when it is first needed."""

    forms = FORMS  # that it can be exported to

    def __init__(self, model: str) -> None:
        self.model = model
        self.folder, self.chosen = find_source(model)
        self.name = self.folder.resolve().name if tokenizers.model_folder(model) else model
        self._logits: dict[tuple[int, int], tuple[Logits, Logits]] = {}

    @cached_property
    def eager(self) -> Any:
        """The Hugging Face model. ExportError if it is none for question answering."""
        return load_eager(self.folder)

    @cached_property
    def tokenizer(self) -> str:
        """The text of its tokenizer.json, made where the model has only a vocab.txt. ExportError if it is not
        one that the reader can use."""
        path = self.folder / "tokenizer.json"
        try:
            given = path.read_text(encoding="utf-8") if path.is_file() else _made_tokenizer(self.folder)
            tokenizers.tokenizer_from(given, self.name)
        except (OSError, ValueError, AttributeError) as error:  # TextError is a ValueError
            raise ExportError(f"{self.name} has no tokenizer that can be used: {error}") from error
        return given

    def about(self, precision: str) -> About:
        """What its file says of itself. ExportError if tokenizer and model do not fit."""
        config = self.eager.config
        tokens = tokens_of(tokenizers.tokenizer_from(self.tokenizer, self.name))
        if tokens > config.vocab_size:
            raise ExportError(f"the tokenizer has {tokens} tokens, the model only {config.vocab_size}")
        takes = int(config.max_position_embeddings)
        if takes < MIN_TOKENS:
            raise ExportError(f"the model takes {takes} tokens, at least {MIN_TOKENS} are needed")
        max_tokens = min(takes, MAX_SEQUENCE_TOKENS)
        return About(
            self.name, precision, self.tokenizer, config.vocab_size, max_tokens, calibration_of(self.folder)
        )

    def examples(self, batch: int, seq: int) -> Sequence[Any]:
        """Inputs of this size, torch's tensors."""
        return dummy_inputs(batch, seq, int(self.eager.config.vocab_size))

    def named(self, out: Path, form: str) -> Path:
        """The file for what is asked to be exported to `out`."""
        return out

    def logits(self, batch: int, seq: int) -> tuple[Logits, Logits]:
        """The eager model's, for `dummy_inputs` of this size; kept, as every form is compared with them."""
        import torch

        if (batch, seq) not in self._logits:
            ids, mask, types = dummy_inputs(batch, seq, self.eager.config.vocab_size)
            extra = {"token_type_ids": types} if "token_type_ids" in arguments_of(self.eager) else {}
            with torch.inference_mode():
                eager = self.eager(input_ids=ids, attention_mask=mask, **extra)
            self._logits[batch, seq] = eager.start_logits.numpy(), eager.end_logits.numpy()
        return self._logits[batch, seq]

    def checked(self, form: str, path: Path) -> float:
        """The greatest difference of an export's outputs to the eager model's; ExportError if too much."""
        return _checked(self, form, path)


def tokens_of(tokenizer: Tokenizer) -> int:
    """How many tokens a model needs to know for it: its highest token id and one."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _made_tokenizer(folder: Path) -> str:
    from transformers import AutoTokenizer

    return str(AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer.to_str())


def calibration_of(folder: Path) -> Calibration | None:
    """The calibration in a model folder's reader.json, None if there is none. ExportError if it is broken."""
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        given = json.loads(path.read_text(encoding="utf-8")).get("calibration")
        return Calibration(**{name: float(value) for name, value in given.items()}) if given else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def export(
    model: str = DEFAULT_MODEL, out: Path | None = None, form: str = DEFAULT_FORM
) -> tuple[Exported, bool]:
    """Export `model` to `out` unless it is there already; also says whether it was made now."""
    source = Source(model)
    print(f"model: {source.chosen}")
    return export_source(source, out, form)


def export_source(source: Source, out: Path | None = None, form: str = DEFAULT_FORM) -> tuple[Exported, bool]:
    """`export` of a source that may have other forms too; in a folder one process at a time does so."""
    out = source.named(out or default_out(source.model, form), form)
    digest = source_digest(source.folder, form)
    known = _known(out, form, digest)
    if known:
        return known, False
    out.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(out.parent):
        known = _known(out, form, digest)  # another process may have made it meanwhile
        return (known, False) if known else (_made(source, out, form, digest), True)


def _made(source: Source, out: Path, form: str, digest: str) -> Exported:
    about_file(out).unlink(missing_ok=True)
    about = source.about(source.forms[form].precision)
    with _whole(tokenizer_file(out, form)) as part:
        part.write_text(about.tokenizer, encoding="utf-8")
    with _whole(out) as part:
        source.forms[form].write(source.eager, about.to_json(), part)
        difference = source.checked(form, part)
    made = Exported(
        model=source.model,
        form=form,
        backend=source.forms[form].backend,
        path=str(out),
        tokenizer=str(tokenizer_file(out, form)),
        source_digest=digest,
        sha256=sha256_of(out),
        size_bytes=out.stat().st_size,
        vocab_size=about.vocab_size,
        max_tokens=about.max_tokens,
        difference=difference,
    )
    _note(made)
    return made


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """While no other process exports to `folder`. The lock's file stays: without it nothing is locked."""
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"another process exports to {folder}: waiting for it")
        try:
            lock.acquire(timeout=OTHERS_EXPORT_S)
        except Timeout:
            raise ExportError(
                f"another process has been exporting to {folder} for {OTHERS_EXPORT_S:.0f} s: end it, or wait"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file to write to, which becomes `path` if nothing went wrong and is removed if something did."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _known(out: Path, form: str, digest: str) -> Exported | None:
    """The export that is there, if it was made from just these source files and is whole."""
    tokenizer = tokenizer_file(out, form)
    if not (about_file(out).is_file() and out.is_file() and tokenizer.is_file()):
        return None
    try:
        known = Exported(**json.loads(about_file(out).read_text()))
    except (ValueError, TypeError):
        return None
    whole = known.source_digest == digest and known.size_bytes == out.stat().st_size
    if not whole or known.sha256 != sha256_of(out):
        return None
    return replace(known, path=str(out), tokenizer=str(tokenizer))


def load_eager(folder: Path) -> Any:
    """The model in float32 with eager attention; ExportError if it has no trained question-answering head."""
    if is_split(folder):
        raise ExportError(f"{folder.name} is a split reader (of keymiss.models.train_split), not a whole one")
    import torch
    import transformers
    from transformers import AutoModelForQuestionAnswering

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():
            model, info = AutoModelForQuestionAnswering.from_pretrained(
                str(folder), attn_implementation="eager", dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # broken files raise errors of several libraries
        said = " ".join(str(error).split())[:400]
        raise ExportError(f"{folder.name} is not a question-answering model: {said}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"]))
        raise ExportError(f"{folder.name} is not trained to answer questions: it lacks {missing}")
    return model.eval()


def read_back(path: str | Path, backend: str) -> Model:
    """The model in a file, as the worker runs it. ModelError if it is none."""
    backends = backend_table("torch")
    if backend not in backends:
        raise ModelError(f"there is no backend {backend} here: is onnxruntime installed?")
    with quiet():
        return backends[backend].load(Path(path).read_bytes())


def compare(source: Source, model: Model, batch: int, seq: int) -> float:
    """The greatest difference to the eager model's logits, over the tokens that are not padding."""
    inputs = [one.numpy() for one in dummy_inputs(batch, seq, source.eager.config.vocab_size)]
    keep = inputs[1].astype(bool)
    outputs = model.run([Tensor(one) for one in inputs])
    pairs = zip(source.logits(batch, seq), outputs, strict=True)
    return max(float(np.abs(eager - output.array)[keep].max()) for eager, output in pairs)


def _checked(source: Source, form: str, path: Path) -> float:
    """The greatest difference of all batches that are compared; ExportError if it is too much."""
    kind, greatest = FORMS[form], 0.0
    try:
        model = read_back(path, kind.backend)
        for batch, seq in COMPARED:
            difference = compare(source, model, batch, min(seq, MAX_SEQUENCE_TOKENS))
            if math.isnan(difference) or (kind.precision == "float32" and difference > TOLERANCE):
                raise ExportError(
                    f"the exported model differs by {difference:.1e} for {batch} x {seq} tokens"
                )
            greatest = max(greatest, difference)
    except ModelError as error:
        raise ExportError(f"the exported model cannot be run: {error}") from error
    return greatest


def export_all(name: str, forms: Iterable[str], export_one: Callable[[str], tuple[Exported, bool]]) -> None:
    """Export to each of `forms`, and say what was made; ends with 1 if one of them could not be."""
    failed = False
    for form in forms:
        began_s = time.monotonic()
        try:
            made, new = export_one(form)
        except ExportError as error:
            print(f"keymiss models {name}: {form}: {error}", file=sys.stderr)
            failed = True
            continue
        print(
            f"{form} {'exported' if new else 'already exported'}: {made.path}, "
            f"{made.size_bytes / 1e6:.1f} MB, sha256 {made.sha256[:12]}, "
            f"differs by {made.difference:.1e} at most, {time.monotonic() - began_s:.1f} s",
            flush=True,
        )
    if failed:
        raise typer.Exit(1)
