"""Encoding: batches for the model, outputs in the texts' order; the embedded encoder and its forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from keymiss.models.encoder_folder import MEAN, MODULES_FILE, POOLING_FILE, PROMPTS_FILE, EncoderFolder
from keymiss.models.export import export, export_source, read_back
from keymiss.models.export_encoder import ENCODER_FORMS, EncoderSource, ExportError, export_encoder
from keymiss.models.load import LoadError, check_file
from keymiss.models.load_encoder import check_encoder, run_encoder
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import Model
from keymiss.reading.encoder import MAX_TEXT_TOKENS, Batch, Encoder, in_order
from keymiss.reading.stored_vector import DIMENSIONS, Vector
from keymiss.resources import PROJECT
from tests.unit.test_export import put_tokenizer
from tests.unit.test_export import small as small_reader

ENCODER = PROJECT / "models" / "encoder"
TEXTS = [
    "Which river flows through Frankfurt?",
    "The river Main flows through Frankfurt before it reaches the Rhine at Mainz.",
    "Bats carry many viruses without falling ill.",
    "Main",
    "",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tokenizers.load_tokenizer(ENCODER / "tokenizer.json"))


@pytest.fixture(scope="module")
def embedded() -> Model:
    """The embedded encoder in the form that is loaded by default; that of this checkout, if it is there."""
    made, _ = export_encoder(str(ENCODER))
    check_file(Path(made.path), check_encoder)
    return read_back(made.path, made.backend)


def test_batches_are_of_like_length_and_hold_every_text_once(encoder: Encoder) -> None:
    texts = [f"word {'and more ' * (number % 40)}" for number in range(100)]
    batches = list(encoder.batches(texts))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(100))
    for batch in batches:
        assert batch.input_ids.shape == batch.attention_mask.shape
        assert len(batch.rows) == len(batch.input_ids)
        assert batch.attention_mask.any(axis=0).all()  # no column is padding only
    padded = sum(batch.input_ids.size for batch in batches)
    assert padded < 1.2 * sum(int(batch.attention_mask.sum()) for batch in batches)


def test_long_texts_are_cut_and_empty_ones_are_not_lost(encoder: Encoder) -> None:
    (empty, long) = encoder.token_ids(["", "word " * 1000])
    assert len(empty) == 2
    assert len(long) == MAX_TEXT_TOKENS
    assert long[-1] == empty[-1]
    assert list(encoder.batches([])) == []


def test_what_looks_like_a_separator_is_text(encoder: Encoder) -> None:
    (plain, odd) = encoder.token_ids(["a", "a [SEP] b"])
    assert odd.count(plain[-1]) == 1


def test_outputs_come_back_in_order(encoder: Encoder) -> None:
    lengths = encoder.encode(["a b c", "a", "a b"], lambda ids, mask: counted(mask))
    assert lengths[:, 0].tolist() == [5, 3, 4]


def counted(mask: np.ndarray) -> Vector:
    made = np.zeros((len(mask), DIMENSIONS), np.float32)
    made[:, 0] = mask.sum(1)
    return made


@pytest.mark.parametrize(
    "output", [np.zeros((1, 7), np.float32), np.full((1, DIMENSIONS), np.nan, np.float32)]
)
def test_outputs_that_cannot_be_are_refused(output: Vector) -> None:
    ids = np.ones((1, 3), np.int64)
    with pytest.raises(ValueError, match="gave"):
        in_order([(Batch([0], ids, ids), output)], 1)


def test_the_embedded_encoder_puts_a_question_near_its_answer(embedded: Model) -> None:
    assert embedded.about is not None
    vectors = run_encoder(embedded, Encoder.of(embedded.about), TEXTS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-3)
    cosines = vectors @ vectors[0]
    assert cosines[1] > 0.6
    assert cosines[1] > cosines[2] + 0.4


def test_batching_does_not_change_a_vector(embedded: Model) -> None:
    """Not exactly so in int8: activations are scaled by the whole batch. The empty text has least to say."""
    assert embedded.about is not None
    encoder = Encoder.of(embedded.about)
    together = run_encoder(embedded, encoder, TEXTS)
    alone = np.concatenate([run_encoder(embedded, encoder, [one]) for one in TEXTS])
    assert (together * alone).sum(1).min() > 0.95


def small(folder: Path, **changes: int) -> Path:
    torch.manual_seed(1)
    sizes = {
        "hidden_size": DIMENSIONS,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(**(sizes | changes)), add_pooling_layer=False).save_pretrained(folder)
    return put_tokenizer(folder)


@pytest.fixture(scope="module")
def mean_source(tmp_path_factory: pytest.TempPathFactory) -> EncoderSource:
    """A folder that says nothing: the mean of all tokens."""
    return EncoderSource(str(small(tmp_path_factory.mktemp("mean") / "small")))


@pytest.mark.parametrize("form", list(ENCODER_FORMS))
def test_every_form_is_the_eager_model(mean_source: EncoderSource, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"e{ENCODER_FORMS[form].suffix}"
    made, new = export_source(mean_source, out, form)
    assert new
    model = read_back(made.path, made.backend)
    inputs, eager = mean_source.vectors(5, 33)
    (output,) = model.run(inputs)
    assert output.dims == (5, DIMENSIONS)
    assert (output.array * eager).sum(1).min() > (0.99999 if form == "onnx" else 0.98)
    assert export_encoder(mean_source.model, form, out)[1] is False


def test_an_encoder_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="vectors of 64"):
        export_encoder(str(small(tmp_path / "narrow", hidden_size=64)), out=tmp_path / "e.int8.onnx")


def test_a_reader_is_not_loaded_as_an_encoder(tmp_path: Path) -> None:
    made, _ = export(str(small_reader(tmp_path / "small")), form="onnx", out=tmp_path / "reader.onnx")
    with pytest.raises(LoadError, match=r"takes 3 inputs|no encoder"):
        check_file(Path(made.path), check_encoder)


CLS_POOLING = {"word_embedding_dimension": DIMENSIONS, "pooling_mode_cls_token": True}


def with_files(folder: Path, **files: object) -> Path:
    """`1_Pooling` and others of sentence-transformers: name -> what is in it."""
    names = {"pooling": POOLING_FILE, "prompts": PROMPTS_FILE, "modules": MODULES_FILE}
    for name, content in files.items():
        path = folder / names[name]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


PROMPTS = {"prompts": {"query": "query: ", "passage": "passage: "}}


@pytest.fixture(scope="module")
def cls_source(tmp_path_factory: pytest.TempPathFactory) -> EncoderSource:
    """A folder that says to take the state of [CLS], and what to put before texts."""
    folder = small(tmp_path_factory.mktemp("cls") / "small")
    return EncoderSource(str(with_files(folder, pooling=CLS_POOLING, prompts=PROMPTS)))


@pytest.mark.parametrize("form", list(ENCODER_FORMS))
def test_what_the_folder_says_is_in_the_model_s_file(
    cls_source: EncoderSource, tmp_path: Path, form: str
) -> None:
    made, _ = export_source(cls_source, tmp_path / f"e{ENCODER_FORMS[form].suffix}", form)
    model = read_back(made.path, made.backend)
    inputs, _ = cls_source.vectors(3, 20)
    with torch.inference_mode():
        arrays = (torch.from_numpy(one.array) for one in inputs)
        states = cls_source.eager.model(*arrays).last_hidden_state
    wanted = torch.nn.functional.normalize(states[:, 0], dim=1).numpy()
    (output,) = model.run(inputs)
    assert (output.array * wanted).sum(1).min() > (0.99999 if form == "onnx" else 0.98)
    assert model.about is not None
    encoder = Encoder.of(model.about, made.sha256)
    assert encoder.question("Who?") == "query: Who?"
    assert encoder.sentence("He.") == "passage: He."
    assert encoder.mark.hex() == made.sha256[:16]


def test_an_export_is_made_again_when_the_pooling_changes(tmp_path: Path) -> None:
    folder, out = small(tmp_path / "small"), tmp_path / "e.onnx"
    first, _ = export_encoder(str(folder), "onnx", out)
    second, new = export_encoder(str(with_files(folder, pooling=CLS_POOLING)), "onnx", out)
    assert new
    assert first.sha256 != second.sha256


def test_a_folder_that_says_nothing_takes_the_mean_and_no_prefix(tmp_path: Path) -> None:
    assert EncoderFolder.of(tmp_path) == EncoderFolder(MEAN, "", "")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pooling": {"pooling_mode_max_tokens": True}}, "pooling_mode_max_tokens"),
        ({"pooling": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}}, "only one of"),
        ({"modules": [{"type": "sentence_transformers.models.Dense"}]}, "Dense"),
        ({"prompts": ["query: "]}, "cannot be read"),
        ({"prompts": {"prompts": {"query": 3}}}, "not a text"),
    ],
)
def test_what_an_export_would_leave_out_is_refused(
    tmp_path: Path, files: dict[str, object], said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        EncoderFolder.of(with_files(tmp_path, **files))
