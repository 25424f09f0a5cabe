"""The two halves of a split reader as they are exported: the answers that the eager reader gives."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification

from keymiss.models import export as exporting
from keymiss.models import load, split_reader
from keymiss.models.asking import EvaluateError
from keymiss.models.by_model import find, open_model
from keymiss.models.by_split import SplitModel
from keymiss.models.export import Source, read_back
from keymiss.models.export_halves import HalfSource
from keymiss.models.export_reader import exported_files, files_to_export
from keymiss.models.forms import FORMS
from keymiss.models.halves_model import HalvesModel
from keymiss.reading.backends.base import ModelError
from keymiss.reading.reader import LOWER, UPPER, About, Reader
from keymiss.reading.tensors import Tensor
from tests.unit.test_export import small

QUESTION = "Who performs viral transmission among adults"
TEXT = "Among adults, viral transmission is performed mainly by young parents of school children."
LEAST_ALIKE = {"float32": 0.99999, "bfloat16": 0.99, "int8": 0.97}


def split_folder(folder: Path, seed: int = 5, **changes: object) -> Path:
    """A tiny split reader of three layers, split at two; it has learned nothing but tells tokens apart."""
    start = small(
        folder / "start", BertForSequenceClassification, num_labels=1, num_hidden_layers=3, **changes
    )
    model = split_reader.load(start, 2).eval()
    torch.nn.init.normal_(model.span.weight, generator=torch.Generator().manual_seed(seed))
    made = folder / "split"
    split_reader.save(model, made, start, torch.float32)
    (made / "reader.json").write_text('{"calibration": {"scale": 0.5, "shift": -1.0, "relevance": 0.7}}')
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split_folder(tmp_path_factory.mktemp("split"))


def exported(folder: Path, form: str, out: Path) -> HalvesModel:
    backend, source = FORMS[form].backend, Source(str(folder))
    files = [make(out / f"m{FORMS[form].suffix}", form)[0] for make in files_to_export(source)]
    assert [Path(file.path).name for file in files] == [
        f"m.{half}{FORMS[form].suffix}" for half in (LOWER, UPPER)
    ]
    return HalvesModel(*(read_back(file.path, backend) for file in files))


@pytest.mark.parametrize("form", FORMS)
def test_both_halves_give_what_the_eager_reader_gives(folder: Path, form: str, tmp_path: Path) -> None:
    eager, model = SplitModel.of(Source(str(folder))), exported(folder, form, tmp_path)
    assert eager.about is not None
    reader = Reader.of(eager.about)
    for text in (TEXT, "Yes.", TEXT * 3):
        sentence = reader.sentence(text)
        inputs = reader.inputs(QUESTION, sentence)
        arrays = [Tensor(one) for one in (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids)]
        wanted, found = ([one.array for one in given.run(arrays)] for given in (eager, model))
        assert [one.shape for one in wanted] == [one.shape for one in found]
        for one, other in zip(wanted[:2], found[:2], strict=True):
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > LEAST_ALIKE[FORMS[form].precision]
        if FORMS[form].precision == "float32":
            assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(wanted, found, strict=True))
            assert (
                reader.answer(sentence, inputs, *found).text == reader.answer(sentence, inputs, *wanted).text
            )


def test_what_a_half_says_of_itself(folder: Path) -> None:
    lower, upper = (HalfSource(Source(str(folder)), half).about("float32") for half in (LOWER, UPPER))
    assert lower.half is not None
    assert upper.half is not None
    assert upper == replace(lower, half=replace(lower.half, name=UPPER))
    assert (lower.half.layers, lower.half.split, lower.half.width, lower.half.text_position) == (3, 2, 32, 16)
    assert lower.max_tokens == split_reader.MAX_TOKENS == 499
    assert lower.calibration is not None
    assert lower.calibration.relevance == 0.7
    assert About.from_json(lower.to_json()) == lower


def test_a_whole_reader_says_nothing_of_halves() -> None:
    about = About("m", "float32", "{}", 10, 512)
    assert "half" not in about.to_json()
    assert About.from_json(about.to_json()) == about


def test_a_half_that_differs_is_refused(folder: Path, tmp_path: Path) -> None:
    source = HalfSource(Source(str(folder)), LOWER)
    inputs, (states,) = source.wanted(1, 8)
    source._wanted[1, 8] = inputs, (states + 1e-3,)
    with pytest.raises(exporting.ExportError, match="the exported half differs by"):
        exporting.export_source(source, tmp_path / "m.pt", "torchscript")
    assert not (tmp_path / "m.lower.pt").exists()


def test_halves_of_two_readers_are_refused(folder: Path, tmp_path: Path) -> None:
    other = split_folder(tmp_path / "other", seed=6)
    ours, theirs = exported(folder, "torchscript", tmp_path), exported(other, "torchscript", tmp_path / "two")
    assert ours.about is not None
    assert theirs.about is not None
    files = [tmp_path / "m.lower.pt", tmp_path / "two" / "m.upper.pt"]
    with pytest.raises(load.LoadError, match="not the lower and the upper half of one reader"):
        load.check_halves(files[0], files[1])
    with pytest.raises(ModelError, match="not the lower and the upper half"):
        HalvesModel(*(read_back(path, "TORCH") for path in (files[1], files[0])))


def test_a_half_alone_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    exported(folder, "torchscript", tmp_path)
    for half in (LOWER, UPPER):
        with pytest.raises(
            load.LoadError, match=f"the {half} half of a split reader: load the reader's folder"
        ):
            load.check_file(tmp_path / f"m.{half}.pt")


def test_the_files_of_a_reader(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path))
    copied = shutil.copytree(folder, tmp_path / "mine")
    files = exported_files(str(copied))
    assert [path.name for path in files] == ["mine.lower.pt", "mine.upper.pt"]
    assert load.check_halves(files[0], files[1])[0].path == files[1]


def test_either_file_is_measured_with_the_other(folder: Path, tmp_path: Path) -> None:
    exported(folder, "torchscript", tmp_path)
    for half in (LOWER, UPPER):
        model, reader = open_model(str(tmp_path / f"m.{half}.pt"))
        assert find(model, reader, QUESTION, reader.sentence(TEXT)).text in TEXT
    (tmp_path / "m.lower.pt").unlink()
    with pytest.raises(EvaluateError, match="the other is not there"):
        open_model(str(tmp_path / "m.upper.pt"))
