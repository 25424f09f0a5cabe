"""The concept table that ships with the sample corpus: whole, of its own ids, and about that corpus."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from keymiss.corpus.concept_folding import other_numbers
from keymiss.corpus.concept_matcher import ConceptMatcher
from keymiss.corpus.concept_table import ConceptTable, read_table

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def table() -> ConceptTable:
    table, report = read_table(SAMPLE / "concepts.csv")
    assert report.faults == []
    return table


@pytest.fixture(scope="module")
def matcher(table: ConceptTable) -> ConceptMatcher:
    return ConceptMatcher(table)


def test_has_at_least_300_concepts_numbered_without_a_gap(table: ConceptTable) -> None:
    assert len(table) >= 300
    assert list(table.concepts) == [f"KC{number:04d}" for number in range(1, len(table) + 1)]


def test_ids_stay_with_their_concepts(table: ConceptTable) -> None:
    """Graphs and links hold these ids: a new concept gets a new number at the end."""
    kept = {
        "KC0001": "SARS-CoV-2",
        "KC0004": "coronavirus",
        "KC0028": "respiratory syncytial virus",
        "KC0100": "hepatitis",
        "KC0200": "confidence interval",
        "KC0300": "oseltamivir",
        "KC0400": "DBT cell",
        "KC0500": "receptor binding domain",
        "KC0595": "mass gathering",
    }
    assert {concept_id: table.concepts[concept_id].name for concept_id in kept} == kept


def test_the_file_is_in_canonical_form(table: ConceptTable) -> None:
    assert (SAMPLE / "concepts.csv").read_text(encoding="utf-8") == table.csv_text


def test_every_name_finds_its_own_concept(table: ConceptTable, matcher: ConceptMatcher) -> None:
    for concept in table.concepts.values():
        for name in (concept.name, *concept.synonyms):
            assert matcher.ids(name) == [concept.id], name


def test_no_plural_belongs_to_two_concepts(table: ConceptTable) -> None:
    owners: dict[str, set[str]] = {}
    for concept in table.concepts.values():
        for name in (concept.name, *concept.synonyms):
            for form in other_numbers(name):
                owners.setdefault(form, set()).add(concept.id)
    assert {form: ids for form, ids in owners.items() if len(ids) > 1} == {}


def test_the_sample_corpus_mentions_most_of_what_it_is_about(matcher: ConceptMatcher) -> None:
    mentions: Counter[str] = Counter()
    sentences = 0
    for path in SAMPLE.glob("KM*.json"):
        for paragraph in json.loads(path.read_text(encoding="utf-8"))["body_text"]:
            for sentence in re.split(r"(?<=[.?!])\s+", paragraph["text"]):
                mentions.update(matcher.ids(sentence))
                sentences += 1
    assert len(mentions) >= 300
    assert sentences <= mentions.total() <= 4 * sentences  # neither blind nor a concept for every word
