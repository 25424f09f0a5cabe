"""The form in which a reader is read fastest on this machine, of those that lose hardly anything.

A model's reader.json says what each of its forms loses (`f1_lost`: form -> points of F1, as keymiss models
evaluate measured it). Those that lose at most MOST_LOST_F1, and whose numbers the processor can multiply, are
exported and timed for a second each, as the worker reads: one sentence a run, one thread a run, as many runs
as there are cores; of a split reader, the upper half. What was chosen is kept beside the exports and holds
until the model, the packages or the machine are others. A model whose forms nobody measured is read as
DEFAULT_FORM, and nothing is timed.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keymiss.models.export import (
    CALIBRATION_FILE,
    Source,
    default_out,
    export_source,
    is_split,
    source_digest,
)
from keymiss.models.forms import DEFAULT_FORM, FORMS, ExportError, quiet
from keymiss.reading.backends.base import Model
from keymiss.reading.backends.table import backend_table
from keymiss.reading.reader import UPPER
from keymiss.reading.tensors import Tensor

MOST_LOST_F1 = 0.5
TORCHSCRIPT_WITHIN = 1.1  # of the fastest one's time: then the form is a TorchScript one
TIMED_S = 1.0
TOKENS = (31, 45, 64)  # of question and sentence together: short, middle and long ones of the sample
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As the kernel names them; a processor with none of them multiplies bfloat16 ten times as slowly."""
CORES = len(os.sched_getaffinity(0))


def fastest_form(source: Source) -> str:
    """Its name. Says what was timed, if anything was. ExportError if a form cannot be exported."""
    measured = f1_lost(source.folder)
    if not measured:
        return DEFAULT_FORM
    processor = _processor()
    flags = {flag for line in processor for flag in line.split()}
    forms = [
        form
        for form, made in FORMS.items()
        if form == DEFAULT_FORM
        or (
            measured.get(form, 100.0) <= MOST_LOST_F1
            and (made.precision != "bfloat16" or flags & BFLOAT16_FLAGS)
        )
    ]
    path = default_out(source.model).with_suffix(".fastest.json")
    here = _here(source, processor, forms)
    known = _known(path)
    if known.get("here") != here:
        known = {"here": here, "ms": (ms := _timed(source, forms)), "form": chosen(ms)}
        path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        told = ", ".join(f"{form} {took:.1f}" for form, took in sorted(ms.items(), key=lambda one: one[1]))
        print(f"form: {known['form']} (ms a sentence on {CORES} cores: {told})", flush=True)
    return str(known["form"])


def f1_lost(folder: Path) -> dict[str, float]:
    """By form, as the model's reader.json says. ExportError if it names a form that there is not."""
    path = folder / CALIBRATION_FILE
    try:
        given = json.loads(path.read_text(encoding="utf-8")).get("f1_lost") or {}
        lost = {str(form): float(points) for form, points in given.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ExportError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    for form in lost:
        if form not in FORMS:
            raise ExportError(f"{path}: the form {form!r} is not one of {', '.join(FORMS)}")
    return lost


def chosen(ms: Mapping[str, float]) -> str:
    """The fastest; a TorchScript form that is nearly as fast is taken before an ONNX one."""
    fastest = min(ms, key=lambda form: ms[form])
    torchscript = [form for form in ms if FORMS[form].backend == FORMS[DEFAULT_FORM].backend]
    best = min(torchscript, key=lambda form: ms[form], default=fastest)
    return best if ms[best] <= ms[fastest] * TORCHSCRIPT_WITHIN else fastest


def _timed(source: Source, forms: list[str]) -> dict[str, float]:
    """Milliseconds of a sentence, by form: the median of runs that took turns, so that what else the machine
    does meets all of them."""
    models = {}
    table = backend_table("torch")
    if is_split(source.folder):
        from keymiss.models.export_halves import HalfSource  # torch too, which takes seconds

        source = HalfSource(source, UPPER)
    inputs = [[Tensor(array.numpy()) for array in source.examples(1, tokens)] for tokens in TOKENS] * CORES
    for form in forms:
        made, _ = export_source(source, form=form)
        with quiet():
            models[form] = table[FORMS[form].backend].load(Path(made.path).read_bytes())
    took: dict[str, list[float]] = {form: [] for form in forms}

    def prepare() -> None:
        for backend in table.values():
            backend.prepare_thread()

    with ThreadPoolExecutor(CORES, initializer=prepare) as pool:
        until_s = time.monotonic() + TIMED_S * len(forms)
        rounds = 0
        while rounds < 2 or time.monotonic() < until_s:
            for form, model in models.items():
                took[form].append(_round_ms(pool, model, inputs))
            rounds += 1
    return {form: statistics.median(each[1:]) for form, each in took.items()}  # the first run compiles


def _round_ms(pool: ThreadPoolExecutor, model: Model, inputs: Sequence[list[Tensor]]) -> float:
    """Of one sentence, from a round in which each core reads one of each length."""
    began_s = time.perf_counter()
    list(pool.map(model.run, inputs))
    return (time.perf_counter() - began_s) * 1000 / len(inputs)


def _processor() -> list[str]:
    """What the kernel says of it; nothing where it does not."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return sorted(
        {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    )


def _here(source: Source, processor: Sequence[str], forms: list[str]) -> dict[str, str]:
    """What the choice depends on: the processor, the cores, the model and packages."""
    digest = hashlib.sha256("\n".join(processor).encode()).hexdigest()[:12]
    return {"processor": digest, "cores": str(CORES)} | {
        form: source_digest(source.folder, form) for form in forms
    }


def _known(path: Path) -> dict[str, object]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and known.get("form") in FORMS else {}
