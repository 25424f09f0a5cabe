"""A running cluster gets another model: no request fails, no old answer is given as the new model's."""

from __future__ import annotations

import json
import string
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from redis.cluster import RedisCluster
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertForQuestionAnswering

from keymiss import keys
from keymiss.models import load
from tests.cluster.test_qa_functions import SENTENCES, script, tags
from tests.patience import patient
from tests.servers import RedisClusterServers, WorkerProcess

ARTICLE = "PMC1.xml"


def other_model(folder: Path) -> Path:
    """A tiny model with a vocabulary of its own; it has learned nothing, which is all that is needed here."""
    words = [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
        *".,?",
        *string.ascii_lowercase,
        *(f"##{letter}" for letter in string.ascii_lowercase),
    ]
    tokenizer = Tokenizer(WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertForQuestionAnswering(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def client(cluster: RedisClusterServers, cluster_worker: WorkerProcess) -> Iterator[RedisCluster]:
    load_model(cluster, "models/reader")
    with cluster.client(decode_responses=True) as made:
        assert script(made, "tokenize.py") == "OK"
        assert script(made, "qa.py") == "OK"
        for tag in tags(made):
            made.hset(keys.sentence_key(ARTICLE, tag), mapping=SENTENCES)
        yield made


def load_model(cluster: RedisClusterServers, model: str, var: Path | None = None) -> None:
    """`var`: where what other_model is exported to lies; it is of no use later."""
    with pytest.MonkeyPatch.context() as patch:
        if var is not None:
            patch.setenv("KEYMISS_VAR", str(var))
        assert load.main(["--model", model, "--nodes", cluster.addresses]) == 0


def span(client: RedisCluster, tag: str, idx: int, question: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(client.get(keys.span_key(ARTICLE, tag, idx, question)))
    return found


def model_of(client: RedisCluster, tag: str) -> object:
    info = load.model_info(client, keys.model_key(tag))
    assert info is not None
    return info["sha256"]


class Askers:
    """Threads that ask all the time, every other time a new question; `failed` must stay empty."""

    def __init__(self, cluster: RedisClusterServers, tag: str) -> None:
        self.failed: list[str] = []
        self.answered: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(cluster, tag, i), daemon=True) for i in range(3)
        ]

    def _ask(self, cluster: RedisClusterServers, tag: str, number: int) -> None:
        with cluster.client(decode_responses=True) as client:
            turn = 0
            while not self._stop.wait(0.03):  # a pace: other tests run too
                turn += 1
                question = f"Who performs it {number} {turn}" if turn % 2 else "Who performs it"
                try:
                    found = span(client, tag, turn % 2, question)
                    self.answered[str(found["model"])] += 1
                except Exception as error:
                    self.failed.append(f"{type(error).__name__}: {error}")

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(patient(60))
        assert not any(thread.is_alive() for thread in self._threads)


def test_replaced_without_a_failed_request_and_without_an_old_answer(
    client: RedisCluster, cluster: RedisClusterServers, tmp_path: Path
) -> None:
    asked = [(tag, idx, f"Who is number {n}") for tag in tags(client) for idx in (0, 1) for n in range(10)]
    for one in asked:
        span(client, *one)
        client.get(keys.answer_key(ARTICLE, one[0], *one[1:]))
    old = {tag: model_of(client, tag) for tag in tags(client)}
    folder = other_model(tmp_path / "other")
    with Askers(cluster, tags(client)[0]) as askers:
        for model, var in ((str(folder), tmp_path), ("models/reader", None), (str(folder), tmp_path)):
            load_model(cluster, model, var)
            new = {tag: model_of(client, tag) for tag in tags(client)}
            for tag, idx, question in asked:
                assert span(client, tag, idx, question)["model"] == new[tag]
    assert askers.failed == []
    assert set(askers.answered) >= {str(sha) for sha in (*old.values(), *new.values())}
    assert set(old.values()) != set(new.values())


def test_the_answers_are_those_of_the_model_with_its_own_tokenizer(
    client: RedisCluster, cluster: RedisClusterServers, tmp_path: Path
) -> None:
    """The same answers as the model gives outside of the cluster; other tokens would give others."""
    from keymiss.models.export import load_eager
    from keymiss.reading.reader import Reader
    from keymiss.reading.tokenizers import load_tokenizer

    folder = other_model(tmp_path / "again")
    load_model(cluster, str(folder), tmp_path)
    reader, model = Reader(load_tokenizer(folder / "tokenizer.json")), load_eager(folder)
    for idx in ("0", "1"):
        sentence = reader.sentence(SENTENCES[idx])
        inputs = reader.inputs("Who performs it at last", sentence)
        with torch.no_grad():
            out = model(
                input_ids=torch.from_numpy(inputs.input_ids),
                token_type_ids=torch.from_numpy(inputs.token_type_ids),
            )
        wanted = reader.answer(sentence, inputs, out.start_logits.numpy(), out.end_logits.numpy())
        found = span(client, tags(client)[0], int(idx), "Who performs it at last")
        assert (found["answer"], found["start"], found["end"]) == (wanted.text, wanted.start, wanted.end)


def test_a_changed_sentence_takes_its_answers_with_it(
    client: RedisCluster, cluster: RedisClusterServers
) -> None:
    load_model(cluster, "models/reader")
    tag = tags(client)[1]
    about = ("changing", tag, 0, "Who carries the virus")
    client.hset(keys.sentence_key("changing", tag), "0", "Mostly children carry the virus.")
    assert "children" in client.get(keys.answer_key(*about))
    client.hset(keys.sentence_key("changing", tag), "0", "Mostly farmers carry the virus.")
    assert "farmers" in client.get(keys.answer_key(*about))
    client.hdel(keys.sentence_key("changing", tag), "0")
    with pytest.raises(Exception, match="there is no sentence"):
        client.get(keys.answer_key(*about))
