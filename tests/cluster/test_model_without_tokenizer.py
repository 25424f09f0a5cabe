"""A model's file without a tokenizer is read with that of KEYMISS_MODEL; if it does not fit, it is said."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import redis
import torch

from tests.servers import REPO, RedisServer, WorkerProcess

SENTENCE = "Among adults, viral transmission is performed mainly by young parents of school children."
TAG = "{06S}"
ASKED = f"bertqa{TAG}_PMC1.xml:{TAG}:0_Who performs viral transmission among adults"
KNOWN_TOKENS = 30522  # of BERT's uncased vocabulary


class Points(torch.nn.Module):
    """Finds the first token of the text; of a vocabulary of `tokens`. A reader gives two `outputs`."""

    def __init__(self, tokens: int, outputs: int) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(tokens, 1)
        self.outputs = outputs

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = (types - torch.cumsum(types, 1)) * mask + 0 * self.words(ids)[:, :, 0]
        return (logits,) * self.outputs


def blob_of(tokens: int, outputs: int = 2) -> bytes:
    file = io.BytesIO()
    example = tuple(torch.ones(1, 2, dtype=torch.int64) for _ in range(3))
    torch.jit.save(torch.jit.trace(Points(tokens, outputs), example), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[redis.Redis, WorkerProcess]]:
    """One shard with the project's function, a sentence and a worker."""
    with RedisServer() as server, WorkerProcess(server) as worker, server.client() as client:
        assert client.execute_command("RG.PYEXECUTE", (REPO / "gears" / "qa.py").read_text()) == b"OK"
        client.hset(f"sentence:PMC1.xml:{TAG}", "0", SENTENCE)
        yield client, worker


def set_model(client: redis.Redis, blob: bytes) -> None:
    script = "GB('ShardsIDReader').map(lambda x: hashtag()).run()"
    (tag,) = client.execute_command("RG.PYEXECUTE", script)[0]
    with client.pipeline(transaction=True) as pipe:  # where nobody looks into it first
        name = f"bert-qa{{{tag.decode()}}}"
        pipe.execute_command("AI.MODELSTORE", name, "TORCH", "CPU", "BLOB", blob).execute()


pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def test_it_is_read_with_the_tokenizer_of_the_setting(running: tuple[redis.Redis, WorkerProcess]) -> None:
    client, worker = running
    set_model(client, blob_of(KNOWN_TOKENS))
    assert client.get(ASKED) == b"Among"
    assert '"has_tokenizer": false' in worker.log_text()
    client.delete(ASKED)


@pytest.mark.parametrize(
    ("tokens", "outputs", "reason"),
    [(1000, 2, "index out of range"), (KNOWN_TOKENS, 1, "the model has 1 outputs")],
    ids=["another-vocabulary", "one-output"],
)
def test_one_that_does_not_fit_is_an_error_that_says_what_to_do(
    running: tuple[redis.Redis, WorkerProcess], tokens: int, outputs: int, reason: str
) -> None:
    client, _ = running
    set_model(client, blob_of(tokens, outputs))
    with pytest.raises(redis.exceptions.ResponseError) as caught:
        client.get(ASKED)
    said = str(caught.value)
    assert said.startswith("FAILED ")
    assert reason in said
    assert "has no tokenizer" in said
    assert "start the worker with KEYMISS_MODEL=" in said
    assert "keymiss models load" in said


def test_what_is_no_model_says_only_that(running: tuple[redis.Redis, WorkerProcess]) -> None:
    client, _ = running
    set_model(client, b"no model")
    with pytest.raises(redis.exceptions.ResponseError, match="not a TorchScript model") as caught:
        client.get(ASKED)
    assert "tokenizer" not in str(caught.value)
