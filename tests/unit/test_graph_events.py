"""Edge events, years and the graph's URL: what is read, and what is refused with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymiss.graph.events import EdgeEvent, carrier_of, chunks, last_of_each, member_of
from keymiss.graph.graph_url import BadGraphUrl, GraphUrl, graph_url
from keymiss.graph.years import BadYears, Years

FIELDS = {
    "op": "add",
    "source": "KC0001",
    "target": "KC0002",
    "sentence": "PMC1.xml:{6fd}:33",
    "score": "0.5",
    "year": "2020",
}

concept_ids = st.from_regex(r"[A-Za-z0-9.-]{1,64}", fullmatch=True)
articles = st.text(
    st.characters(exclude_characters="_{}\0", exclude_categories=["Cs"]), min_size=1, max_size=30
)
sentences = st.builds("{}:{{{}}}:{}".format, articles, st.sampled_from(["6fd", "1bz"]), st.integers(0, 10**6))
years = st.none() | st.integers(1, 9999)


@st.composite
def events(draw: st.DrawFn) -> EdgeEvent:
    source, target = sorted(draw(st.lists(concept_ids, min_size=2, max_size=2, unique=True)))
    return EdgeEvent(
        draw(st.sampled_from(["add", "del"])),
        source,
        target,
        draw(sentences),
        draw(st.floats(allow_nan=False, allow_infinity=False)),
        draw(years),
    )


@given(events())
def test_an_event_comes_back_from_its_fields(event: EdgeEvent) -> None:
    assert EdgeEvent.parse(event.to_fields()) == event


@given(sentences, years)
def test_a_carrier_comes_back_from_its_name(sentence: str, year: int | None) -> None:
    assert carrier_of(member_of(sentence, year)) == (sentence, year)


def test_an_entry_as_the_pipeline_writes_it() -> None:
    event = EdgeEvent("add", "KC0001", "KC0002", "PMC1.xml:{6fd}:33", 0.5, 2020)
    assert EdgeEvent.parse(FIELDS | {"more": "is ignored"}) == event
    assert EdgeEvent.parse(FIELDS | {"year": ""}).year is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("op", "move", "op must be add or del, not 'move'"),
        ("source", "", "source must be a concept id"),
        ("source", "a:b", "source must be a concept id"),
        ("target", "KC 2", "target must be a concept id"),
        ("target", "x" * 65, "target must be a concept id"),
        ("target", "KC0001", "source must sort before target"),
        ("target", "A", "source must sort before target"),
        ("sentence", "PMC1:33", "sentence must be"),
        ("sentence", "PMC1:{x}:", "sentence must be"),
        ("sentence", "PMC1:{x}:1 2", "sentence must be"),
        ("sentence", "PM\0C1:{x}:1", "sentence must be"),
        ("sentence", "PMC\udcff:{x}:1", "sentence must be text in UTF-8"),
        ("sentence", b"PMC\xff:{x}:1", "sentence must be text in UTF-8"),
        ("score", "much", "score must be a finite number"),
        ("score", "nan", "score must be a finite number"),
        ("score", "1e999", "score must be a finite number"),
        ("score", "1_0", "score must be a finite number"),
        ("year", "0", "year must be empty or 1 to 9999"),
        ("year", "12020", "year must be empty or 1 to 9999"),
        ("year", "twenty", "year must be empty or 1 to 9999"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EdgeEvent.parse(FIELDS | {field: value})


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"no field '{field}'"):
        EdgeEvent.parse({name: value for name, value in FIELDS.items() if name != field})


def test_the_last_event_of_a_carrier_decides() -> None:
    first, other = EdgeEvent.parse(FIELDS), EdgeEvent.parse(FIELDS | {"year": "2021"})
    last = EdgeEvent.parse(FIELDS | {"op": "del"})
    assert set(last_of_each([first, other, last])) == {other, last}


@given(st.lists(events(), max_size=10), st.integers(1, 4))
def test_chunks_lose_nothing(given_events: list[EdgeEvent], size: int) -> None:
    parts = list(chunks(given_events, size))
    assert [each for part in parts for each in part] == given_events
    assert all(0 < len(part) <= size for part in parts)


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("2020", ((2020, 2020),)),
        ("2019-2021,2023", ((2019, 2021), (2023, 2023))),
        (" 2023 , 2019 - 2021,,2023", ((2019, 2021), (2023, 2023))),
    ],
)
def test_years_are_read(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    assert Years.parse_text(text) == Years(ranges)


def test_no_years_are_no_filter() -> None:
    assert Years.parse_text("") is None
    assert Years.parse([]) is None


def test_years_hold_their_ranges() -> None:
    found = Years.parse([2023, "2019-2021"])
    assert found is not None
    assert [year for year in range(2015, 2030) if year in found] == [2019, 2020, 2021, 2023]
    assert None not in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "'soon' is neither a year"),
        ("2020-", "neither a year"),
        ("20200", "neither a year"),
        ("-5", "neither a year"),
        ("2021-2019", "goes from a year to a later one"),
        ("0", "within 1 to 9999"),
        (",".join(map(str, range(1900, 1940))), "at most 32"),
    ],
)
def test_wrong_years_are_named(text: str, words: str) -> None:
    with pytest.raises(BadYears, match=words):
        Years.parse_text(text)


def test_a_url_in_full() -> None:
    url = GraphUrl.parse("rediss://us%40er:p%3Aw@graph.example:7000/2?graph=my.graph")
    assert url == GraphUrl("graph.example", 7000, 2, "my.graph", True, "us@er", "p:w")
    assert "p:w" not in f"{url!r} {url.address}"


@pytest.mark.parametrize("scheme", ["redis", "falkor"])
def test_a_short_url(scheme: str) -> None:
    assert GraphUrl.parse(f"{scheme}://graph") == GraphUrl("graph", 6379, 0, "concepts")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://:secret@graph", "must begin with"),
        ("redis://", "names no host"),
        ("redis://:secret@", "names no host"),
        ("redis://:secret@graph:port", "cannot be read"),
        ("redis://:secret@graph:99999", "cannot be read"),
        ("redis://:secret@graph/zero", "number of the database"),
        ("redis://:secret@graph/0?database=1", "graph=<name> only"),
        ("redis://:secret@graph/0?graph=", "the graph's name"),
        ("redis://:secret@graph/0?graph=a%20b", "the graph's name"),
        ("redis://:secret@graph#1", "number of the database"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, words: str) -> None:
    with pytest.raises(BadGraphUrl, match=words) as refused:
        GraphUrl.parse(url)
    assert "secret" not in str(refused.value)
    assert "KEYMISS_GRAPH_URL" in str(refused.value)


def test_the_environment_chooses() -> None:
    assert graph_url({}) is None
    assert graph_url({"KEYMISS_GRAPH_URL": " "}) is None
    assert graph_url({"KEYMISS_GRAPH_URL": "falkor://graph"}) == GraphUrl("graph", 6379, 0, "concepts")
