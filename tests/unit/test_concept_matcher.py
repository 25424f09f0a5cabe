"""Finding concepts in sentences: words, spellings, plurals, capitals, and the longest match."""

from __future__ import annotations

import re
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keymiss.corpus.concept_folding import folded, word_spans
from keymiss.corpus.concept_matcher import ConceptMatcher, Match
from keymiss.corpus.concept_table import Concept, ConceptTable


def matcher(*names: str) -> ConceptMatcher:
    """Of concepts C0, C1, ... each given as ``name|synonym|...``."""
    concepts = []
    for number, given_names in enumerate(names):
        name, *synonyms = given_names.split("|")
        concepts.append(Concept(f"C{number}", name, tuple(synonyms)))
    return ConceptMatcher(ConceptTable(concepts))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fever", "Fever."),
        ("fever", "(fever)"),
        ("fever", "FEVER, then"),
        ("fever", "the fever's end"),
        ("face-to-face", "talk face to face"),
        ("face to face", "talk face-to-face"),
        ("HIV/AIDS", "the HIV-AIDS pandemic"),
        ("SARS-CoV-2", "of SARS\u2010CoV\u20132 and"),
        ("SARS-CoV-2", "sars cov 2"),
        ("E. coli", "in E coli"),
        ("Crohn's disease", "Crohn\u2019s disease"),
        ("Gu\u00e9rin", "Bacillus Calmette-Guerin"),
        ("Guerin", "Gue\u0301rin"),
        ("oedema", "\u0153dema"),
        ("CO2", "CO\u2082"),
        ("interferon-gamma", "interferon-\u03b3"),
        ("TNF-\u03b1", "TNF alpha"),
        ("A(H1N1)pdm09", "the A(H1N1)pdm09 virus"),
        ("2,4-dinitrophenol", "2,4-dinitrophenol"),
        ("vi\u00adrus", "vi\u00adrus"),
        ("virus", "two viruses"),
        ("coronavirus", "coronaviruses"),
        ("bacillus", "bacilli"),
        ("diagnosis", "diagnoses"),
        ("bacterium", "bacteria"),
        ("epidemic", "epidemics"),
        ("antibody", "antibodies"),
        ("index", "indices"),
        ("swab", "swabs"),
        ("throat swab", "throat swabs"),
        ("day", "days"),
        ("mask", "masks"),
        ("PCR", "PCRs"),
        ("mRNA", "mRNAs"),
        ("mRNAs", "an mRNA"),
        ("viruses", "a virus"),
        ("antibodies", "an antibody"),
        ("diagnoses", "a diagnosis"),
        ("bacteria", "a bacterium"),
        ("face masks", "a face mask"),
        ("vaccines", "a vaccine"),
    ],
)
def test_is_found(name: str, text: str) -> None:
    assert matcher(name).ids(text) == ["C0"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fever", "feverish"),
        ("fever", "hayfever"),
        ("fever", "fever2"),
        ("fever cough", "fever, cough"),
        ("fever cough", "fever (cough)"),
        ("throat swab", "throat, swab"),
        ("SARS", "SAR"),
        ("MERS", "mer"),
        ("DNA", "dna1"),
        ("virus", ""),
        ("virus", " \t\n.,"),
        ("vitamin A", "vitamin as"),
    ],
)
def test_is_not_found(name: str, text: str) -> None:
    assert matcher(name).ids(text) == []
    assert matcher(name).find(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The WHO says so", ["C0"]),
        ("people who say so", []),
        ("Who said so?", []),
        ("WHO", ["C0"]),
        ("WHO IS AT RISK OF FEVER?", ["C2"]),
        ("AIDS and hearing aids", ["C1"]),
        ("The WHO and people who have AIDS", ["C0", "C1"]),
        ("an aid", []),
    ],
)
def test_a_short_form_that_is_also_a_word_is_found_in_capitals_only(text: str, found: list[str]) -> None:
    assert matcher("WHO", "AIDS", "fever").ids(text) == found


def test_other_short_forms_are_found_in_any_case() -> None:
    assert matcher("RSV").ids("what is rsv") == ["C0"]


def test_the_longest_match_counts_and_matches_do_not_overlap() -> None:
    found = matcher("RNA", "RNA virus", "virus receptor", "receptor")
    assert found.ids("RNA virus receptor") == ["C1", "C3"]
    assert found.ids("RNA, virus receptor RNA") == ["C0", "C2"]


def test_a_shorter_match_counts_when_a_longer_one_breaks_off() -> None:
    assert matcher("a1", "a1 b1 c1 d1", "b1 c1").ids("a1 b1 c1 a1") == ["C0", "C2"]


def test_a_name_as_it_is_written_beats_a_plural_that_was_made() -> None:
    assert matcher("mean", "means").ids("by these means") == ["C1"]
    assert matcher("means", "mean").ids("the mean") == ["C1"]


def test_ids_come_once_in_the_order_of_first_mention() -> None:
    assert matcher("fever", "cough|coughing").ids("Coughing, fever, cough, fever") == ["C1", "C0"]


def test_a_match_says_where_it_is() -> None:
    text = "  (A \u00e9tat:) face-to-face;  Vi\u0301ruses\u2026 \u00bd SARS\u2010CoV\u20102!"
    found = matcher("face to face", "virus", "SARS-CoV-2").find(text)
    assert [(match.concept_id, text[match.start : match.end]) for match in found] == [
        ("C0", "face-to-face"),
        ("C1", "Vi\u0301ruses"),
        ("C2", "SARS\u2010CoV\u20102"),
    ]


@given(st.text(max_size=60))
def test_words_and_their_places_agree_in_any_text(text: str) -> None:
    words = folded(text).split()
    spans = word_spans(text)
    assert len(spans) == len(words)
    assert spans == sorted(spans)
    assert len(folded(text)) == len(folded(text).casefold())
    for (start, end), word in zip(spans, words, strict=True):
        assert start < end
        assert word in folded(text[start:end]).split()


def naive(table: ConceptTable, text: str) -> list[Match]:
    """At every word the longest name that begins there, else the next word. Digits: no plurals are made."""
    names = [
        (name.split(), concept.id)
        for concept in table.concepts.values()
        for name in (concept.name, *concept.synonyms)
    ]
    words = [(match[0], match.start(), match.end()) for match in re.finditer(r"\w+|,", text)]
    spoken = [word for word, _, _ in words]
    found = []
    at = 0
    while at < len(words):
        fitting = [
            (len(name), concept_id)
            for name, concept_id in names
            if [word.lower() for word in name] == [word.lower() for word in spoken[at : at + len(name)]]
            and (name != ["WHO"] or (spoken[at] == "WHO" and re.search("[a-z]", text)))
        ]
        if fitting:
            length, concept_id = max(fitting)
            found.append(Match(concept_id, words[at][1], words[at + length - 1][2]))
            at += length
        else:
            at += 1
    return found


words = st.sampled_from(["a1", "b1", "c1", "A1"])
name_of_words = st.lists(words, min_size=1, max_size=4).map(" ".join)
texts = st.lists(st.sampled_from(["a1", "b1", "c1", "A1", "who", "WHO", "x", ","]), max_size=14).map(" ".join)


@settings(max_examples=500)
@given(st.lists(name_of_words, min_size=1, max_size=6, unique_by=str.lower), texts)
def test_finds_what_a_naive_matcher_finds(names: list[str], text: str) -> None:
    table = ConceptTable(Concept(f"C{n}", name, ()) for n, name in enumerate(["WHO", *names]))
    text += " and no more words"  # in small letters: a short text in capitals is another test
    found = ConceptMatcher(table)
    wanted = naive(table, text)
    assert found.find(text) == wanted
    assert found.ids(text) == list(dict.fromkeys(match.concept_id for match in wanted))


def test_threads_share_a_matcher() -> None:
    found = matcher(*(f"name{n} word|word name{n}" for n in range(200)))
    texts_of_all = [" x ".join(f"word name{n % 200}" for n in range(at, at + 20)) for at in range(300)]
    wanted = [[f"C{n % 200}" for n in range(at, at + 20)] for at in range(300)]
    results: dict[int, list[list[str]]] = {}
    threads = [
        threading.Thread(
            target=lambda at=at: results.update({at: [found.ids(text) for text in texts_of_all]})
        )
        for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[at] for at in range(8)] == [wanted] * 8
