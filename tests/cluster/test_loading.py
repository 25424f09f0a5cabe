"""Loading articles: what is written, that again writes nothing, what is done with bad files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.corpus import article_file
from keymiss.corpus.prose import split_sentences
from tests.cluster import pipeline
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, free_port

Load = Callable[..., subprocess.CompletedProcess[str]]


def article(paper_id: str, *paragraphs: str, **metadata: Any) -> dict[str, Any]:
    return {
        "paper_id": paper_id,
        "metadata": {"title": "A title", **metadata},
        "body_text": [{"section": "", "text": text} for text in paragraphs],
    }


def put(folder: Path, data: Any, name: str | None = None) -> Path:
    path = folder / (name or f"{data['paper_id']}.json")
    text = data if isinstance(data, str | bytes) else json.dumps(data)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture(scope="module")
def plain_cluster() -> Iterator[RedisClusterServers]:
    """Three masters without the module: loading needs nothing of it."""
    with RedisClusterServers(masters=3, module=False) as running:
        yield running


@pytest.fixture
def load(plain_cluster: RedisClusterServers, tmp_path: Path) -> Load:
    """Runs `python -m keymiss.cli load --no-process` on tmp_path, or on what it is given."""
    with plain_cluster.client() as client:
        client.flushall(target_nodes="primaries")

    def run(*paths: Path) -> subprocess.CompletedProcess[str]:
        nodes = plain_cluster.addresses
        given = map(str, paths or (tmp_path,))
        command = [sys.executable, "-m", "keymiss.cli", "load", "--no-process", *given, "--nodes", nodes]
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=patient(60))

    return run


def names(servers: RedisClusterServers) -> set[str]:
    """Every key of the cluster."""
    with servers.client(decode_responses=True) as client:
        return set(client.scan_iter(target_nodes=RedisCluster.PRIMARIES))


def test_an_article_becomes_two_keys(load: Load, plain_cluster: RedisClusterServers, tmp_path: Path) -> None:
    data = article("PMC1", "Adults cough. Dr. Smith et al. agree.", "Masks\nhelp.", year=2020, month=3)
    put(tmp_path, data, "PMC1.xml.json")  # as pmc_json has it
    done = load()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 articles, 0.00 MB: 1 written, 0 as before, 0 files skipped\n"
    with plain_cluster.client(decode_responses=True) as client:
        assert client.hgetall(keys.article_key("PMC1")) == {
            "title": "A title",
            "year": "2020",
            "month": "3",
            "source": "PMC1.xml.json",
            "url": "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC1/",
        }
        text = client.get(keys.paragraphs_key("PMC1"))
        assert text == "Adults cough. Dr. Smith et al. agree.\n\nMasks help."
    assert names(plain_cluster) == {"article:PMC1", "paragraphs:PMC1"}


def test_the_tag_is_the_one_of_the_slot_of_the_text(plain_cluster: RedisClusterServers) -> None:
    for name in [f"PMC{i}" for i in range(20)]:
        text, sentences = keys.paragraphs_key(name), keys.sentence_key(name, keys.article_tag(name))
        assert keys.slot_of(sentences) == keys.slot_of(text)
        assert plain_cluster.server_of(sentences) is plain_cluster.server_of(text)


def test_loading_again_writes_only_what_changed(
    load: Load, plain_cluster: RedisClusterServers, tmp_path: Path
) -> None:
    put(tmp_path, article("A1", "One is here. Two is here.", year=2020))
    put(tmp_path, article("A2", "Another one."))
    assert "2 articles, 0.00 MB: 2 written, 0 as before" in load().stdout
    assert "2 articles, 0.00 MB: 0 written, 2 as before" in load().stdout
    put(tmp_path, article("A1", "One is here. Two has changed.", year=2020))
    assert "1 written, 1 as before" in load().stdout
    put(tmp_path, article("A1", "One is here. Two has changed."))  # no year any more
    assert "1 written, 1 as before" in load().stdout
    with plain_cluster.client(decode_responses=True) as client:
        assert client.get(keys.paragraphs_key("A1")) == "One is here. Two has changed."
        assert client.hgetall(keys.article_key("A1")) == {"title": "A title", "source": "A1.json"}


def test_files_and_folders_and_their_subfolders(
    load: Load, plain_cluster: RedisClusterServers, tmp_path: Path
) -> None:
    below = tmp_path / "folder" / "below"
    below.mkdir(parents=True)
    one = put(tmp_path, article("A1", "One."))
    put(below, article("A2", "Two."))
    (below / "notes.txt").write_text("not an article")
    done = load(one, tmp_path / "folder")
    assert done.returncode == 0, done.stderr
    assert {key for key in names(plain_cluster) if key.startswith("paragraphs:")} == {
        "paragraphs:A1",
        "paragraphs:A2",
    }


BAD: dict[str, str | bytes] = {
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
    "no-paragraph.json": json.dumps(article("x")),
    "long-paragraph.json": json.dumps(article("x", "Five megabytes. " * (5_000_000 // 16))),
    "title-list.json": json.dumps(article("x", "Text.", title=[])),
    "year-list.json": json.dumps(article("x", "Text.", year=[2020])),
    "year-text.json": json.dumps(article("x", "Text.", year="last")),
    "year-long.json": json.dumps(article("x", "Text.", year=20200)),
    "journal-number.json": json.dumps(article("x", "Text.", journal=5)),
    "url-of-a-file.json": json.dumps(article("x", "Text.", url="file:///etc/passwd")),
    "id-ending.json": json.dumps(article(".xml", "Text.")),
    "abstract-number.json": json.dumps({**article("x", "Text."), "abstract": 5}),
    "abstract-of-numbers.json": json.dumps({**article("x", "Text."), "abstract": [{"text": 5}]}),
    "not-utf8.json": b'{"paper_id": "\xff"}',
    "empty.json": "",
    "deep.json": "[" * 100_000,
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_file_has_a_reason(name: str, tmp_path: Path) -> None:
    with pytest.raises(article_file.BadArticle) as error:
        article_file.read_article(put(tmp_path, BAD[name], name))
    assert 3 < len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("not-json.json", "not JSON: "),
        ("not-utf8.json", "not UTF-8"),
        ("no-paragraph.json", "body_text has no sentence"),
        ("long-paragraph.json", r"body_text\[0\].text has 5000000 characters; the limit of one paragraph"),
        ("id-surrogate.json", "paper_id is not valid Unicode"),
        ("year-text.json", "metadata.year is not a number"),
        ("deep.json", "nested too deeply"),
    ],
)
def test_the_reason_says_what_to_do(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(article_file.BadArticle, match=says):
        article_file.read_article(put(tmp_path, BAD[name], name))


def test_a_file_that_is_too_large_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, article("x", "Text."))
    monkeypatch.setattr(article_file, "MAX_FILE_BYTES", 2)
    with pytest.raises(article_file.BadArticle, match="limit is 2"):
        article_file.read_article(path)
    with pytest.raises(article_file.BadArticle, match="No such file"):
        article_file.read_article(tmp_path / "nowhere.json")


def test_every_bad_file_is_named_and_nothing_of_it_is_written(
    load: Load, plain_cluster: RedisClusterServers, tmp_path: Path
) -> None:
    for name, data in BAD.items():
        put(tmp_path, data, name)
    put(tmp_path, article("GOOD", "This one is fine."))
    done = load()
    assert done.returncode == 1
    for name in BAD:
        assert f"skipped {tmp_path / name}: " in done.stderr
    assert len(done.stderr.splitlines()) == len(BAD)
    assert "Traceback" not in done.stderr
    assert f"1 articles, 0.00 MB: 1 written, 0 as before, {len(BAD)} files skipped" in done.stdout
    assert names(plain_cluster) == {"article:GOOD", "paragraphs:GOOD"}


def test_an_article_that_is_refused_stays_as_it_was(
    load: Load, plain_cluster: RedisClusterServers, tmp_path: Path
) -> None:
    put(tmp_path, article("A1", "One is here."))
    load()
    put(tmp_path, article("A1", "x" * (article_file.MAX_PARAGRAPH_CHARS + 1), year=2020))
    assert load().returncode == 1
    with plain_cluster.client(decode_responses=True) as client:
        assert client.get(keys.paragraphs_key("A1")) == "One is here."
        assert "year" not in client.hgetall(keys.article_key("A1"))


def test_two_files_of_one_article(load: Load, plain_cluster: RedisClusterServers, tmp_path: Path) -> None:
    put(tmp_path, article("A1", "The first one."), "1.json")
    put(tmp_path, article("A1", "The second one."), "2.json")
    done = load()
    assert done.returncode == 1
    assert f"skipped {tmp_path / '2.json'}: article A1 was in {tmp_path / '1.json'} already" in done.stderr
    with plain_cluster.client(decode_responses=True) as client:
        assert client.get(keys.paragraphs_key("A1")) == "The first one."


def test_what_was_repaired_is_named(load: Load, plain_cluster: RedisClusterServers, tmp_path: Path) -> None:
    path = put(tmp_path, article("A1", "A\0b\tc\u2028d\x9fe. \ud800 Next\none.", "\0", "Last."))
    done = load()
    assert done.returncode == 0
    assert f"{path}: 4 control characters made blanks" in done.stderr
    assert f"{path}: 1 characters that are not valid Unicode replaced" in done.stderr
    with plain_cluster.client(decode_responses=True) as client:
        assert client.get(keys.paragraphs_key("A1")) == "A b c d e. ? Next one.\n\nLast."


def test_a_mark_at_the_beginning_of_a_file_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(article("x", "Text.")).encode())
    assert article_file.read_article(path).paragraphs == ["Text."]


def test_wrong_use_is_exit_code_2(load: Load, tmp_path: Path) -> None:
    assert load(tmp_path / "nowhere").returncode == 2
    assert load(tmp_path).returncode == 2


def test_without_a_cluster_it_says_so(tmp_path: Path) -> None:
    put(tmp_path, article("A1", "Text."))
    command = [
        sys.executable,
        "-m",
        "keymiss.cli",
        "load",
        str(tmp_path),
        "--nodes",
        f"127.0.0.1:{free_port()}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=patient(60))
    assert done.returncode == 1
    assert "keymiss up" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_functions_it_says_what_is_missing(tmp_path: Path) -> None:
    put(tmp_path, article("A1", "Text."))
    with RedisClusterServers(masters=1) as servers:
        done = pipeline.cli(servers, "load", tmp_path)
    assert done.returncode == 1
    assert "1 articles were not split, A1 for one: are the functions registered" in done.stderr


def test_load_waits_until_all_is_processed_and_names_what_was_left_out(tmp_path: Path) -> None:
    german = (
        "Die Grippe ist eine Krankheit der Atemwege, die sich im Winter rasch verbreitet und Fieber macht."
    )
    english = "Influenza is an illness of the airways. It spreads quickly in the winter months of the year."
    put(tmp_path, article("GERMAN", german))
    put(tmp_path, article("MIXED", english * 2, german))
    put(tmp_path, article("ENGLISH", english))
    with pipeline.running() as (servers, _, client):
        pipeline.store_table(client)
        done = pipeline.cli(servers, "load", tmp_path)
        assert done.returncode == 1
        assert "skipped article GERMAN: the language is de, not en" in done.stderr
        assert "article MIXED: paragraphs left out by language: de:1" in done.stderr
        assert "of them processed now, in" in done.stdout
        assert len(pipeline.sentences_of(client, "ENGLISH")) == 2
        assert client.exists(keys.tokenized_key("ENGLISH", keys.article_tag("ENGLISH"), 1))
        (tmp_path / "GERMAN.json").unlink()
        assert pipeline.cli(servers, "load", tmp_path).returncode == 0


def test_the_sample_corpus_is_good() -> None:
    paths = sorted((REPO / "data" / "sample").glob("KM*.json"))
    articles = [article_file.read_article(path) for path in paths]
    assert len({article.name for article in articles}) == len(paths) >= 24
    assert sum(len(split_sentences(article.paragraphs)) for article in articles) >= 600
    assert not any(article.notes for article in articles)
