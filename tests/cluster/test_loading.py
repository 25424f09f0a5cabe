"""Loading articles: what is written, that it is idempotent, and that bad files are named and skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymiss import keys, loading
from tests.servers import REPO, RedisClusterServers


def article(paper_id: str, *paragraphs: str, **metadata: Any) -> dict[str, Any]:
    return {
        "paper_id": paper_id,
        "metadata": {"title": "A title", **metadata},
        "body_text": [{"section": "", "text": text} for text in paragraphs],
    }


def put(folder: Path, data: Any, name: str | None = None) -> Path:
    path = folder / (name or f"{data['paper_id']}.json")
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.fixture(scope="module")
def plain_cluster() -> Iterator[RedisClusterServers]:
    """Three masters without the module: loading needs nothing of it."""
    with RedisClusterServers(masters=3, module=False) as running:
        yield running


@pytest.fixture
def load(plain_cluster: RedisClusterServers, tmp_path: Path) -> Iterator[Any]:
    """Runs `python -m keymiss.cli load` on tmp_path."""
    with plain_cluster.client() as client:
        client.flushall(target_nodes="primaries")

    def run(folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        nodes = plain_cluster.addresses
        command = [sys.executable, "-m", "keymiss.cli", "load", str(folder), "--nodes", nodes]
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    return run


def test_an_article_becomes_two_hashes_on_its_shard(
    load: Any, plain_cluster: RedisClusterServers, tmp_path: Path
) -> None:
    data = article("PMC1", "Adults cough. Dr. Smith et al. agree.", "Masks\nhelp.", year=2020, month=3)
    put(tmp_path, data, "PMC1.xml.json")
    done = load()
    assert done.returncode == 0, done.stderr
    assert "1 articles, 3 sentences: 3 written" in done.stdout
    with plain_cluster.client(decode_responses=True) as client:
        assert client.hgetall("article:PMC1.xml") == {
            "title": "A title",
            "year": "2020",
            "month": "3",
            "source": "PMC1.xml.json",
        }
        tag = loading.ShardTags(client).tag_of("PMC1.xml")
        assert client.hgetall(keys.sentence_key("PMC1.xml", tag)) == {
            "0": "Adults cough.",
            "1": "Dr. Smith et al. agree.",
            "2": "Masks help.",
        }
        owner = plain_cluster.server_of("PMC1.xml")
        assert plain_cluster.server_of(keys.sentence_key("PMC1.xml", tag)) is owner


def test_the_tag_is_the_one_of_the_owners_lowest_slot(plain_cluster: RedisClusterServers) -> None:
    with plain_cluster.client() as client:
        tags = loading.ShardTags(client)
        names = [f"PMC{i}" for i in range(200)]
        found = {plain_cluster.masters.index(plain_cluster.server_of(n)): tags.tag_of(n) for n in names[:30]}
        lowest = [keys.tag_for_slot(round(i * 16384 / 3)) for i in range(3)]
        assert {i: lowest[i] for i in found} == found
        assert {tags.tag_of(n) for n in names} == set(lowest)


def test_loading_again_writes_only_what_changed(
    load: Any, plain_cluster: RedisClusterServers, tmp_path: Path
) -> None:
    put(tmp_path, article("A1", "One is here. Two is here. Three is here."))
    load()
    assert "0 written, 0 removed" in load().stdout
    put(tmp_path, article("A1", "One is here. Two has changed."))
    assert "2 sentences: 1 written, 1 removed" in load().stdout
    with plain_cluster.client(decode_responses=True) as client:
        tag = loading.ShardTags(client).tag_of("A1")
        assert client.hgetall(keys.sentence_key("A1", tag)) == {"0": "One is here.", "1": "Two has changed."}


BAD = {
    "not-json.json": "{",
    "a-list.json": "[]",
    "no-id.json": json.dumps({"metadata": {}, "body_text": []}),
    "id-number.json": json.dumps({**article("x", "Text."), "paper_id": 5}),
    "id-empty.json": json.dumps(article("", "Text.")),
    "id-underscore.json": json.dumps(article("a_b", "Text.")),
    "id-brace.json": json.dumps(article("a{b}", "Text.")),
    "id-control.json": json.dumps(article("a\u0000b", "Text.")),
    "id-blank.json": json.dumps(article("a b", "Text.")),
    "id-surrogate.json": '{"paper_id": "\\ud800", "metadata": {}, "body_text": [{"text": "Text."}]}',
    "id-long.json": json.dumps(article("x" * 5000, "Text.")),
    "no-metadata.json": json.dumps({"paper_id": "x", "body_text": [{"text": "Text."}]}),
    "body-text-is-text.json": json.dumps({**article("x"), "body_text": "Text."}),
    "body-of-texts.json": json.dumps({**article("x"), "body_text": ["Text."]}),
    "paragraph-number.json": json.dumps({**article("x"), "body_text": [{"text": 5}]}),
    "no-sentence.json": json.dumps(article("x", "...", "")),
    "title-list.json": json.dumps(article("x", "Text.", title=[])),
    "year-list.json": json.dumps(article("x", "Text.", year=[2020])),
    "deep.json": "[" * 100_000,
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_file_has_a_reason(name: str, tmp_path: Path) -> None:
    with pytest.raises(loading.BadArticle) as error:
        loading.read_article(put(tmp_path, BAD[name], name))
    assert 3 < len(str(error.value)) < 500


def test_files_that_are_not_text_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(loading.BadArticle, match="UTF-8"):
        loading.read_article(path)
    monkeypatch.setattr(loading, "MAX_FILE_BYTES", 2)
    with pytest.raises(loading.BadArticle, match="limit is 2"):
        loading.read_article(path)


def test_a_bad_file_is_named_and_the_rest_goes_in(
    load: Any, plain_cluster: RedisClusterServers, tmp_path: Path
) -> None:
    put(tmp_path, BAD["not-json.json"], "broken.json")
    put(tmp_path, article("GOOD", "This one is fine."))
    done = load()
    assert done.returncode == 1
    assert "broken.json: not JSON" in done.stderr
    assert "Traceback" not in done.stderr
    with plain_cluster.client() as client:
        assert client.exists("article:GOOD") == 1


def test_wrong_use_is_exit_code_2(load: Any, tmp_path: Path) -> None:
    assert load(tmp_path / "nowhere").returncode == 2
    assert load(tmp_path).returncode == 2


def test_control_characters_do_not_reach_a_sentence(tmp_path: Path) -> None:
    path = put(tmp_path, article("x", "A\u0000b\tc\u2028d\u009fe. \ud800 Next one."))
    read = loading.read_article(path)
    assert not any(loading.CONTROL.search(sentence) for sentence in read.sentences)
    for sentence in read.sentences:
        sentence.encode()


@given(st.text(alphabet="ab ", min_size=1, max_size=300), st.integers(1, 40))
def test_cut_keeps_every_letter_within_the_limit(text: str, limit: int) -> None:
    pieces = loading.cut(loading.clean(text), limit)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert all(0 < len(piece) <= limit for piece in pieces)


def test_the_sample_corpus_is_good() -> None:
    paths = sorted((REPO / "data" / "sample").glob("KM*.json"))
    articles = [loading.read_article(path) for path in paths]
    assert len({a.name for a in articles}) == len(paths) >= 24
    assert sum(len(a.sentences) for a in articles) >= 600
