"""Store the QA model on every master of the cluster, as bert-qa{tag}, in the place of the one there. Of a
split reader it is the upper half; the lower one is stored with it, as bert-qa-lower{tag}.

    keymiss models load --model models/reader --nodes 127.0.0.1:30001
    keymiss models load --model models/reader --form onnx-int8
    keymiss models load --model var/models/reader.onnx

A folder or a hub name is exported first if that was not done. Before anything is stored the file is loaded
and run here as the worker will, and every master is asked; on any fault nothing is stored. Shards that
already hold just this model are skipped.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import redis
import typer
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from keymiss import keys
from keymiss.cluster.redis_cluster import node_of, shards_of
from keymiss.environment import BadSetting
from keymiss.local.cluster_access import NoClusterError
from keymiss.local.cluster_access import connect as connect_cluster
from keymiss.local.redis_users import credentials_for
from keymiss.models.command_line import choice, said_in_one_line
from keymiss.models.export import Exported, note_that_it_runs, tokens_of
from keymiss.models.export_reader import DEFAULTS, exports
from keymiss.models.forms import FORMS, ExportError, quiet
from keymiss.models.halves_model import HalvesModel
from keymiss.models.upload import ONE_COMMAND_BYTES, UploadError, send_parts
from keymiss.reading import tokenizers
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.backends.table import backend_table
from keymiss.reading.reader import MAX_SEQUENCE_TOKENS, About, Reader
from keymiss.reading.tensors import Tensor, TensorError
from keymiss.settings import Settings
from keymiss.typer_app import Nodes, exit_code, typer_app

STORE_TIMEOUT_S = 300.0  # a full-size model is 1.3 GB
REPLICAS_TIMEOUT_MS = 60_000  # without the replicas it is stored all the same
ASK_TIMEOUT_S = 5.0  # for a master that is asked whether it is there
BACKENDS = {".pt": "TORCH", ".onnx": "ONNX"}  # by the end of the file's name
app = typer_app()


class LoadError(RuntimeError):
    """A model that cannot be loaded into the cluster; the text says why."""


@dataclass(frozen=True)
class Checked:
    """A file that was loaded and run: `blob` is just what was checked."""

    path: Path
    backend: str
    blob: bytes
    sha256: str


Pair = tuple[Checked, Checked | None]
"""A reader; of a split one the upper half, and the lower."""


@dataclass(frozen=True)
class Stored:
    """What was done on one master: `key` on `node` (host:port), `new` if it was stored now."""

    node: str
    key: str
    new: bool


def check_file(path: Path, check: Callable[[Path, Model], None] | None = None) -> Checked:
    """Load a model's file as the worker will, and run it; LoadError if anything does not fit.

    `check` raises LoadError, ModelError, TensorError or TextError; without it the model must be a reader.
    """
    name = BACKENDS.get(path.suffix)
    if name is None:
        raise LoadError(f"{path} is neither TorchScript (.pt) nor ONNX (.onnx) by its name")
    backend = backend_table("torch").get(name)
    if backend is None:
        raise LoadError(
            f"{path} cannot be checked: there is no backend {name} here (is onnxruntime installed?)"
        )
    try:
        blob = path.read_bytes()
        with quiet():
            (check or _check)(path, backend.load(blob))
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ModelError, TensorError, tokenizers.TextError) as error:
        raise LoadError(f"{path}: {error}") from error
    return Checked(path, name, blob, hashlib.sha256(blob).hexdigest())


def checked_export(made: Exported, check: Callable[[Path, Model], None] | None = None) -> Checked:
    """`check_file` of an export; that it was done is noted beside it, and it is not done again."""
    if known := _known_to_run(made):
        return known
    checked = check_file(Path(made.path), check)
    note_that_it_runs(made)
    return checked


def _known_to_run(made: Exported) -> Checked | None:
    if not made.runs:
        return None
    path = Path(made.path)
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    sha256 = hashlib.sha256(blob).hexdigest()
    return Checked(path, made.backend, blob, sha256) if sha256 == made.sha256 else None


def _check(path: Path, model: Model) -> None:
    about = _about(path, model)
    if about.half:
        raise LoadError(f"{path} is the {about.half.name} half of a split reader: load the reader's folder")
    longest = min(about.max_tokens, MAX_SEQUENCE_TOKENS)
    for batch, seq in ((1, 8), (3, 33), (2, longest)):
        _run(model, about, batch, seq)
    _check_answer(path, model, about)


def _about(path: Path, model: Model) -> About:
    about = model.about
    if about is None:
        raise LoadError(
            f"{path} says nothing of its tokenizer: make it with keymiss models export --model <folder>"
        )
    tokens = tokens_of(tokenizers.tokenizer_from(about.tokenizer, about.model))
    if tokens > about.vocab_size:
        raise LoadError(f"{path}: the tokenizer has {tokens} tokens, the model {about.vocab_size}")
    return about


def _check_answer(path: Path, model: Model, about: About) -> None:
    reader = Reader.of(about)
    sentence = reader.sentence("The river Main flows through Frankfurt before it reaches the Rhine at Mainz.")
    inputs = reader.inputs("Which river flows through Frankfurt?", sentence)
    arrays = (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids)
    outputs = [output.array for output in model.run([Tensor(array) for array in arrays])]
    try:
        reader.answer(sentence, inputs, *outputs)
    except ValueError as error:
        raise LoadError(f"{path}: no answer can be read from its logits: {error}") from error


def check_halves(lower_path: Path, upper_path: Path) -> Pair:
    """Load and run both halves of a split reader; LoadError as `check_file`, and if they do not fit."""
    halves: list[Model] = []

    def check(path: Path, model: Model) -> None:
        _about(path, model)
        halves.append(model)

    lower, upper = check_file(lower_path, check), check_file(upper_path, check)
    try:
        model = HalvesModel(*halves)
        _check_answer(upper_path, model, _about(upper_path, model))
    except (ModelError, ValueError) as error:
        raise LoadError(f"{lower_path} and {upper_path}: {error}") from error
    return upper, lower


def _run(model: Model, about: About, batch: int, seq: int) -> None:
    """The highest token the model says it knows, in rows of which all but the first end in padding."""
    ids = np.full((batch, seq), about.vocab_size - 1, np.int64)
    mask, types = np.ones_like(ids), np.zeros_like(ids)
    mask[1:, seq // 2 :] = 0
    types[:, seq // 3 :] = 1
    outputs = model.run([Tensor(ids * mask), Tensor(mask), Tensor(types * mask)])
    if len(outputs) != 2:
        raise ModelError(f"the model does not give two outputs, start and end logits, but {len(outputs)}")
    for name, logits in zip(("start", "end"), outputs, strict=True):
        if logits.type_name != "FLOAT":
            raise ModelError(f"the model's {name} logits are {logits.type_name}, not FLOAT")
        if logits.dims != (batch, seq):
            raise ModelError(f"the model's {name} logits are {logits.dims} for inputs {(batch, seq)}")
        if not np.isfinite(logits.array).all():
            raise ModelError(f"the model's {name} logits are not finite numbers")


def connect(nodes: str) -> RedisCluster:
    """A client of the cluster that any of `nodes` ("host:port,...") belongs to; LoadError if none answers."""
    try:
        return connect_cluster(nodes, decode_responses=True, socket_timeout=STORE_TIMEOUT_S)
    except NoClusterError as error:
        raise LoadError(str(error)) from error


def check_masters(client: RedisCluster) -> None:
    """LoadError, naming the master, if one does not answer or has no module."""
    for shard in shards_of(client):
        try:
            with redis.Redis(
                *shard.master,
                socket_timeout=ASK_TIMEOUT_S,
                socket_connect_timeout=ASK_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                **credentials_for([shard.master]).client_options,
            ) as one:
                one.execute_command("KM.MODELINFO", keys.READER)
        except redis.RedisError as error:
            raise LoadError(
                f"master {shard.address} cannot take a model, none was stored: {error}"
            ) from error


def model_info(client: RedisCluster, key: str) -> dict[str, Any] | None:
    """KM.MODELINFO as a dictionary, None where there is no such model."""
    flat = client.execute_command("KM.MODELINFO", key, target_nodes=client.get_node_from_key(key))
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else None


Models = Mapping[Callable[[str], str], Checked | None]
"""Models by their key_of(tag); None: there is to be none."""


def store(client: RedisCluster, models: Models) -> Iterator[Stored]:
    """Store each model on every master, at its key_of(tag), and remove what is to be None: all of a master at
    once, if anything there is another. Yields as each is done."""
    check_masters(client)
    for shard in shards_of(client):
        wanted = {key_of(shard.tag): model for key_of, model in models.items()}
        there = {key: model_info(client, key) for key in wanted}
        new = not all(_is(there[key], model) for key, model in wanted.items())
        if new:
            _store_at_once(
                client, node_of(client, shard), wanted, [key for key, info in there.items() if info]
            )
            for key, model in wanted.items():
                if model:
                    stored = model_info(client, key)
                    if stored is None:
                        raise LoadError(f"{key} on {shard.address} is gone right after it was stored")
                    digest = ("KM.MODELDIGEST", key, stored["version"], model.sha256)
                    client.execute_command(*digest, target_nodes=node_of(client, shard))
            _wait_for_replicas(client, node_of(client, shard))
        for key, model in wanted.items():
            if model:
                yield Stored(shard.address, key, new)


def _is(info: dict[str, Any] | None, model: Checked | None) -> bool:
    if info is None or model is None:
        return info is None and model is None
    wanted = {"sha256": model.sha256, "tag": model.sha256[:12], "backend": model.backend}
    return all(info[name] == value for name, value in wanted.items())


def _store_at_once(
    client: RedisCluster, node: ClusterNode, wanted: Mapping[str, Checked | None], there: Sequence[str]
) -> None:
    """A question never finds one half of one reader and the other half of another."""
    commands: list[list[Any]] = []
    for key, model in wanted.items():
        if model:
            settings = [key, model.backend, "CPU", "TAG", model.sha256[:12]]
            if len(model.blob) > ONE_COMMAND_BYTES:
                parts = send_parts(client, key, model.blob, lambda: _wait_for_replicas(client, node))
                commands.append(["KM.MODELPUT", parts, *settings])
            else:
                commands.append(["AI.MODELSTORE", *settings, "BLOB", model.blob])
        elif key in there:
            commands.append(["AI.MODELDEL", key])
    if len(commands) == 1:
        client.execute_command(*commands[0])
        return
    with client.pipeline(transaction=True) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        pipe.execute()


def _wait_for_replicas(client: RedisCluster, node: ClusterNode) -> None:
    """Until the master's replicas have what was written: a failover before that would lose it, and a master
    that is busy with a large model on a slow disk can be taken for dead. RedisError after a failover."""
    replicas = client.info("replication", target_nodes=node)["connected_slaves"]
    client.execute_command("WAIT", replicas, REPLICAS_TIMEOUT_MS, target_nodes=node)


def checked_reader(model: str, form: str | None) -> Pair:
    """The exported file that `model` is, or what is exported of it. ExportError, LoadError if that cannot
    be."""
    path = Path(model)
    if path.is_file() or (path.suffix in BACKENDS and tokenizers.model_folder(model) is None):
        return check_file(path), None
    made = exports(model, form)
    if len(made) == 1:
        return checked_export(made[0]), None
    lower, upper = map(_known_to_run, made)
    if lower and upper:
        return upper, lower
    pair = check_halves(*(Path(one.path) for one in made))
    for one in made:
        note_that_it_runs(one)
    return pair


@app.command()
def load(
    model: Annotated[
        str,
        typer.Option(
            help="local folder, hub name or exported file; default: KEYMISS_MODEL or models/reader",
            show_default=False,
        ),
    ] = "",
    form: Annotated[str | None, choice(FORMS, f"default: {DEFAULTS}")] = None,
    nodes: Nodes = "",
) -> None:
    """Store the reader on every master of the cluster, in the place of the one there."""
    if form and Path(model).is_file():
        raise typer.BadParameter("--form is for a folder or a hub name")
    with said_in_one_line("load", BadSetting):
        settings = Settings.from_env()

    def checked() -> Models:
        reader, lower = checked_reader(model or settings.model, form or settings.chosen_form)
        return {keys.model_key: reader, keys.lower_model_key: lower}

    store_everywhere("load", checked, nodes or settings.nodes)


def store_everywhere(name: str, checked: Callable[[], Models], nodes: str) -> None:
    """What `checked` makes, on every master; ends with 1 if that cannot be."""
    began_s, masters = time.monotonic(), set()
    try:
        models = checked()
        with connect(nodes) as client:
            for one in store(client, models):
                print(f"{one.node} {one.key}: {'stored' if one.new else 'already there'}", flush=True)
                masters.add(one.node)
    except (ExportError, LoadError, UploadError, redis.RedisError, RedisClusterException) as error:
        before = f" ({len(masters)} masters hold the new model; run this again)" if masters else ""
        print(f"keymiss models {name}: {error}{before}", file=sys.stderr)
        raise typer.Exit(1) from None
    held = " and ".join(
        f"{model.sha256[:12]} ({model.backend}, {len(model.blob) / 1e6:.1f} MB)"
        for model in models.values()
        if model
    )
    print(f"{len(masters)} masters hold {held}, {time.monotonic() - began_s:.1f} s")


def main(arguments: list[str] | None = None) -> int:
    """The command line's exit code."""
    return exit_code(app, "keymiss models load", arguments)


if __name__ == "__main__":
    sys.exit(main())
