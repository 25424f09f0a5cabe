"""The export: eager's logits for batches of any size and length; quick the second time; clear errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock
from transformers import BertConfig, BertForMaskedLM, BertForQuestionAnswering, DistilBertConfig
from transformers import DistilBertForQuestionAnswering as DistilBert

from keymiss.models import export as exporting
from keymiss.models import export_reader, forms
from keymiss.reading.backends.base import Model
from keymiss.reading.reader import Calibration, Reader
from keymiss.reading.tensors import Tensor
from keymiss.resources import PROJECT
from tests.patience import patient

READER = PROJECT / "models" / "reader"
BATCHES = (1, 2, 7, 32)
LENGTHS = (8, 45, 384)
FLOAT32 = ("torchscript", "onnx")


def put_tokenizer(folder: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(READER / name, folder / name)
    return folder


def made_in(folder: Path) -> set[str]:
    """The names of the files there, but for the lock's."""
    return {path.name for path in folder.iterdir()} - {exporting.LOCK_FILE}


def small(folder: Path, kind: type[Any] = BertForQuestionAnswering, **changes: Any) -> Path:
    """A tiny untrained BERT with the reader's tokenizer."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    kind(BertConfig(**({"vocab_size": 30522} | sizes | changes))).save_pretrained(folder)
    return put_tokenizer(folder)


def made_of(
    source: exporting.Source, form: str, out: Path
) -> tuple[exporting.Source, Model, exporting.Exported]:
    made, new = exporting.export_source(source, out / f"m{forms.FORMS[form].suffix}", form)
    assert new
    return source, exporting.read_back(made.path, made.backend), made


@pytest.fixture(scope="module")
def reader() -> tuple[exporting.Source, Model]:
    """The embedded reader: its source, and exported (that of this checkout, if it is there) and read back."""
    source = exporting.Source(str(READER))
    made, _ = exporting.export_source(source)
    return source, exporting.read_back(made.path, made.backend)


@pytest.fixture(scope="module")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> exporting.Source:
    """A tiny model with a calibration."""
    folder = small(tmp_path_factory.mktemp("tiny") / "tiny")
    (folder / "reader.json").write_text('{"calibration": {"scale": 0.5, "shift": -2}}')
    return exporting.Source(str(folder))


@pytest.fixture(scope="module", params=list(forms.FORMS))
def tiny(
    request: pytest.FixtureRequest, tiny_source: exporting.Source, tmp_path_factory: pytest.TempPathFactory
) -> tuple[exporting.Source, Model, exporting.Exported]:
    """It in each form."""
    return made_of(tiny_source, request.param, tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("seq", LENGTHS)
def test_every_form_equals_eager(
    tiny: tuple[exporting.Source, Model, exporting.Exported], batch: int, seq: int
) -> None:
    source, model, made = tiny
    limit = exporting.TOLERANCE if made.form in FLOAT32 else 0.02
    assert exporting.compare(source, model, batch, seq) < limit


def int8_weights(path: Path) -> list[int]:
    """The greatest of each matrix that is multiplied in 8 bits, without its sign."""
    if path.suffix == ".onnx":
        graph = onnx.load(str(path)).graph
        stored = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
        used = [node.input[1] for node in graph.node if node.op_type == "MatMulInteger"]
        return [int(abs(stored[name].astype(int)).max()) for name in used]
    with forms.quiet():
        module: Any = torch.jit.load(str(path))
    packed = [getattr(part, "_packed_params", None) for part in module.modules()]
    matrices = [one for one in packed if isinstance(one, torch.ScriptObject)]
    weights = [torch.ops.quantized.linear_unpack(one)[0].int_repr() for one in matrices]
    return [int(one.int().abs().max()) for one in weights]


def test_int8_sums_cannot_saturate_on_any_processor(
    tiny: tuple[exporting.Source, Model, exporting.Exported],
) -> None:
    """Without VNNI two products are added in 16 bits, signed; the other factor has 8 bits, unsigned."""
    made = tiny[2]
    if forms.FORMS[made.form].precision != "int8":
        return
    greatest = int8_weights(Path(made.path))
    assert len(greatest) == 13, "six of each of two layers, and the head"
    assert max(greatest) > 60
    assert 2 * 255 * max(greatest) < 1 << 15


def test_torchscript_int8_computes_the_same_without_vnni(tmp_path: Path) -> None:
    """FBGEMM, which torch uses for int8, can be told which instructions there are. (ONNX Runtime cannot.)"""
    source = exporting.Source(str(small(tmp_path / "small")))
    _, model, made = made_of(source, "torchscript-int8", tmp_path)
    code = (
        "import sys, numpy; from pathlib import Path\n"
        "from keymiss.reading.tensors import Tensor; from keymiss.models import export, forms\n"
        "model = export.read_back(sys.argv[1], 'TORCH')\n"
        "inputs = [Tensor(one.numpy()) for one in forms.dummy_inputs(3, 45, 30522)]\n"
        "numpy.save(sys.argv[2], numpy.stack([one.array for one in model.run(inputs)]))"
    )
    held_down = {"FBGEMM_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    order = [sys.executable, "-W", "ignore", "-c", code, made.path, str(tmp_path / "logits.npy")]
    env = {**os.environ, **held_down, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run(order, cwd=PROJECT, env=env, check=True, timeout=patient(100))
    inputs = [Tensor(one.numpy()) for one in forms.dummy_inputs(3, 45, 30522)]
    here = np.stack([one.array for one in model.run(inputs)])
    assert np.abs(np.load(tmp_path / "logits.npy") - here).max() < 1e-3


def test_every_batch_equals_eager(tiny: tuple[exporting.Source, Model, exporting.Exported]) -> None:
    """No size is frozen into the file: that shows in a small model as in a large one."""
    source, model, made = tiny
    limit = exporting.TOLERANCE if made.form in FLOAT32 else 0.02
    for batch in range(1, 33):
        for seq in (1, 8, 45):
            assert exporting.compare(source, model, batch, seq) < limit, (batch, seq)


@pytest.mark.parametrize(
    ("batch", "seq"),
    [(1, 1), (1, 8), (2, 45), (7, 45), (32, 8), (5, 128), (1, 384), (8, 384), (1, 512)],
)
def test_the_reader_equals_eager(reader: tuple[exporting.Source, Model], batch: int, seq: int) -> None:
    assert exporting.compare(*reader, batch, seq) < exporting.TOLERANCE


@pytest.mark.parametrize("tiny", FLOAT32, indirect=True)
def test_padding_changes_nothing(tiny: tuple[exporting.Source, Model, exporting.Exported]) -> None:
    """A row gives the same logits alone and padded among longer rows. (In int8 activations are scaled by all
    that run together.)"""
    _, model, _ = tiny
    ids, mask, types = (one.numpy() for one in forms.dummy_inputs(4, 90, 30522))
    mask[0, 30:] = 0
    together = model.run([Tensor(ids * mask), Tensor(mask), Tensor(types * mask)])
    alone = model.run([Tensor(one[:1, :30].copy()) for one in (ids, mask, types)])
    for a, b in zip(together, alone, strict=True):
        assert abs(a.array[0, :30] - b.array[0]).max() < exporting.TOLERANCE


def test_the_file_says_what_it_is(tiny: tuple[exporting.Source, Model, exporting.Exported]) -> None:
    _, model, made = tiny
    about = model.about
    assert about is not None
    assert (about.model, about.precision) == ("tiny", forms.FORMS[made.form].precision)
    assert about.tokenizer == (READER / "tokenizer.json").read_text()
    assert (about.vocab_size, about.max_tokens) == (30522, 512)
    assert about.calibration == Calibration(0.5, -2)
    used = Reader.of(about)
    sentence = used.sentence("The virus is carried by bats.")
    inputs = used.inputs("What carries it?", sentence)
    outputs = model.run(
        [Tensor(one) for one in (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids)]
    )
    span = used.answer(sentence, inputs, *(output.array for output in outputs))
    assert span.text in sentence.text


@pytest.mark.parametrize("form", FLOAT32)
def test_a_model_without_token_types(tmp_path: Path, form: str) -> None:
    torch.manual_seed(1)
    config = DistilBertConfig(vocab_size=30522, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    DistilBert(config).save_pretrained(tmp_path / "distil")
    put_tokenizer(tmp_path / "distil")
    source = exporting.Source(str(tmp_path / "distil"))
    assert made_of(source, form, tmp_path)[2].difference < exporting.TOLERANCE


def test_second_export_does_nothing_until_the_source_changes(tmp_path: Path) -> None:
    folder, out = small(tmp_path / "small"), tmp_path / "out" / "small.pt"
    first, new = exporting.export(str(folder), out)
    assert new
    assert json.loads((out.parent / "small.pt.json").read_text())["sha256"] == first.sha256
    assert out.with_suffix(".tokenizer.json").read_bytes() == (READER / "tokenizer.json").read_bytes()
    assert exporting.export(str(folder), out) == (first, False)
    out.write_bytes(out.read_bytes()[:-1] + b"x")
    assert exporting.export(str(folder), out)[1], "a damaged export is made again"
    (folder / "reader.json").write_text('{"calibration": {"scale": 1, "shift": 0}}')
    assert exporting.export(str(folder), out)[1], "the calibration is part of the file"
    small(folder, num_hidden_layers=1)
    assert exporting.export(str(folder), out)[1], "other source files are exported again"


def test_of_two_exports_at_once_one_is_made_and_both_get_it(tmp_path: Path) -> None:
    folder, out = small(tmp_path / "small"), tmp_path / "small.pt"
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: exporting.export(str(folder), out), range(2))
    assert first[0] == second[0]
    assert {first[1], second[1]} == {True, False}


def test_an_export_that_another_process_does_not_end_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = small(tmp_path / "small"), tmp_path / "small.pt"
    monkeypatch.setattr(exporting, "OTHERS_EXPORT_S", 0.2)
    with (
        FileLock(tmp_path / exporting.LOCK_FILE),
        pytest.raises(exporting.ExportError, match="end it, or wait"),
    ):
        exporting.export(str(folder), out)
    assert f"another process exports to {tmp_path}: waiting for it" in capsys.readouterr().out
    assert not out.exists()


@pytest.mark.timeout(300)  # ten exports
def test_all_forms_lie_side_by_side(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path / "var"))
    order = ["--model", str(small(tmp_path / "mine")), "--form", "all"]
    assert export_reader.main(order) == 0
    said = capsys.readouterr().out
    assert f"model: {tmp_path / 'mine'}: local folder" in said
    assert said.count(" exported: ") == len(forms.FORMS)
    names = {"mine.pt", "mine.bfloat16.pt", "mine.int8.pt", "mine.onnx", "mine.int8.onnx"}
    assert made_in(tmp_path / "var" / "models") == names | {f"{name}.json" for name in names} | {
        "mine.tokenizer.json"
    }
    assert export_reader.main(order) == 0
    assert capsys.readouterr().out.count(" already exported: ") == len(forms.FORMS)


def test_a_hub_name_out_of_reach_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert export_reader.main(["--model", "nobody/no-such-model", "--out", str(tmp_path / "x.pt")]) == 1
    said = capsys.readouterr()
    assert "nobody/no-such-model" in said.err
    assert "--model <folder>" in said.err
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_answer_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out" / "x.pt"
    with pytest.raises(exporting.ExportError, match="no folder"):
        exporting.export("./not/here", out)
    with pytest.raises(exporting.ExportError, match=r"without config\.json"):
        exporting.export(str(tmp_path), out)
    split = small(tmp_path / "split", split_layers=1)
    with pytest.raises(exporting.ExportError, match="split reader"):
        exporting.export(str(split), out)
    with pytest.raises(exporting.ExportError, match="not trained to answer"):
        exporting.export(str(small(tmp_path / "mlm", BertForMaskedLM)), out)
    with pytest.raises(exporting.ExportError, match="takes 128 tokens"):
        exporting.export(str(small(tmp_path / "short", max_position_embeddings=128)), out)
    with pytest.raises(exporting.ExportError, match="has 30522 tokens, the model only 1000"):
        exporting.export(str(small(tmp_path / "few", vocab_size=1000)), out)
    assert not made_in(out.parent)


@pytest.mark.parametrize(
    "given", ["[]", "{", '{"calibration": {"scale": 0, "shift": 1}}', '{"calibration": 3}']
)
def test_a_broken_calibration_is_refused(given: str, tmp_path: Path) -> None:
    folder = small(tmp_path / "small")
    (folder / "reader.json").write_text(given)
    with pytest.raises(exporting.ExportError, match=r"reader\.json cannot be read"):
        exporting.export(str(folder), tmp_path / "x.pt")


def test_a_form_that_differs_too_much_is_refused_and_nothing_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(exporting.ExportError, match="differs by"):
        exporting.export(str(small(tmp_path / "small")), tmp_path / "out" / "x.pt")
    assert made_in(tmp_path / "out") == {"x.tokenizer.json"}


def test_a_torch_that_cannot_quantize_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr("torch.ao.quantization.quantize_dynamic")
    with pytest.raises(exporting.ExportError, match=r"cannot quantize here.*use the form onnx-int8"):
        exporting.export(str(small(tmp_path / "small")), tmp_path / "x.int8.pt", "torchscript-int8")
